"""Wide tables: one row a patient, with a column a photograph, becomes one row an eye."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from curate.cleaning import is_missing
from curate.errors import UserError, nearest

_PLACES = ("instance", "array")


@dataclass(frozen=True)
class Long:
    """A table with one row an eye.

    Attributes:
        table: the manifest's columns, indexed 0, 1, ...
        rows: the manifest's row of each.
        text: column -> what the eye's own column says: path, laterality, instance, ...
        used: the manifest's columns that this came from.
    """

    table: pd.DataFrame
    rows: np.ndarray
    text: dict[str, pd.Series] = field(default_factory=dict)
    used: frozenset[str] = frozenset()


def each_name(names: str | list[str]) -> list[str]:
    """Give the names of a column as a list."""
    return [names] if isinstance(names, str) else names


def find_column(names: str | list[str], columns: Iterable[str]) -> str | None:
    """Find the first of several names that is a column: as it stands, else without regard to capitals, spaces, hyphens."""
    there = list(columns)
    plain = {plain_name(c): c for c in reversed(there)}
    for name in each_name(names):
        if name in there:
            return name
        if plain_name(name) in plain:
            return plain[plain_name(name)]
    return None


def plain_name(column: str) -> str:
    """Write a column's name in lower case with underscores.

    Example:
        >>> plain_name(" Patient-Age ")
        'patient_age'
    """
    return re.sub(r"[\s_-]+", "_", column.strip().lower())


def numbered_columns(names: str | list[str], columns: Iterable[str]) -> dict[tuple[str, str], str]:
    """Find the columns that a name with ``{instance}`` and ``{array}`` stands for.

    Returns:
        (instance, array), "" where the name has no such place -> column, in the order of the numbers. Only the first of
        several names that fits any column counts.

    Example:
        >>> numbered_columns("p21003_i{instance}", ["eid", "p21003_i1", "p21003_i0"])
        {('0', ''): 'p21003_i0', ('1', ''): 'p21003_i1'}
    """
    there = list(columns)
    for name in each_name(names):
        pattern = re.escape(name)
        for place in _PLACES:
            pattern = pattern.replace(re.escape("{" + place + "}"), rf"(?P<{place}>\d+)")
        found = {}
        for column in there:
            if match := re.fullmatch(pattern, column):
                groups = match.groupdict()
                found[groups.get("instance", ""), groups.get("array", "")] = column
        if found:
            return dict(sorted(found.items(), key=lambda item: tuple(int(n or 0) for n in item[0])))
    return {}


def one_row_a_photograph(raw: pd.DataFrame, eyes: Mapping[Any, Mapping[str, str | list[str]]]) -> Long:
    """Give each eye's photographs rows of their own.

    Args:
        raw: the manifest, all text.
        eyes: "left" and "right" -> {column -> the manifest's column for that eye}; ``path`` says which rows there are.

    Returns:
        The rows in the manifest's order, left before right; a patient without any photograph keeps one row, so that it can
        be refused and counted.

    Raises:
        UserError: where the manifest has no such column.
    """
    columns = list(map(str, raw.columns))
    positions, given, used = [], [], set()
    for side, (target, names) in [(s, item) for s, wanted in eyes.items() for item in wanted.items()]:
        if "{" not in str(names) and not find_column(names, columns):
            shown = each_name(names)[0]
            raise UserError(f"the manifest has no column '{shown}' (wanted for the {side} eye's {target}){nearest(shown, columns)}")
    for side, wanted in eyes.items():
        paths = numbered_columns(wanted["path"], columns) if "path" in wanted else {}
        if not paths and "path" in wanted and (plain := find_column(wanted["path"], columns)):
            paths = {("", ""): plain}
        others = {target: find_column(names, columns) for target, names in wanted.items() if target != "path"}
        used |= {*paths.values(), *filter(None, others.values())}
        for (instance, array), column in paths.items():
            there = np.flatnonzero(~raw[column].fillna("").astype(str).map(is_missing).to_numpy())
            values = {"path": raw[column].to_numpy()[there], "laterality": side, "instance": instance, "array": array}
            values |= {target: raw[source].to_numpy()[there] for target, source in others.items() if source}
            positions.append(there)
            given.append(pd.DataFrame(values, index=range(len(there)), dtype=object))
    if not given:
        wanted_names = [each_name(w["path"])[0] for w in eyes.values() if "path" in w]
        raise UserError(f"the manifest has no column '{wanted_names[0]}' of file names{nearest(wanted_names[0], columns)}")
    alone = np.setdiff1d(np.arange(len(raw)), np.concatenate(positions))
    positions.append(alone)
    given.append(pd.DataFrame({"path": ""}, index=range(len(alone)), dtype=object))
    position = np.concatenate(positions)
    order = np.argsort(position, kind="stable")
    text = pd.concat(given, ignore_index=True).iloc[order].reset_index(drop=True).fillna("")
    text = text[[c for c in text.columns if c not in _PLACES or (text[c] != "").any()]]
    position = position[order]
    return Long(
        table=raw.iloc[position].reset_index(drop=True),
        rows=raw.index.to_numpy()[position],
        text={c: text[c] for c in text.columns},
        used=frozenset(used),
    )


def by_instance(raw: pd.DataFrame, names: str | list[str], instance: pd.Series) -> tuple[pd.Series, list[str]] | None:
    """Give each row the value that belongs to its visit.

    Args:
        raw: the table.
        names: with ``{instance}`` in them.
        instance: the visit of each row, "" where unknown.

    Returns:
        Text, "" where the visit is unknown or has no column, and the columns it came from; None where there are none.
    """
    columns = {number: column for (number, _), column in numbered_columns(names, map(str, raw.columns)).items()}
    if not columns:
        return None
    picked = pd.Series("", index=raw.index, dtype=object)
    for number, column in columns.items():
        picked = picked.mask(instance == number, raw[column])
    return picked, list(columns.values())
