"""Attributes: which columns are described, as numbers or as groups, and every image's group on every side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from curate.describe.sides import Side, Sides
from curate.errors import UserError, nearest
from curate.groups import UNKNOWN, group_codes

MOST_GROUPS = 30
_FIRST = ("age", "sex", "ethnicity", "laterality", "acquired_on", "site", "device")
_NOT_ATTRIBUTES = {"image_id", "path", "patient_id", "sha256", "phash", "width", "height"}
_GEOMETRY = ("fov_",)  # where the field of view lies in the file, not what is seen in it
_MOST_MAIN = 8  # measures that are pictured, where none was asked for
_MOST_CODES = 10  # a whole number with more values is a number, with fewer a code


@dataclass(frozen=True)
class Attribute:
    """A column to be described.

    Attributes:
        name: the column.
        numbers: a side's values, (rows,) float64 with NaN, one array a side, empty where the side lacks the column;
            None where the column isn't a number.
        groups: the names of its groups, in the order in which they are shown; `UNKNOWN` last, where it
            occurs; none for a number without edges.
        codes: (rows,) integers into `groups`, one array a side, empty where the side lacks the column.
        missing: images without a value, one number a side.
        absent: (sides,) whether a side's table lacks the column.
    """

    name: str
    numbers: list[np.ndarray] | None
    groups: list[str]
    codes: list[np.ndarray]
    missing: list[int]
    absent: list[bool]

    @property
    def known(self) -> list[str]:
        """The groups that are not `UNKNOWN`."""
        return [g for g in self.groups if g != UNKNOWN]


def choose_attributes(
    sides: Sides, by: Sequence[str], bins: Mapping[str, Sequence[float]]
) -> tuple[list[Attribute], list[tuple[str, str]]]:
    """Read the attributes.

    Args:
        sides: what is described.
        by: columns of the cohort or of its measures; none: every column that says something of a person or image and has no more than
            `MOST_GROUPS` values, or is a number.
        bins: edges by column.

    Returns:
        The attributes; and column and remark, where one was not described or not as it stands.

    Raises:
        UserError: where no side has a column that was asked for.
    """
    frames = [_with_gradings(side) for side in sides.sides]
    columns = list(dict.fromkeys(str(c) for f in frames for c in f.columns))
    for name in by:
        if name not in columns:
            raise UserError(f"--by {name}: the cohort has no such column{nearest(name, columns)}")
    chosen = list(dict.fromkeys(by)) or [c for c in (*_FIRST, *(c for c in columns if c not in _FIRST)) if c in columns and _is_one(c)]
    attributes, remarks = [], []
    for name in chosen:
        attribute, remark = _read(name, frames, bins, asked=name in by)
        attributes += [attribute] if attribute else []
        remarks += [(name, remark)] if remark else []
    return attributes, remarks


def _is_one(column: str) -> bool:
    return column not in _NOT_ATTRIBUTES and not column.endswith("_recorded")


def _with_gradings(side: Side) -> pd.DataFrame:
    """Add what the measuring graded in words (its state, the quality) to the cohort's columns."""
    graded = {c: side.measures[c] for c in side.measures.columns if not pd.api.types.is_float_dtype(side.measures[c])}
    named = {(f"measured {c}" if c in side.table.columns else c): v for c, v in graded.items()}
    return side.table.assign(**named)


def _read(
    name: str, frames: list[pd.DataFrame], bins: Mapping[str, Sequence[float]], *, asked: bool
) -> tuple[Attribute | None, str | None]:
    absent = [name not in f.columns for f in frames]
    # A side without the column has no rows here: it is neither known nor unknown there.
    parts = [pd.Series([], dtype="float64") if a else f[name].reset_index(drop=True) for f, a in zip(frames, absent, strict=True)]
    missing = [int(p.isna().sum()) for p in parts]
    there = [p for p in parts if p.notna().any()]
    if not there:
        return Attribute(name, None, [UNKNOWN], [np.zeros(len(p), np.int32) for p in parts], missing, absent), "no value is known"
    numeric = all(pd.api.types.is_numeric_dtype(p) and not pd.api.types.is_bool_dtype(p) for p in there)
    ends = np.cumsum([len(p) for p in parts])[:-1]
    whole: pd.Series[Any]
    if name == "acquired_on" and not numeric and name not in bins:
        whole = pd.concat([p.astype("string").str[:4] for p in parts], ignore_index=True)
    elif numeric:
        whole = pd.concat([p.astype("Float64") for p in parts], ignore_index=True)
    else:
        whole = pd.concat([p.astype("string") for p in parts], ignore_index=True)
    numbers = None
    if numeric:
        values = whole.to_numpy(dtype=float, na_value=np.nan)
        values[np.isinf(values)] = np.nan
        distinct = np.unique(values[~np.isnan(values)])
        if name in bins or len(distinct) > _MOST_CODES or bool((distinct % 1 != 0).any()):
            numbers = np.split(values, ends)
        else:  # a code, also where gaps have made it a float
            whole = whole.astype("Int64")
    if numbers is not None and name not in bins:
        return Attribute(name, numbers, [], [], missing, absent), None
    if name not in bins and not asked and whole.nunique() > MOST_GROUPS:
        return None, f"{whole.nunique():,} different texts, not described; --by lists the commonest"
    codes, groups = group_codes(pd.DataFrame({name: whole}), name, bins)
    if name not in bins:
        codes, groups = _rising(codes, groups)
    codes, groups, remark = _commonest(codes, groups)
    return Attribute(name, numbers, groups, np.split(codes, ends), missing, absent), remark


def _rising(codes: np.ndarray, groups: list[str]) -> tuple[np.ndarray, list[str]]:
    """Put groups that are numbers, as grades and years, into their own order."""
    known = [g for g in groups if g != UNKNOWN]
    if not known or not all(g.removeprefix("-").replace(".", "", 1).isdecimal() for g in known):
        return codes, groups
    order = sorted(range(len(known)), key=lambda i: float(known[i]))
    rank = np.arange(len(groups))
    rank[order] = np.arange(len(known))
    return rank[codes], [*(known[i] for i in order), *groups[len(known) :]]


def _commonest(codes: np.ndarray, groups: list[str]) -> tuple[np.ndarray, list[str], str | None]:
    """Join the rarest groups where there are too many to be shown."""
    known = [g for g in groups if g != UNKNOWN]
    if len(known) <= MOST_GROUPS:
        return codes, groups, None
    counts = np.bincount(codes, minlength=len(groups))[: len(known)]
    kept = np.sort(np.argsort(-counts, kind="stable")[: MOST_GROUPS - 1])
    place = np.full(len(groups), len(kept))
    place[kept] = np.arange(len(kept))
    place[len(known) :] = len(kept) + 1
    others = f"{len(known) - len(kept):,} others"
    return (
        place[codes],
        [*(known[i] for i in kept), others, *groups[len(known) :]],
        f"of {len(known):,} groups the {len(kept)} commonest are shown",
    )


def choose_measures(sides: Sides, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """List the measures to be described, and which of them are pictured.

    Args:
        sides: what is described.
        names: measures that were asked for; none: all but the field of view's place.

    Returns:
        Measures, in the order in which they stand in the table; and the main ones.

    Raises:
        UserError: where nothing was measured, or not this.
    """
    columns = list(dict.fromkeys(str(c) for s in sides.sides for c in s.measures.columns if pd.api.types.is_float_dtype(s.measures[c])))
    for name in names:
        if not columns:
            raise UserError(f"--measures {name}: nothing was measured; run curate measure first")
        if name not in columns:
            raise UserError(f"--measures {name}: there is no such measure{nearest(name, columns)}")
    if names:
        return list(dict.fromkeys(names)), list(dict.fromkeys(names))
    found = [c for c in columns if not c.startswith(_GEOMETRY)]
    main = [c for c in MAIN_MEASURES if c in found] or [c for c in found if c not in sides.of_the_photograph] or found
    return found, main[:_MOST_MAIN]


MAIN_MEASURES = (
    "Fractal_dimension",
    "Vessel_density",
    "Average_width",
    "Distance_tortuosity",
    "Squared_curvature_tortuosity",
    "Tortuosity_density",
    "Branch_density",
    "quality_score",
)  # fmt: skip
