"""Tasks for the worker tests; in a module of their own, since worker processes import them."""

import os
import signal
import time
from pathlib import Path


def square(number, progress, cancelled):
    progress(0.5, "halfway")
    time.sleep(0.5)  # a report that comes after its answer is of no use, and may be lost
    return number * number


def die_of(fatal, number, progress, cancelled):
    """Ends its process as a lack of memory would, for one number."""
    if number == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number


def die_once(mark, number, progress, cancelled):
    """Ends its process the first time that it is called at all."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return number
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number, progress, cancelled):
    raise OSError(f"no {number}")


def wait(folder, number, progress, cancelled):
    """Leaves its process id, then waits until it is told to stop, and says that it was."""
    place = Path(folder)
    (place / f"{number}.pid").write_text(str(os.getpid()))
    for _ in range(600):
        if cancelled():
            (place / f"{number}.stopped").touch()
            return number
        time.sleep(0.1)
    return number


def slowly(folder, number, progress, cancelled):
    """Leaves a trace of the process it ran in, and takes its time."""
    with open(Path(folder) / f"{number}.pids", "a") as file:
        file.write(f"{os.getpid()}\n")
    progress(0.1, "at work")
    time.sleep(0.6)
    return number
