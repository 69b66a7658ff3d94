"""How the command line talks: progress to a person or to a program, Ctrl-C, and answers in words."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

from ..progress import CancelCheck, Progress, stop_if

SECONDS_BETWEEN_LINES = 0.3


class Interrupt:
    """True once Ctrl-C was pressed: work stops at its next report, as an exception cannot pass through every library.

    A second Ctrl-C interrupts at once. The end of the input stream counts as Ctrl-C where a program watches.
    """

    def __init__(self, watched: bool):
        self.pressed = False
        if watched:
            threading.Thread(target=self._wait_for_end_of_input, daemon=True).start()

    def _wait_for_end_of_input(self) -> None:
        while os.read(sys.stdin.fileno(), 1024):  # unbuffered: a lock held here would be in the way at exit
            pass
        self.pressed = True

    def __call__(self) -> bool:
        return self.pressed

    def __enter__(self) -> CancelCheck:
        # Only the main thread may set a handler; and one that ignores Ctrl-C (nohup) stays.
        self.set = threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self.set:
            signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, *_):
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __exit__(self, *_):
        if self.set:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class Bar:
    """Progress on the error stream: a bar where there is a person to see it, lines for a program that watches."""

    def __init__(self, options, interrupted: CancelCheck):
        self.watched = options.watched
        self.hidden = options.json or self.watched or not sys.stderr.isatty()
        self.interrupted = interrupted
        self.told = 0.0

    def __enter__(self) -> Progress:
        if not self.hidden:
            from tqdm import tqdm

            self.bar = tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}", leave=False)
        return self._show

    def _show(self, fraction: float, text: str) -> None:
        stop_if(self.interrupted)
        if self.watched and (time.monotonic() - self.told > SECONDS_BETWEEN_LINES or fraction == 1):
            self.told = time.monotonic()
            print(json.dumps({"fraction": round(fraction, 4), "text": text}), file=sys.stderr, flush=True)
        if not self.hidden:
            self.bar.set_description(text)
            self.bar.update(round(100 * fraction) - self.bar.n)

    def __exit__(self, *_):
        if not self.hidden:
            self.bar.close()


def in_words(answer: dict) -> str:
    """An answer as lines for people."""
    lines = []
    for name, value in answer.items():
        if name == "methods":
            lines += [f"{m['name']:22} {m['modality']:8} target: {m['target']:16} {m['summary']}" for m in value]
        elif name == "tables":
            from ..evaluation.results import Table

            lines += [f"\n{Table(**table).text()}" for table in value] + [""]
        elif isinstance(value, dict):
            lines += [f"{name}:", *(f"  {key}: {entry}" for key, entry in value.items())]
        elif isinstance(value, list):
            lines += [f"{name}:", *(f"  - {entry}" for entry in value)] if value else []
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)
