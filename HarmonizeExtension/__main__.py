"""`python -m HarmonizeExtension`, installed as `harmonize`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
