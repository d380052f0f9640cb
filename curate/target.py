"""Targets: what share of a draw each stratum should have."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from curate.artefacts import sha256_file
from curate.cohort import read_cohort
from curate.errors import UserError, nearest
from curate.groups import UNKNOWN, group_of

Stratum = tuple[str, ...]


def target_weights(
    target: str, strata: Sequence[Stratum], capacity: np.ndarray, attributes: Sequence[str], bins: Mapping[str, Sequence[float]]
) -> np.ndarray:
    """Give each stratum its weight in the draw.

    Args:
        target: ``uniform`` (all equal); ``natural`` (as available); ``power:P`` (available to the power P: 0 is uniform, 1
            natural); ``cohort:FOLDER`` (as in another cohort, by the same groups); or a ``.csv`` file with a column for
            each attribute and a column ``share``, in any unit. A stratum that the file doesn't name gets nothing.
        strata: groups, one of each attribute.
        capacity: (S,) images that each stratum has.
        attributes: the columns that make the strata.
        bins: edges by column.

    Returns:
        (S,) float64, non-negative; the unit has no meaning.

    Raises:
        UserError: where the target can't be read or gives nothing to any stratum.
    """
    kind, _, rest = target.partition(":")
    if target == "uniform":
        weights = np.ones(len(strata))
    elif target == "natural":
        weights = capacity.astype(float)
    elif kind == "power":
        weights = np.where(capacity > 0, np.maximum(capacity, 1.0) ** _power(target, rest), 0.0)
    elif kind == "cohort":
        shares = _of_cohort(Path(rest), attributes, bins)
        weights = np.array([float(shares.get(s, 0.0)) for s in strata])
    elif target.endswith(".csv"):
        given = _of_table(Path(target), attributes, strata)
        weights = np.array([given.get(s, 0.0) for s in strata])
    else:
        known = ("uniform", "natural", "power:0.5", "cohort:FOLDER", "TABLE.csv")
        raise UserError(f"--target {target}: no such target{nearest(target, known)}")
    if not (weights[capacity > 0] > 0).any():
        raise UserError(f"--target {target}: gives nothing to any group that this cohort has")
    return weights


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


def _of_cohort(folder: Path, attributes: Sequence[str], bins: Mapping[str, Sequence[float]]) -> dict[Stratum, int]:
    table = read_cohort(folder).table
    counts: dict[Stratum, int] = {}
    for stratum in zip(*(group_of(table, a, bins) for a in attributes), strict=True):
        counts[stratum] = counts.get(stratum, 0) + 1
    return counts


def _of_table(path: Path, attributes: Sequence[str], strata: Sequence[Stratum]) -> dict[Stratum, float]:
    if not path.is_file():
        raise UserError(f"--target {path}: no such file")
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    known = {a: sorted({s[i] for s in strata}) for i, a in enumerate(attributes)}
    shares: dict[Stratum, float] = {}
    for number, row in enumerate(rows, 2):
        for column in (*attributes, "share"):
            if row.get(column) is None:
                raise UserError(f"{path}: row {number} has no '{column}'{nearest(column, [c for c in row if c])}")
        stratum = tuple(row[a].strip() for a in attributes)
        for attribute, group in zip(attributes, stratum, strict=True):
            if group not in known[attribute] and group != UNKNOWN:
                raise UserError(f"{path}: row {number}: {attribute} has no group '{group}'{nearest(group, known[attribute])}")
        try:
            share = float(row["share"])
        except ValueError:
            share = -1.0
        if not 0 <= share < float("inf"):
            raise UserError(f"{path}: row {number}: share '{row['share']}' is not a number of 0 or more")
        if stratum in shares:
            raise UserError(f"{path}: row {number}: {', '.join(stratum)} stands twice")
        shares[stratum] = share
    return shares
