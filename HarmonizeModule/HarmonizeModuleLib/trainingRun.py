"""A training on its way: `harmonize train` in a process of its own, which can be stopped and continues."""

from __future__ import annotations

import contextlib
from pathlib import Path

from HarmonizeExtension.errors import OutputError
from HarmonizeExtension.files.writing import output_folder, write_text
from HarmonizeExtension.training.start import STOP

from .harmonizeProcess import HarmonizeProcess

# A training stops at its next report and writes a checkpoint first; killed, it would lose the steps since the last one.
GRACE_SECONDS = 180.0


class TrainingRun:
    """Call `step` until it is False, then `result`.

    system, config, folder: as for `harmonize train`; relative folders in the configuration are beside it.
    """

    def __init__(self, system: str, config: Path, folder: Path):
        """Start it, or go on with the one in the folder. Raises OutputError where that cannot be."""
        self.folder = output_folder(folder.absolute())
        self._withdrawStop()
        config = config.absolute()
        arguments = ["train", system, str(config), f"--out={self.folder}"]
        self._process = HarmonizeProcess(arguments, config.parent, GRACE_SECONDS)

    @property
    def progress(self) -> tuple[float, str]:
        """How far it is, and in words, with the time that is left."""
        return self._process.fraction, self._process.text

    def step(self) -> bool:
        """Look at the process; whether it goes on."""
        running = self._process.poll()
        if not running:
            self._withdrawStop()  # it may have ended without having seen it
        return running

    def stop(self) -> None:
        """Ask it to stop at its next report, with a checkpoint written; `step` until it is False."""
        with contextlib.suppress(OutputError):  # such as for a folder that is gone
            write_text("", self.folder / STOP)  # also heard where a launcher keeps the input stream open
        self._process.stop()

    def result(self) -> dict:
        """What `training.start.run` returned: step, ended, best_step, best, and the model folder once there is one.

        Raises InputError with what the engine complained of, and Cancelled where it was stopped before its first step.
        """
        return self._process.answer()

    def _withdrawStop(self) -> None:
        (self.folder / STOP).unlink(missing_ok=True)
