"""Strata: how many images each gets, and which.

With one attribute its groups are the strata. With several, their combinations are, as long as each combination has
enough images to be asked for; else each attribute's own shares are met by fitted combinations (`curate.marginals`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate.allocation import balance_measures, count_patients, place_within, water_fill
from curate.errors import UserError
from curate.groups import UNKNOWN
from curate.marginals import fit_marginals
from curate.request import SampleRequest
from curate.target import Target, read_target

THIN = 20  # images; combinations with fewer are too thin to be made equal to the others
_MOST_CELLS = 1_000_000


@dataclass
class Draw:
    """What was drawn from which stratum.

    Attributes:
        rows: (n,) int64, rows of the cohort's table, rising.
        allocation: a row a stratum: its groups, what was available, wanted and allocated, and the shortfall.
        marginals: a row a group of each attribute, likewise, where several attributes are balanced.
        strata: ``kind`` "joint" or "marginal", and why; of marginal ones the residual of the fit and what is unreachable.
        measures: balance over the strata before and after; measures_by: the same for each attribute.
    """

    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    allocation: list[dict[str, Any]] = field(default_factory=list)
    marginals: list[dict[str, Any]] = field(default_factory=list)
    strata: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, dict[str, float | None]] = field(default_factory=dict)
    measures_by: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)


def allocate(
    rows: np.ndarray,
    rank: np.ndarray,
    patient: np.ndarray,
    groups: Mapping[str, tuple[np.ndarray, list[str]]],
    request: SampleRequest,
    bins: Mapping[str, Sequence[float]],
) -> Draw:
    """Allocate images to strata and take the lowest ranks of each.

    Args:
        rows: (n,) rows of the table that may be drawn.
        rank: (n,) uint64, their ranks.
        patient: codes of all rows.
        groups: codes of all rows and the groups' names, by attribute.
        request: what is asked.
        bins: edges by column.

    Raises:
        UserError: where nothing can be balanced, or the target can't be read.
    """
    if not request.balance:
        chosen = np.argsort(rank, kind="stable")[: request.images or len(rows)]
        return Draw(rows=np.sort(rows[chosen]))
    cells = _Cells(rows, patient, groups, request)
    target = read_target(request.target, request.balance, cells.names, bins)
    kind, why = _kind(cells, target, request.strata)
    strata: dict[str, Any] = {"kind": kind, "why": why}
    if kind == "joint":
        weight = np.where(cells.known, target.joint(cells.strata(), cells.usable), 0.0)
    else:
        fit = fit_marginals(cells.usable.reshape(cells.shape), target.marginals(cells.sums(cells.usable)))
        weight = fit.shares.ravel()
        strata["residual"] = fit.residual
        strata["unreachable"] = {a: [n[i] for i in u] for a, n, u in zip(request.balance, cells.names, fit.unreachable, strict=True) if u}
    fillable = (weight > 0) & (cells.usable > 0)
    if not fillable.any():
        raise UserError(f"--target {request.target}: gives nothing to any group that this cohort has")
    # Without a number: as many as every stratum that has any image at all can give its share of.
    level = float((cells.usable[fillable] / weight[fillable]).min())
    total = request.images or max(int(level * weight[fillable].sum() + 1e-6), 1)
    allocated = water_fill(cells.usable, weight, total)
    # What each stratum would get if none were short.
    wanted = water_fill(np.full(len(weight), total), weight, total) if request.images else np.rint(level * weight).astype(np.int64)
    drawn = rows[place_within(cells.stratum, rank) < allocated[cells.stratum]]
    listed = np.flatnonzero((cells.capacity > 0) | (wanted > 0) | (len(request.balance) == 1))
    persons = cells.patients()
    allocation = [
        {
            "stratum": dict(zip(request.balance, cells.groups_of(s), strict=True)),
            "available": int(cells.capacity[s]),
            "available_patients": int(persons[s]),
            **_filled(wanted[s], allocated[s]),
        }
        for s in listed.tolist()
    ]
    counted = weight > 0
    people = [int(np.count_nonzero(np.bincount(p))) for p in (cells.patient[counted[cells.stratum]], patient[drawn])]
    pair = lambda before, after, aim: {  # noqa: E731
        "before": balance_measures(before, aim, people[0]),
        "after": balance_measures(after, aim, people[1]),
    }
    draw = Draw(drawn, allocation, [], strata, pair(cells.usable[counted], allocated[counted], weight[counted]))
    if len(request.balance) > 1:
        sums = [cells.sums(np.where(counted, a, 0)) for a in (cells.usable, wanted, allocated)]
        aims = cells.sums(weight)
        for i, attribute in enumerate(request.balance):
            has, want, got = (s[i] for s in sums)
            draw.marginals += [
                {"attribute": attribute, "group": name, "available": int(has[g]), **_filled(want[g], got[g])}
                for g, name in enumerate(cells.names[i])
                if aims[i][g] > 0 or has[g] > 0
            ]
            kept = aims[i] > 0
            draw.measures_by[attribute] = pair(has[kept], got[kept], aims[i][kept])
    return draw


def _filled(wanted: Any, allocated: Any) -> dict[str, int]:
    return {"target": int(wanted), "allocated": int(allocated), "shortfall": int(max(wanted - allocated, 0))}


class _Cells:
    """The combinations of groups, numbered; the last attribute varies fastest.

    Attributes:
        shape: groups of each attribute; names: their names.
        stratum: (n,) each row's cell; patient: (n,) its patient.
        capacity, usable: (S,) images in each cell, and without cells of an unknown group where those stay out.
        known: (S,) whether the cell takes part.
    """

    def __init__(
        self, rows: np.ndarray, patient: np.ndarray, groups: Mapping[str, tuple[np.ndarray, list[str]]], request: SampleRequest
    ) -> None:
        self.names = [groups[a][1] for a in request.balance]
        self.shape = tuple(len(n) for n in self.names)
        count = int(np.prod(self.shape, dtype=np.float64))
        if count > _MOST_CELLS:
            raise UserError(
                f"--balance {','.join(request.balance)}: {count:,} combinations of groups are too many; leave one out, or use --bins"
            )
        self.stratum = np.zeros(len(rows), dtype=np.int32)
        for attribute, size in zip(request.balance, self.shape, strict=True):
            self.stratum *= np.int32(size)
            self.stratum += groups[attribute][0][rows]
        self.patient = patient[rows]
        self.capacity = np.bincount(self.stratum, minlength=count)
        self.known = np.ones(self.shape, dtype=bool)
        for axis, names in enumerate(self.names):
            if request.unknown == "exclude" and UNKNOWN in names:
                np.moveaxis(self.known, axis, 0)[names.index(UNKNOWN)] = False
        self.known = self.known.ravel()
        self.usable = np.where(self.known, self.capacity, 0)
        if not self.usable.any():
            raise UserError(f"no image has a known group in {', '.join(request.balance)}: there is nothing to balance")

    def groups_of(self, cell: int) -> tuple[str, ...]:
        return tuple(n[i] for n, i in zip(self.names, np.unravel_index(cell, self.shape), strict=True))

    def strata(self) -> list[tuple[str, ...]]:
        return [self.groups_of(s) for s in range(len(self.capacity))]

    def sums(self, values: np.ndarray) -> list[np.ndarray]:
        """Sum over all attributes but one, for each."""
        grid = values.reshape(self.shape)
        return [grid.sum(axis=tuple(a for a in range(grid.ndim) if a != axis)) for axis in range(grid.ndim)]

    def patients(self) -> np.ndarray:
        people = int(self.patient.max()) + 1 if len(self.patient) else 1
        return count_patients(self.patient, self.stratum, len(self.capacity), people)

    def thin(self) -> list[int]:
        """List the combinations of groups that occur which have fewer than `THIN` images."""
        occurs = np.ones(self.shape, dtype=bool)
        for axis, sums in enumerate(self.sums(self.usable)):
            np.moveaxis(occurs, axis, 0)[sums == 0] = False
        return np.flatnonzero(occurs.ravel() & (self.usable < THIN)).tolist()


def _kind(cells: _Cells, target: Target, asked: str) -> tuple[str, str]:
    """Decide whether combinations of groups or each attribute's own groups are made to meet the target."""
    if target.only == "joint":
        if asked == "marginal":
            raise UserError(f"--target {target.name}: names combinations of groups; --strata marginal does not apply")
        return "joint", "the target names combinations" if len(cells.shape) > 1 else "one attribute"
    if target.only == "marginal":
        if asked == "joint":
            raise UserError(f"--target {target.name}: gives shares of single attributes; --strata joint does not apply")
        return "marginal", "the target gives shares of single attributes"
    if asked != "auto" or len(cells.shape) == 1:
        return ("joint" if len(cells.shape) == 1 else asked), "one attribute" if len(cells.shape) == 1 else "as asked"
    thin = cells.thin()
    if not thin:
        return "joint", f"every combination has {THIN} images or more"
    first = min(thin, key=lambda s: (int(cells.usable[s]), s))
    name = ", ".join(cells.groups_of(first))
    return (
        "marginal",
        f"{len(thin):,} of {len(cells.usable):,} combinations have fewer than {THIN} images, as '{name}' with {cells.usable[first]:,}",
    )
