"""Fair timings: every contender runs once a round, in turn, so that a machine that slows down slows all of them."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import torch


def rounds(contenders: dict[str, Callable[[], int]], *, repeats: int = 5) -> dict[str, list[float]]:
    """Time contenders in turn.

    Args:
        contenders: name -> function that does the work and returns how many units it did.
        repeats: rounds that count, after one that doesn't.

    Returns:
        Name -> units a second, one a round.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeats + 1):
        for name, work in contenders.items():
            started = time.perf_counter()
            units = work()
            if number:
                rates[name].append(units / (time.perf_counter() - started))
    return rates


def show(title: str, rates: dict[str, list[float]], unit: str, *, reference: str) -> None:
    """Print a table: median, range, and the median over rounds of the ratio to the reference in the same round."""
    print(f"\n### {title}\n")
    print(f"| | {unit} (median) | range | ratio to {reference} |")
    print("|---|---:|---:|---:|")
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates[reference], strict=True))
        digits = 0 if max(values) >= 100 else 1
        print(f"| {name} | {statistics.median(values):,.{digits}f} | {min(values):,.{digits}f}-{max(values):,.{digits}f} | {ratio:.2f} |")
    print()


def machine() -> str:
    """Describe the machine in a line."""
    import os

    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, torch {torch.__version__}"
