"""Runs a script as `Slicer --no-main-window --python-script SCRIPT ARGUMENTS` does, and exits as the script asks.

python -m Testing.harness.script SCRIPT ARGUMENTS
"""

import runpy
import sys

import slicer

from . import application


def main(script, arguments):
    """Run the script as __main__; returns the status that it gave to slicer.util.exit."""
    application.start()
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    return slicer.app.exitStatus()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
