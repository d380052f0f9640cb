"""From the text of a table to numbers; whatever becomes missing on the way is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

# What each rule does, in a reader's words.
RULES: dict[str, str] = {
    "measure-failed": "a number by which the tool says that it failed became missing",
    "measure-unreadable": "text where a number should stand became missing",
    "measure-infinite": "an infinite number became missing",
    "missing-word": "a word that stands for 'not known' became missing",
    "ratio-of-failed": "a ratio of which a side failed became missing",
    "quality-unreadable": "a grade that is none of the tool's became missing",
}
LEDGER = ("image_id", "file", "row", "column", "before", "after", "rule")
_MISSING = ("na", "n/a", "nan", "-nan", "none", "null", "nil", "<na>", ".", "-", "?")
_INFINITE = r"[+-]?inf(?:inity)?"
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


class Changes:
    """Collects what became missing in one table; becomes part of ``measurements_ledger.parquet``.

    Args:
        file: the table's name.
        image_id: (n,) strings, the image of each of its rows.
        row: (n,) int64, the rows' numbers in the file, the first after the header being 2.
    """

    def __init__(self, file: str, image_id: np.ndarray, row: np.ndarray) -> None:
        self.file, self.image_id, self.row = file, image_id, row
        self._entries: list[pd.DataFrame] = []

    def record(self, which: np.ndarray, column: str, before: pd.Series, rule: str) -> None:
        """Note values that became missing.

        Args:
            which: (n,) bool.
            column: of the cohort's measures.
            before: (n,) as the file has them.
            rule: one of `RULES`.
        """
        RULES[rule]
        if which.any():
            entry = {
                "image_id": self.image_id[which], "file": self.file, "row": self.row[which], "column": column,
                "before": before[which].to_numpy(dtype=object), "after": None, "rule": rule,
            }  # fmt: skip
            self._entries.append(pd.DataFrame(entry, columns=list(LEDGER)))

    def take(self, others: Changes) -> None:
        """Take over what was noted of the same table elsewhere."""
        self._entries += others._entries

    def frame(self) -> pd.DataFrame:
        """Give the entries: columns as in `LEDGER`; row is int64, the others are text."""
        empty = pd.DataFrame({c: pd.Series(dtype="int64" if c == "row" else "string") for c in LEDGER})
        entries = pd.concat(self._entries, ignore_index=True) if self._entries else empty
        return entries.astype({c: "int64" if c == "row" else "string" for c in LEDGER})


def numbers(text: pd.Series, column: str, failed: Sequence[float], changes: Changes) -> pd.Series:
    """Read a column of text as numbers.

    Args:
        text: (n,) strings, "" where empty.
        column: its name among the cohort's measures.
        failed: numbers that stand for a failure.
        changes: takes what became missing; what was empty has not changed.

    Returns:
        (n,) float64, finite or NaN.
    """
    stripped = text.astype("str").str.strip()
    lower = stripped.str.lower()
    empty = (stripped == "").to_numpy(dtype=bool)
    numeric = stripped.str.fullmatch(_NUMBER).to_numpy(dtype=bool)
    values = np.full(len(text), np.nan)
    values[numeric] = stripped[numeric].to_numpy(dtype=object).astype(np.float64)
    infinite = np.isinf(values) | lower.str.fullmatch(_INFINITE).to_numpy(dtype=bool)
    word = lower.isin(_MISSING).to_numpy(dtype=bool)
    sentinel = np.isin(values, np.asarray(failed, dtype=np.float64))
    for which, rule in (
        (sentinel, "measure-failed"),
        (infinite, "measure-infinite"),
        (word, "missing-word"),
        (~(numeric | infinite | word | empty), "measure-unreadable"),
    ):
        changes.record(which, column, text, rule)
    values[sentinel | infinite] = np.nan
    return pd.Series(values, index=text.index)


def clear_ratios(values: pd.DataFrame, text: pd.DataFrame, ratios: Mapping[str, tuple[str, str]], changes: Changes) -> None:
    """Clear ratios that were taken of a failed side, in place.

    A ratio goes where a side is missing. In a table that lacks its sides it goes where it is 1, as that of two failures, or isn't
    positive, as that of one.

    Args:
        values: (n, columns) float64; text: (n, columns) as the file has them.
        ratios: column -> its two sides.
        changes: takes what became missing.
    """
    for ratio, sides in ratios.items():
        if ratio not in values:
            continue
        own = values[ratio].to_numpy()
        known = [side for side in sides if side in values]
        wrong = values[known].isna().any(axis=1).to_numpy() if known else np.zeros(len(own), dtype=bool)
        if len(known) < 2:
            wrong = wrong | (own == 1)
        wrong = (wrong | (own <= 0)) & ~np.isnan(own)
        changes.record(wrong, ratio, text[ratio], "ratio-of-failed")
        values.loc[wrong, ratio] = np.nan


def grades(
    text: pd.Series, codes: Mapping[str, str], numbers_of: Mapping[str, pd.Series], reject_from: Mapping[str, float], changes: Changes
) -> pd.Series:
    """Read a tool's grade of the photographs.

    Args:
        text: (n,) strings.
        codes: what stands there -> good, usable or reject.
        numbers_of: column -> (n,) float64; reject_from: column -> from where on what is usable counts as reject.
        changes: takes what became missing.

    Returns:
        (n,) strings, missing where there is no grade.
    """
    plain = text.astype("str").str.strip().str.replace(r"\.0+$", "", regex=True)  # 1.0, where a table had gaps
    graded = plain.astype(object).map(codes)
    changes.record((graded.isna() & (plain != "")).to_numpy(dtype=bool), "quality", text, "quality-unreadable")
    for column, limit in reject_from.items():
        graded = graded.mask((graded == "usable") & (numbers_of[column] >= limit), "reject")
    return graded.astype("string")


def first_conflict(merged: pd.DataFrame) -> tuple[Any, str] | None:
    """Find the first image and column of which rows disagree.

    Args:
        merged: one row or several an image, indexed by it; missing values agree with everything.
    """
    again = merged[merged.index.duplicated(keep=False)]
    if again.empty:
        return None
    differ = again.groupby(level=0, sort=False).nunique(dropna=True) > 1
    if not differ.to_numpy().any():
        return None
    image, column = next(zip(*np.nonzero(differ.to_numpy()), strict=True))
    return differ.index[image], str(differ.columns[column])
