"""Parts on a Dask cluster: one part is one task. A worker that dies costs the part it was at, which another one does again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import queue
import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.console import warn
from curate.errors import Unfinished, UserError
from curate.part import Finished, Part, run_part

if TYPE_CHECKING:
    from distributed import Client, Future

_ANSWER = 10  # seconds in which a scheduler must answer
_LOOK = 5  # seconds between looks at how many workers there are
_QUEUED = 3  # parts handed over for each thread of a worker: enough that none waits for the next one
_DECIDE_BYTES = ("evenfooting", "numpy", "pandas", "pyarrow", "opencv-python-headless", "pillow", "scikit-image", "scipy", "torch", "timm")
_one_at_a_time = threading.Lock()


def run_on_dask(scheduler: str, function: Callable[..., dict[str, Any]], todo: Sequence[Part], markers: Path, finished: Finished) -> None:
    """Do parts on the workers of a Dask cluster, which must see the same folders as this machine at the same places.

    Args:
        scheduler: its address, or the path of its file.
        function: see `curate.parts.run_parts`.
        todo: the parts.
        markers: folder of the done markers; workers leave them.
        finished: called with each part's name, weight and result.

    Raises:
        Unfinished: where the scheduler can't be reached or is lost, a worker doesn't see the folder or has other
            packages, or a part ended several workers.
        UserError: as `function` raises it.
    """
    from distributed.protocol.pickle import dumps

    sign = markers / f".workers.{secrets.token_hex(8)}.tmp"
    sign.touch()
    try:
        with _connected(scheduler) as client:
            given = (os.getcwd(), str(markers), sign.name, installed())
            _inspect(client, scheduler, given)
            task = _task()

            def submit(part: Part) -> Future:
                name, _, arguments = part
                work = dumps((function, name, arguments))
                return client.submit(task, *given, work, pure=False, key=f"{name}-{secrets.token_hex(8)}")

            _keep_busy(client, scheduler, todo, submit, finished)
    finally:
        sign.unlink(missing_ok=True)


def _keep_busy(client: Client, scheduler: str, todo: Sequence[Part], submit: Callable[[Part], Future], finished: Finished) -> None:
    """Hand over as many parts as the workers need to be busy, and a further one for each that comes back."""
    left, done = iter(todo), queue.SimpleQueue[Any]()
    waiting: dict[Any, tuple[Part, Future]] = {}
    threads, looked, idle = 0, 0.0, False
    try:
        while True:
            if time.monotonic() - looked > _LOOK:
                threads, looked = sum(_asked(scheduler, client.nthreads).values()), time.monotonic()
                if not threads and not idle:
                    warn(f"{scheduler}: no worker is left; waiting for one")
                idle = not threads
            for part in islice(left, max(_QUEUED * max(threads, 1) - len(waiting), 0)):
                future = submit(part)
                waiting[future.key] = part, future
                future.add_done_callback(done.put)
            if not waiting:
                return
            try:
                future = done.get(timeout=_LOOK)
            except queue.Empty:
                continue
            (name, weight, _), _ = waiting.pop(future.key)
            finished(name, weight, _result(future, name, scheduler))
    except BaseException:
        if client.status == "running":
            with contextlib.suppress(Exception):
                client.cancel([future for _, future in waiting.values()])
        raise


def _result(future: Future, name: str, scheduler: str) -> dict[str, Any]:
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    if future.status == "error":
        error = future.exception()
        if not isinstance(error, KilledWorker):
            raise error  # the part's own
        raise Unfinished(
            f"{scheduler}: {error.allowed_failures + 1} workers died one after another at part {name}, the last at "
            f"{error.last_worker.address} (often for want of memory: give workers more with --memory-limit; or their time was up); "
            "run the same command again, it resumes"
        )
    try:
        answer = future.result()
    except (CancelledError, OSError):
        raise _lost(scheduler) from None
    if "problem" in answer:
        raise Unfinished(f"{scheduler}: worker {answer['problem']}")
    return answer["result"]


def _lost(scheduler: str) -> Unfinished:
    return Unfinished(f"{scheduler}: the scheduler ended or can't be reached any more; run the same command again, it resumes")


def _asked(scheduler: str, question: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return question(*arguments, **options)
    except (OSError, RuntimeError):  # Dask's own errors of communication are among them
        raise _lost(scheduler) from None


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ImportError:
        raise UserError("--scheduler needs Dask; install it with: pip install 'evenfooting[dask]'") from None
    address = _address(scheduler)
    with _silent_log(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            client = Client(address, timeout=_ANSWER, set_as_default=False, name="evenfooting")
        except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
            raise Unfinished(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({_first_line(error)}); start one with: dask scheduler"
            ) from None
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=_LOOK)


def _address(scheduler: str) -> str:
    """Give a scheduler's address, read from its file where that was named."""
    if re.match(r"(tcp|tls|ws|wss|ucx)://|[\w.-]+:\d+$", scheduler):
        return scheduler
    try:
        return str(json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"])
    except OSError:
        raise Unfinished(f"--scheduler {scheduler}: no such file; give the scheduler's file, or its address as tcp://host:8786") from None
    except (ValueError, KeyError, TypeError):
        raise Unfinished(f"--scheduler {scheduler}: not the file of a Dask scheduler (it writes one with --scheduler-file)") from None


@contextlib.contextmanager
def _silent_log() -> Iterator[None]:
    """Keep back what Dask logs about a cluster in trouble: what matters of it is said in one line."""
    handlers = {
        handler for name in ("distributed", "distributed.client", "tornado.application") for handler in logging.getLogger(name).handlers
    }
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _inspect(client: Client, scheduler: str, given: tuple[Any, ...]) -> None:
    """Wait for a worker, and see that those there are will give the same bytes in the same folders."""
    if not _asked(scheduler, client.nthreads):
        warn(f"{scheduler}: no worker yet; waiting for one")
        while not _asked(scheduler, client.nthreads):
            time.sleep(1)
    here = platform.python_version_tuple()[:2]
    for address, about in _asked(scheduler, client.get_versions)["workers"].items():
        there = about["host"]["python"].split(".")
        if tuple(there[:2]) != here:
            raise Unfinished(
                f"{scheduler}: worker {address}: Python {'.'.join(there[:2])} there and {'.'.join(here)} here; give both the same"
            )
    for answer in _asked(scheduler, client.run, _task(), *given, None, on_error="return").values():
        if isinstance(answer, dict) and "problem" in answer:  # an error is a worker that went away meanwhile
            raise Unfinished(f"{scheduler}: worker {answer['problem']}")
    if max(client.nthreads().values(), default=1) > 1:
        warn(f"{scheduler}: a worker does one part at a time; start workers of one thread each: dask worker --nworkers N --nthreads 1")


def _task() -> Callable[..., dict[str, Any]]:
    """Give what workers run. It is sent whole, not by name, so that a worker without evenfooting can say so."""

    def task(folder: str, markers: str, sign: str, versions: dict[str, str | None], work: bytes | None) -> dict[str, Any]:
        from distributed import get_worker

        try:
            from curate.cluster import work_here
        except ImportError as error:
            problem = f"evenfooting can't be imported there ({error}); install it in the workers' environment"
        else:
            answer = work_here(folder, markers, sign, versions, work)
            if "problem" not in answer:
                return answer
            problem = answer["problem"]
        return {"problem": f"{get_worker().address}: {problem}"}

    return task


def work_here(folder: str, markers: str, sign: str, versions: dict[str, str | None], work: bytes | None) -> dict[str, Any]:
    """Do a part in this process, a worker's.

    Args:
        folder: the current one of the command; relative paths start there.
        markers: folder of the done markers.
        sign: a file in it by which it is known to be the command's.
        versions: what is installed where the command runs.
        work: function, name and arguments, pickled; None only looks whether a part could be done.

    Returns:
        ``result``: what the part's marker holds; or ``problem``: why it can't be done here.
    """
    for package, wanted in versions.items():
        there = installed()[package]
        if there != wanted:
            return {"problem": f"{package} {there or 'is missing'} there and {wanted or 'missing'} here; give both the same"}
    place = os.path.join(folder, markers)
    if not os.path.exists(os.path.join(place, sign)):
        return {"problem": f"{place} isn't seen there; workers need the same files at the same place (a shared file system)"}
    if not os.access(place, os.W_OK):
        return {"problem": f"{place} can't be written to from there"}
    if work is None:
        return {}
    from distributed.protocol.pickle import loads

    # The folder and the number of threads that libraries use belong to the process: one part at a time.
    with _one_at_a_time, contextlib.chdir(folder):
        function, name, arguments = loads(work)
        return {"result": run_part(function, name, arguments, Path(markers))}


@cache
def installed() -> dict[str, str | None]:
    """Give the versions of the packages that decide the bytes of a result; None where one is missing."""

    def find(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {package: find(package) for package in _DECIDE_BYTES}
