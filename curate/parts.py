"""Work in parts: each part is a pure function of its inputs, writes its own result and leaves a done marker.

Issuing the same work again runs only the parts that are missing, so killing it at any moment costs at most the
parts that were under way. What a part holds never depends on the number of workers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from curate.artefacts import write_json
from curate.console import progress


def worker_count(workers: int) -> int:
    """Give the number of processes: `workers`, or one a usable core where it is 0."""
    return workers or len(os.sched_getaffinity(0))


def slices(total: int, size: int) -> list[tuple[int, int]]:
    """Cut ``range(total)`` into runs of at most `size`, as (start, stop)."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def run_parts(
    function: Callable[..., dict[str, Any]],
    parts: Sequence[tuple[str, int, tuple[Any, ...]]],
    *,
    markers: Path,
    workers: int,
    label: str,
    unit: str = "images",
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

    Returns:
        The parts' results in the order of `parts`, those of finished parts read from their markers.

    Raises:
        UserError: as `function` raises it, or where a worker process died.
    """
    markers.mkdir(parents=True, exist_ok=True)
    todo = [part for part in parts if not (markers / f"{part[0]}.done").exists()]
    with progress(sum(weight for _, weight, _ in parts), label, unit) as advance:
        advance(sum(weight for _, weight, _ in parts) - sum(weight for _, weight, _ in todo))
        if worker_count(workers) == 1 or len(todo) <= 1:
            for name, weight, arguments in todo:
                _run_part(function, name, weight, arguments, markers)
                advance(weight)
        else:
            _run_in_processes(function, todo, markers, workers, advance)
    return [json.loads((markers / f"{name}.done").read_text(encoding="utf-8")) for name, _, _ in parts]


def _run_in_processes(
    function: Callable[..., dict[str, Any]],
    todo: Sequence[tuple[str, int, tuple[Any, ...]]],
    markers: Path,
    workers: int,
    advance: Callable[[int], None],
) -> None:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    from curate.errors import UserError

    jobs = (delayed(_run_part)(function, name, weight, arguments, markers) for name, weight, arguments in todo)
    try:
        for weight in Parallel(n_jobs=worker_count(workers), return_as="generator_unordered")(jobs):
            advance(weight)
    except TerminatedWorkerError:
        raise UserError(
            "a worker process was killed (often for want of memory); run the same command again, it resumes; --workers 1 needs least"
        ) from None


def _run_part(function: Callable[..., dict[str, Any]], name: str, weight: int, arguments: tuple[Any, ...], markers: Path) -> int:
    write_json(markers / f"{name}.done", function(*arguments))
    return weight
