"""Engines: where the parts of a long piece of work are done. Which one it is never changes what is made.

Processes on this machine unless something else is chosen: the workers of a Dask cluster, or this process as one task
of an array job, which does its share of the parts and stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from curate.errors import UserError


@dataclass(frozen=True)
class Engine:
    """Who does the parts.

    Attributes:
        scheduler: address of a Dask scheduler, as ``tcp://host:8786``, or the path of its file.
        part: (i, N): this process is task i of an array job of N tasks, counted from 1.
    """

    scheduler: str | None = None
    part: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.scheduler is not None and self.part is not None:
            raise UserError("--part and --scheduler: give one of them; the tasks of an array job need no scheduler")
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise UserError(f"--part {self.part[0]}/{self.part[1]}: expected i/N with i from 1 to N, as 2/8")

    def share(self, places: int) -> range:
        """Give the places, of so many, of the parts that this process does."""
        first, step = (self.part[0] - 1, self.part[1]) if self.part else (0, 1)
        return range(first, places, step)


_engine: ContextVar[Engine | None] = ContextVar("engine", default=None)


def current() -> Engine:
    """Give the engine that was chosen."""
    return _engine.get() or Engine()


def choose(**changes: Any) -> None:
    """Choose the engine for the rest of this process, as the command line does.

    Args:
        **changes: attributes of `Engine`.

    Raises:
        UserError: where they don't go together.
    """
    _engine.set(replace(current(), **changes))


@contextmanager
def engine(*, scheduler: str | None = None, part: tuple[int, int] | None = None) -> Iterator[None]:
    """Choose who does the parts of the work in a ``with`` block.

    Args:
        scheduler: see `Engine`.
        part: likewise; the work then ends with `PartDone`.

    Raises:
        UserError: where both are given, or the part is none.

    Example:
        >>> from curate.engines import PartDone, engine
        >>> with engine(part=(2, 8)):
        ...     current().share(20)
        range(1, 20, 8)
    """
    token = _engine.set(Engine(scheduler, part))
    try:
        yield
    finally:
        _engine.reset(token)


def parse_part(text: str) -> tuple[int, int]:
    """Read ``i/N``.

    Raises:
        UserError: where it isn't of that form.

    Example:
        >>> parse_part("2/8")
        (2, 8)
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not found:
        raise UserError(f"--part {text}: expected i/N with i from 1 to N, as 2/8")
    return int(found[1]), int(found[2])


class PartDone(Exception):
    """This task of an array job has done its share: nothing is wrong, and the artefact isn't complete yet.

    Attributes:
        part: (i, N) of the task.
    """

    def __init__(self, part: tuple[int, int]) -> None:
        super().__init__(f"part {part[0]} of {part[1]} is done; when all are, run the same command without --part to finish")
        self.part = part
