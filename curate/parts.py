"""Work in parts: each part is a pure function of its inputs, writes its own result and leaves a done marker.

Issuing the same work again runs only the parts that are missing, so killing it at any moment costs at most the
parts that were under way. What a part holds depends neither on who does it (`curate.engines`) nor on how many.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from curate.console import progress
from curate.engines import PartDone, current
from curate.errors import Unfinished
from curate.part import Finished, Part, read_marker, run_part


def worker_count(workers: int) -> int:
    """Give the number of processes: `workers`, or one a usable core where it is 0."""
    return workers or len(os.sched_getaffinity(0))


def slices(total: int, size: int) -> list[tuple[int, int]]:
    """Cut ``range(total)`` into runs of at most `size`, as (start, stop)."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def run_parts(
    function: Callable[..., dict[str, Any]],
    parts: Sequence[Part],
    *,
    markers: Path,
    workers: int,
    label: str,
    unit: str = "images",
    last: bool = True,
) -> list[dict[str, Any]]:
    """Run every part that has no done marker yet.

    Args:
        function: called with a part's arguments, in another process; must write its files atomically and return
            plain values, which go into the part's done marker.
        parts: (name, weight in units, arguments); names are file names.
        markers: folder of the done markers, made where missing.
        workers: processes; 0 is one a core.
        label: what is being done, for the progress line.
        unit: what the weights count.
        last: whether no further parts follow. Where some do, and all of these were done before, a task of an array job
            goes on to them; what stands in between must then bear being done by several tasks at once.

    Returns:
        The parts' results in the order of `parts`, those of finished parts read from their markers.

    Raises:
        PartDone: in a task of an array job, when its share is done.
        UserError: as `function` raises it, or where a worker process died.
    """
    markers.mkdir(parents=True, exist_ok=True)
    engine = current()
    # Listed, not looked up one by one: a network file system remembers for a while which names it didn't have.
    there = set(os.listdir(markers))
    missing = [f"{name}.done" not in there for name, _, _ in parts]
    share = engine.share(len(parts))
    todo = [parts[place] for place in share if missing[place]]
    results: dict[str, dict[str, Any]] = {}
    with progress(sum(parts[place][1] for place in share), label, unit) as advance:
        advance(sum(parts[place][1] for place in share if not missing[place]))

        def finished(name: str, weight: int, result: dict[str, Any]) -> None:
            results[name] = result
            advance(weight)

        if engine.scheduler is not None and todo:
            from curate.cluster import run_on_dask

            run_on_dask(engine.scheduler, function, todo, markers, finished)
        elif worker_count(workers) == 1 or len(todo) <= 1:
            for name, weight, arguments in todo:
                finished(name, weight, run_part(function, name, arguments, markers))
        else:
            _run_in_processes(function, todo, markers, workers, finished)
    if engine.part is not None and (last or any(missing)):
        raise PartDone(engine.part)
    return [results[name] if name in results else read_marker(markers / f"{name}.done") for name, _, _ in parts]


def _run_in_processes(
    function: Callable[..., dict[str, Any]], todo: Sequence[Part], markers: Path, workers: int, finished: Finished
) -> None:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    jobs = (delayed(_run_named)(os.getpid(), function, markers, *part) for part in todo)
    try:
        with warnings.catch_warnings():
            # joblib replaces a worker that has waited too long, and says so: nobody need know.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor", UserWarning)
            for done in Parallel(n_jobs=worker_count(workers), return_as="generator_unordered")(jobs):
                finished(*done)
    except TerminatedWorkerError:
        raise Unfinished(
            "a worker process was killed (often for want of memory); run the same command again, it resumes; --workers 1 needs least"
        ) from None


def _run_named(
    parent: int, function: Callable[..., dict[str, Any]], markers: Path, name: str, weight: int, arguments: tuple[Any, ...]
) -> tuple[str, int, dict[str, Any]]:
    _leave_with(parent)
    return name, weight, run_part(function, name, arguments, markers)


@cache
def _leave_with(parent: int) -> None:
    """End this worker soon after the command that it works for has been killed: nobody waits for what it does."""
    if os.getppid() != parent:  # not its child, so its end wouldn't be seen
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
