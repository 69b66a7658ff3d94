"""A run that a section of the panel follows: looked at until it has ended, while the panel stays usable."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.errors import Cancelled

_LOOK_MILLISECONDS = 100  # between two looks


class RunFollower:
    """Starts a run, shows how far it is, and hands it over when it is over.

    A run has `step()`, whether it goes on, `progress`, a fraction and a text, and `stop()`.

    run: the one that is on its way, or None. outcome: what came of the last one, in words.
    """

    def __init__(
        self,
        bar,
        label,
        failed: str,
        stopped: str,
        ended: Callable[[object], str],
        changed: Callable[[bool], None],
        looked: Callable[[object], None] = lambda run: None,
    ):
        """bar, label: the widgets that show how far it is.

        failed: what is said above the reason where a run raises. stopped: the outcome where it raises Cancelled.
        ended: takes the result of a run into the scene and gives the outcome in words. changed: hears whether a run is
        on its way, whenever that changes. looked: is given the run after every look at it.
        """
        self._bar, self._label = bar, label
        self._failed, self._stopped = failed, stopped
        self._ended, self._changed, self._looked = ended, changed, looked
        self._stopping = False
        self.run, self.outcome = None, ""
        self._timer = qt.QTimer()
        # Started anew after each look: a message box that a look opens must not be looked past.
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._look)
        self._show("")

    def start(self, begin: Callable[[], object], failed: str) -> None:
        """Follow the run that `begin` gives; where it raises, `failed` is said above the reason."""
        self.outcome = ""
        with slicer.util.tryWithErrorDisplay(failed):
            self.run = begin()
        if self.run is not None:
            self._stopping = False
            self._bar.value = 0
            self._show(_("Starting"))
            self._changed(True)
            self._timer.start(0)

    def stop(self, text: str = "") -> None:
        """Stop the run, where there is one, as soon as it can; the text is shown until then."""
        if self.run is not None:
            self.run.stop()
            self._stopping = True
            self._show(text)

    def cleanup(self) -> None:
        """The panel goes; what the run does ends by itself."""
        self.stop()
        self._timer.stop()

    def say(self, text: str) -> None:
        """Show a text where a run tells how far it is; none hides the line."""
        self._label.text = text
        self._label.setVisible(bool(text))

    def _show(self, text: str) -> None:
        self._bar.setVisible(self.run is not None)
        self.say(text)

    def _look(self) -> None:
        goesOn = False
        try:
            with slicer.util.tryWithErrorDisplay(self._failed):
                goesOn = self._step()
        finally:
            if goesOn:
                self._timer.start(_LOOK_MILLISECONDS)
            else:
                self.run.stop()  # where something unforeseen was raised; else it has ended
                self.run = None
                self._show(self.outcome)
                self._changed(False)

    def _step(self) -> bool:
        """Whether the run goes on."""
        try:
            goesOn = self.run.step()
            self._looked(self.run)
            if not goesOn:
                self.outcome = self._ended(self.run)
                return False
        except Cancelled:
            self.outcome = self._stopped
            return False
        fraction, text = self.run.progress
        self._bar.value = int(100 * fraction)
        if not self._stopping:
            self.say(text)
        return True
