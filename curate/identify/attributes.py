"""Attributes: the columns that are compared, cleared of what can't be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from curate.groups import UNKNOWN, group_codes

FEWEST = 5  # patients: what smaller groups show is those people
_MOST_NAMED = 3  # small groups that a sentence each is spent on
DEFAULT_BY = ("age", "sex", "ethnicity", "device", "site")


@dataclass(frozen=True)
class Attribute:
    """A column of the cohort as groups.

    Attributes:
        name: of the column.
        code: (n,) int32, the group of each image; -1 where it is unknown or the group is too small to be compared.
        groups: names, as `curate.groups.group_codes` orders them.
        values: (n,) float64 where the column is a number, NaN where it is unknown; else None.
    """

    name: str
    code: np.ndarray
    groups: list[str]
    values: np.ndarray | None = None


def read_attributes(
    table: pd.DataFrame, by: Sequence[str], bins: Mapping[str, Sequence[float]], patient: np.ndarray
) -> tuple[list[Attribute], list[str]]:
    """Read the columns to compare.

    Args:
        table: one row an image.
        by: columns.
        bins: edges by column.
        patient: (n,) integers.

    Returns:
        The attributes that can be compared, and a sentence about each that can't and each group that is left out.

    Raises:
        UserError: where a column isn't there, or is a number without groups.
    """
    found: list[Attribute] = []
    notes: list[str] = []
    for name in by:
        codes, groups = group_codes(table, name, bins)
        attribute, said = _clear(name, codes, groups, patient)
        notes += said
        if attribute is None:
            continue
        if name in bins:
            attribute = Attribute(name, attribute.code, attribute.groups, table[name].to_numpy(dtype=float, na_value=np.nan))
        twin = next((a for a in found if same_groups(a.code, attribute.code)), None)
        if twin is not None:
            notes.append(f"{name} is a synonym of {twin.name}: each of its groups is one group of {twin.name}; {name} is left out")
            continue
        found.append(attribute)
    return found, notes


def _clear(name: str, codes: np.ndarray, groups: list[str], patient: np.ndarray) -> tuple[Attribute | None, list[str]]:
    """Leave out what is unknown and groups of too few people."""
    notes = []
    pairs = np.unique(codes.astype(np.int64) * (int(patient.max(initial=0)) + 1) + patient) // (int(patient.max(initial=0)) + 1)
    people = np.bincount(pairs, minlength=len(groups))
    kept = [i for i, group in enumerate(groups) if group != UNKNOWN and people[i] >= FEWEST]
    few = [(group, int(people[i])) for i, group in enumerate(groups) if group != UNKNOWN and 0 < people[i] < FEWEST]
    if len(few) > _MOST_NAMED:
        some = ", ".join(f"'{group}'" for group, _ in few[:_MOST_NAMED])
        notes.append(
            f"{len(few):,} groups of {name} ({some}, ...) have fewer than {FEWEST} patients each: too few to tell a group from its people; "
            "left out"
        )
    else:
        for group, number in few:
            who = "one patient" if number == 1 else f"{number} patients"
            notes.append(f"{name} '{group}' is a group of {who}: too few to tell the group from its people; left out")
    if len(kept) < 2:
        if not kept and not any(people[i] for i, g in enumerate(groups) if g != UNKNOWN):
            notes.append(f"{name} is unknown for every image: nothing to compare")
        elif len(kept) == 1:
            notes.append(f"{name} is '{groups[kept[0]]}' for every image that can be compared: nothing to compare")
        else:
            notes.append(f"{name} has no two groups of {FEWEST} patients or more: nothing to compare")
        return None, notes
    place = np.full(len(groups), -1, dtype=np.int32)
    place[kept] = np.arange(len(kept))
    return Attribute(name, place[codes], [groups[i] for i in kept]), notes


def same_groups(a: np.ndarray, b: np.ndarray) -> bool:
    """Say whether two columns cut the images into the same groups, where both are known."""
    known = (a >= 0) & (b >= 0)
    if not known.any():
        return False
    cells = np.bincount(a[known] * (int(b.max()) + 1) + b[known], minlength=(int(a.max()) + 1) * (int(b.max()) + 1))
    filled = cells.reshape(int(a.max()) + 1, -1) > 0
    return bool((filled.sum(axis=0) <= 1).all() and (filled.sum(axis=1) <= 1).all() and (known.mean() > 0.5))


def usual(values: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Give each image its patient's mean value: (n,) float64; NaN where none is known."""
    known = np.isfinite(values)
    people = int(patient.max()) + 1
    count = np.bincount(patient[known], minlength=people)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.bincount(patient[known], values[known], minlength=people) / count)[patient]


def commonest(code: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Give each image its patient's commonest group (the first of several): (n,) int64, -1 where none is known."""
    groups = int(code.max()) + 1
    cells = np.bincount(patient * (groups + 1) + code + 1, minlength=(int(patient.max()) + 1) * (groups + 1)).reshape(-1, groups + 1)
    best = cells[:, 1:].argmax(axis=1)
    best[cells[:, 1:].max(axis=1) == 0] = -1
    return best[patient]
