"""How long work reports where it is and learns that it should stop.

Everything that takes more than a moment accepts `progress(fraction, text)`, called with a fraction
from 0 to 1 and a short text, and `cancelled()`, asked between steps.
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import Cancelled

Progress = Callable[[float, str], None]
CancelCheck = Callable[[], bool]


def silent(fraction: float, text: str) -> None:
    """A progress report that nobody reads."""


def never() -> bool:
    """A cancel check that is never true."""
    return False


def part(progress: Progress, start: float, end: float) -> Progress:
    """The report of a step that covers `start` to `end` of a longer work."""

    def report(fraction: float, text: str) -> None:
        progress(start + (end - start) * min(max(fraction, 0.0), 1.0), text)

    return report


def stop_if(cancelled: CancelCheck) -> None:
    """Raise `Cancelled` when the caller asked to stop."""
    if cancelled():
        raise Cancelled("stopped on request; nothing was written")
