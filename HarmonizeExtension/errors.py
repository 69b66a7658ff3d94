"""The errors a caller may want to catch. Each message says what was wrong and what to do about it."""

from __future__ import annotations


class HarmonizeError(ValueError):
    """Base of every error the engine raises on purpose; its text is written for the user."""


class InputError(HarmonizeError):
    """A file, image, structure, setting or target that cannot be used as it is."""


class ModelError(HarmonizeError):
    """A model folder that is incomplete, damaged or made for something else."""


class OutputError(HarmonizeError):
    """A result that could not be written; what stood there before is untouched."""


class RefusedError(HarmonizeError):
    """The guard refused the result and the caller did not insist; `verdict` holds the figures."""

    def __init__(self, verdict):
        super().__init__("the result was refused: " + "; ".join(verdict.reasons))
        self.verdict = verdict


class Cancelled(Exception):  # noqa: N818 - it is a request that was honoured, not an error
    """The caller's `cancelled()` became true; nothing was written."""
