"""A command of the engine as a process of its own: Slicer stays usable, and a crash there is none here."""

from __future__ import annotations

import collections
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

import HarmonizeExtension
from HarmonizeExtension.errors import Cancelled, HarmonizeError, InputError, OutputError

GRACE_SECONDS = 5.0
_LINES_KEPT = 12  # of what a process says beside its progress, to quote should it crash


class HarmonizeProcess:
    """One command that runs and is looked at now and then (`poll`), never waited for.

    fraction, text: how far it is.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, graceSeconds: float = GRACE_SECONDS):
        """Start `harmonize ARGUMENTS` in a folder. Raises OutputError where it cannot be started.

        graceSeconds: how long it may take to stop before it is killed.
        """
        self.fraction, self.text = 0.0, _("Starting")
        self._graceSeconds = graceSeconds
        self._said: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        self._answer: list[str] = []
        self._lines: queue.SimpleQueue = queue.SimpleQueue()
        self._stoppedAt: float | None = None
        python = shutil.which("PythonSlicer") or sys.executable
        try:
            self._process = subprocess.Popen(
                [python, "-m", "HarmonizeExtension", *arguments, "--watched", "--json"],
                cwd=folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows would show a console
            )
        except OSError as error:
            raise OutputError(_("'{python}' cannot be started: {error}").format(python=python, error=error)) from error
        self._open = 2
        for stream, take in ((self._process.stderr, self._onSaid), (self._process.stdout, self._answer.append)):
            threading.Thread(target=self._read, args=(stream, take), daemon=True).start()

    def _read(self, stream, take) -> None:
        """In a thread of its own, since reading waits; what is read is taken in by `poll`."""
        for line in stream:
            self._lines.put((take, line))
        self._lines.put((None, ""))

    def poll(self) -> bool:
        """Take in what the process has said; whether it still runs."""
        # Slicer's event loop keeps the interpreter to itself; the reading threads get their turn here.
        time.sleep(0.002)
        while not self._lines.empty():
            take, line = self._lines.get()
            if take is None:
                self._open -= 1
            else:
                take(line)
        if self._stoppedAt is not None and time.monotonic() - self._stoppedAt > self._graceSeconds:
            # PythonSlicer is a launcher and may keep our end of the input stream to itself. With it, that stream ends
            # for the Python behind it, which so stops as cleanly; and killed outright, a cohort continues as well.
            self._process.kill()
        # Not before both streams end: behind the launcher the command itself may still be at work.
        return bool(self._open) or self._process.poll() is None

    def _onSaid(self, line: str) -> None:
        try:
            told = json.loads(line)
            self.fraction, self.text = float(told["fraction"]), str(told["text"])
        except (ValueError, TypeError, KeyError):
            self._said.append(line.rstrip())
            logging.info("harmonize: %s", line.rstrip())

    def stop(self) -> None:
        """Ask the process to stop: it ends at its next step, and what is done is kept. `poll` until it has."""
        if self._stoppedAt is None:
            self._stoppedAt = time.monotonic()
            self._process.stdin.close()

    def answer(self) -> dict:
        """What the command answered, once it has ended.

        Raises what the command complained of as InputError or OutputError, Cancelled where it was stopped.
        """
        try:
            answer = json.loads("".join(self._answer))
        except ValueError:
            if self._stoppedAt is not None:
                raise Cancelled(_("stopped on request; what is done is kept")) from None
            raise HarmonizeError(
                _(
                    "The process ended with code {code} and no answer (often because memory ran out); run it again, it "
                    "continues. It said last: {said}"
                ).format(code=self._process.returncode, said="\n".join(self._said) or _("nothing"))
            ) from None
        if "error" in answer:
            raise (OutputError if answer["kind"] == OutputError.__name__ else InputError)(answer["error"])
        return answer


def _environment() -> dict[str, str]:
    """That in which Slicer itself was started, since its Python brings its own, and where to find the engine."""
    startup = getattr(slicer.app, "startupEnvironment", None)
    environment = dict(slicer.util.startupEnvironment() if startup else os.environ)
    engine = str(Path(HarmonizeExtension.__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (engine, environment.get("PYTHONPATH"))))
    return environment
