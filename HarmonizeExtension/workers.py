"""Many independent tasks side by side: in processes of this machine, or on a dask.distributed cluster.

A task that ends its process (memory ran out, a crash in a library) costs that task alone: it is tried once more by
itself, and given up when it ends its process again; the others go on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import SimpleITK as sitk

from . import __version__
from .errors import Cancelled, InputError
from .progress import CancelCheck, Progress, never

# A task: called in a worker as task(*arguments, progress, cancelled); arguments and answer must be picklable.
Task = Callable[..., object]
# Where a task is: its name, a fraction, a text.
Report = Callable[[str, float, str], None]

_POLL_SECONDS = 0.2
# Read by numerical libraries when they load. One thread each: tasks side by side would fight for the cores, and sums in
# another order differ in their last bits from one machine to the next.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class WorkerDied(Exception):  # noqa: N818 - reads as what happened
    """The process of a task ended twice without an answer, the second time with no other task beside it."""


def run_in_processes(
    task: Task, arguments: Mapping[str, tuple], workers: int, report: Report, cancelled: CancelCheck = never
) -> Iterator[tuple[str, object]]:
    """Run `task` with each of the arguments; gives (name, answer) as they end, WorkerDied as the answer of a dead one.

    An exception that the task raises is raised here, after the tasks that run were told to stop; so is Cancelled when
    `cancelled()` became true.
    """
    waiting, suspects = dict(arguments), {}
    while waiting or suspects:
        alone = bool(suspects)
        batch = dict([suspects.popitem()]) if alone else waiting
        with _Pool(1 if alone else workers) as pool:
            for name, answer in pool.run(task, batch, report, cancelled):
                if not isinstance(answer, BrokenProcessPool):
                    yield name, answer
                elif alone:
                    yield name, WorkerDied()
                else:
                    suspects[name] = arguments[name]


class _Pool:
    """A process pool whose tasks report and can be told to stop."""

    def __init__(self, workers: int):
        context = multiprocessing.get_context("spawn")
        self.workers, self.stop, self.reports = workers, context.Event(), context.Queue()
        self.executor = ProcessPoolExecutor(workers, context, _start_worker, (self.stop, self.reports))

    def __enter__(self) -> _Pool:
        self.inherited = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.executor.shutdown(cancel_futures=True)
        for name, value in self.inherited.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    def run(
        self, task: Task, waiting: dict[str, tuple], report: Report, cancelled: CancelCheck
    ) -> Iterator[tuple[str, object]]:
        """Takes from `waiting` what it runs; ends early, with the rest left there, when a process died."""
        running: dict[Future, str] = {}
        broken = False
        while running or (waiting and not broken):
            # Only as many as run at once are handed in: when a process dies, these are all that can be to blame.
            while waiting and not broken and len(running) < self.workers:
                name = next(iter(waiting))
                try:
                    future = self.executor.submit(_call, name, task, waiting[name])
                except BrokenProcessPool:  # between the last look and now
                    broken = True
                else:
                    running[future] = name
                    del waiting[name]
            done, _ = wait(running, _POLL_SECONDS, FIRST_COMPLETED)
            self._pass_on(report)
            if cancelled():
                raise Cancelled("stopped on request; what is done is kept")
            for future in done:
                name, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    broken = True
                    yield name, error
                elif error is not None:
                    raise error
                else:
                    yield name, future.result()

    def _pass_on(self, report: Report) -> None:
        while True:
            try:
                report(*self.reports.get_nowait())
            except queue.Empty:
                return


def _start_worker(stop, reports) -> None:
    """In a new process: one thread, and no life beyond that of the parent, even if that is killed."""
    global _stop, _reports
    _stop, _reports = stop, reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one tells the others
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _call(name: str, task: Task, arguments: tuple) -> object:
    return task(*arguments, lambda fraction, text: _reports.put((name, fraction, text)), _stop.is_set)


def run_on_cluster(
    task: Task, arguments: Mapping[str, tuple], scheduler: str, report: Report, cancelled: CancelCheck = never
) -> Iterator[tuple[str, object]]:
    """As `run_in_processes`, on the workers of the dask.distributed scheduler at an address ("tcp://host:8786").

    The workers must see the same files under the same paths and have the same version of this software installed. A
    task whose worker dies is given to another one by the scheduler, a few times. Tasks that run when `cancelled()`
    becomes true end by themselves. Raises InputError where there is no scheduler, or no such worker.
    """
    try:
        from distributed import Client
        from distributed import wait as wait_for
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise InputError("a cluster needs dask.distributed; install it with: pip install distributed") from None
    try:
        client = Client(scheduler, timeout="5s", set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(f"there is no dask scheduler at '{scheduler}' ({error}); check the address") from error
    with client, client.as_current():
        _check_workers(client, scheduler)
        topic = f"harmonize-{secrets.token_hex(8)}"
        client.subscribe_topic(topic, lambda event: report(*event[1]))
        futures = {
            client.submit(_call_on_worker, topic, name, task, given, pure=False, key=f"{topic}-{name}"): name
            for name, given in arguments.items()
        }
        while futures:
            if cancelled():
                client.cancel(list(futures), force=True)
                raise Cancelled("stopped on request; what is done is kept")
            with contextlib.suppress(TimeoutError):
                wait_for(list(futures), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
            for future in [future for future in futures if future.done()]:
                name, error = futures.pop(future), future.exception()
                if isinstance(error, KilledWorker):
                    yield name, WorkerDied()
                elif error is not None:
                    client.cancel(list(futures), force=True)
                    raise error
                else:
                    yield name, future.result()


def _check_workers(client, scheduler: str) -> None:
    versions = client.run(_version)
    if not versions:
        raise InputError(f"the scheduler at '{scheduler}' has no worker; start one with: dask worker {scheduler}")
    others = sorted({version for version in versions.values() if version != __version__})
    if others:
        raise InputError(
            f"workers of '{scheduler}' have Harmonize {', '.join(others)}, but this is {__version__}; install the same"
        )


def _version() -> str:
    try:
        from HarmonizeExtension import __version__ as version
    except ImportError:
        return "not at all"
    return version


def _call_on_worker(topic: str, name: str, task: Task, arguments: tuple) -> object:
    from distributed import get_worker

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    worker = get_worker()
    progress: Progress = lambda fraction, text: worker.log_event(topic, (name, fraction, text))  # noqa: E731
    return task(*arguments, progress, never)
