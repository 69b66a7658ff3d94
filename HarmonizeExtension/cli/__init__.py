"""The command line: the same way as in the panel, for scripts, clusters and people without Slicer.

Exit codes: 0 done; 2 something in the input does not fit; 3 the guard refused the result; 4 a result could not be
written; 130 interrupted. Each command imports what it needs when it runs: `harmonize methods` answers at once, and
Ctrl-C is heard early.
"""

from .harmonize import main

__all__ = ["main"]
