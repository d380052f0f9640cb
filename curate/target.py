"""Targets: what share of a draw each stratum, or each group of each attribute, should have."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.artefacts import sha256_file
from curate.cohort import read_cohort
from curate.errors import UserError, nearest
from curate.groups import UNKNOWN, group_codes

Stratum = tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """A target that has been read.

    Attributes:
        name: as it was asked for.
        joint: (strata, capacity (S,)) -> weights (S,) of combinations of groups, in any unit.
        marginals: available images of each group, an array an attribute -> weights of each group, likewise.
        only: "joint" or "marginal" where the target says nothing about the other.
    """

    name: str
    joint: Callable[[Sequence[Stratum], np.ndarray], np.ndarray]
    marginals: Callable[[list[np.ndarray]], list[np.ndarray]]
    only: str = ""


def read_target(target: str, attributes: Sequence[str], names: Sequence[Sequence[str]], bins: Mapping[str, Sequence[float]]) -> Target:
    """Read a target.

    Args:
        target: ``uniform`` (all equal); ``natural`` (as available); ``power:P`` (available to the power P: 0 is uniform, 1
            natural); ``cohort:FOLDER`` (as in another cohort, by the same groups); or a ``.csv`` file, either with a column for
            each attribute and a column ``share``, or with columns ``attribute, group, share`` for the shares of single
            attributes, as a census gives them. Shares are in any unit. A group that the file doesn't name gets nothing.
        attributes: the columns that make the strata.
        names: each attribute's groups.
        bins: edges by column.

    Raises:
        UserError: where the target can't be read.
    """
    kind, _, rest = target.partition(":")
    if target in ("uniform", "natural") or kind == "power":
        power = {"uniform": 0.0, "natural": 1.0}.get(target)
        exponent = _power(target, rest) if power is None else power
        raised = lambda counts: np.where(counts > 0, np.maximum(counts, 1.0) ** exponent, 0.0)  # noqa: E731
        # What is available is its own combination: nothing needs fitting.
        return Target(
            target, lambda _, capacity: raised(capacity), lambda sums: [raised(s) for s in sums], "joint" if exponent == 1 else ""
        )
    if kind == "cohort":
        shares = _of_cohort(Path(rest), attributes, bins)
        return _of_shares(target, shares, names)
    if target.endswith(".csv"):
        return _of_table(Path(target), attributes, names)
    known = ("uniform", "natural", "power:0.5", "cohort:FOLDER", "TABLE.csv")
    raise UserError(f"--target {target}: no such target{nearest(target, known)}")


def _of_shares(target: str, shares: Mapping[Stratum, float], names: Sequence[Sequence[str]], only: str = "") -> Target:
    def marginals(_: list[np.ndarray]) -> list[np.ndarray]:
        sums = [dict.fromkeys(n, 0.0) for n in names]
        for stratum, share in shares.items():
            for place, group in zip(sums, stratum, strict=True):
                if group in place:
                    place[group] += share
        return [np.array(list(s.values())) for s in sums]

    return Target(target, lambda strata, _: np.array([float(shares.get(s, 0.0)) for s in strata]), marginals, only)


def target_digest(target: str) -> dict[str, str]:
    """Give the SHA-256 of the file behind a target, by its name; nothing where there is none."""
    kind, _, rest = target.partition(":")
    path = Path(rest) / "cohort.parquet" if kind == "cohort" else Path(target)
    return {f"target {path.name}": sha256_file(path)} if (kind == "cohort" or target.endswith(".csv")) and path.is_file() else {}


def _power(target: str, text: str) -> float:
    try:
        power = float(text)
    except ValueError:
        power = -1.0
    if not 0 <= power <= 1:
        raise UserError(f"--target {target}: expected power:P with P from 0 (uniform) to 1 (natural)")
    return power


def _of_cohort(folder: Path, attributes: Sequence[str], bins: Mapping[str, Sequence[float]]) -> dict[Stratum, float]:
    table = read_cohort(folder, columns=attributes).table
    coded = [group_codes(table, a, bins) for a in attributes]
    cell = np.zeros(len(table), dtype=np.int64)
    for codes, groups in coded:
        cell = cell * len(groups) + codes
    shape = [len(groups) for _, groups in coded]
    found, counts = np.unique(cell, return_counts=True)
    places = zip(*np.unravel_index(found, shape), strict=True)
    return {tuple(g[1][i] for g, i in zip(coded, p, strict=True)): float(n) for p, n in zip(places, counts, strict=True)}


def _of_table(path: Path, attributes: Sequence[str], names: Sequence[Sequence[str]]) -> Target:
    if not path.is_file():
        raise UserError(f"--target {path}: no such file")
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    known = {a: list(n) for a, n in zip(attributes, names, strict=True)}
    single = bool(rows) and {"attribute", "group"} <= rows[0].keys() and not set(attributes) & rows[0].keys()
    shares: dict[Stratum, float] = {}
    for number, row in enumerate(rows, 2):
        for column in (*(("attribute", "group") if single else attributes), "share"):
            if row.get(column) is None:
                raise UserError(f"{path}: row {number} has no '{column}'{nearest(column, [c for c in row if c])}")
        if single and row["attribute"].strip() not in known:
            raise UserError(f"{path}: row {number}: '{row['attribute']}' is not balanced{nearest(row['attribute'], known)}")
        pairs = [(row["attribute"].strip(), row["group"].strip())] if single else [(a, row[a].strip()) for a in attributes]
        for attribute, group in pairs:
            if group not in known[attribute] and group != UNKNOWN:
                raise UserError(f"{path}: row {number}: {attribute} has no group '{group}'{nearest(group, known[attribute])}")
        try:
            share = float(row["share"])
        except ValueError:
            share = -1.0
        if not 0 <= share < float("inf"):
            raise UserError(f"{path}: row {number}: share '{row['share']}' is not a number of 0 or more")
        stratum = pairs[0] if single else tuple(group for _, group in pairs)
        if stratum in shares:
            raise UserError(f"{path}: row {number}: {', '.join(stratum)} stands twice")
        shares[stratum] = share
    if not single:
        return _of_shares(str(path), shares, names, "joint")
    for attribute in attributes:
        if not any(a == attribute for a, _ in shares):
            raise UserError(f"{path}: gives no shares of '{attribute}', which is balanced")
    given = [np.array([shares.get((a, g), 0.0) for g in known[a]]) for a in attributes]
    return Target(str(path), lambda *_: given[0], lambda _: given, "marginal")
