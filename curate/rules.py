"""Rules: comparisons of a cohort's columns that say which images are meant, read by hand and never evaluated as code."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

MISSING = "missing"
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_WORD = r"""(?:"([^"]*)"|'([^']*)'|([^\s"'<>=!]+))"""
_COMPARISON = re.compile(rf"\s*{_WORD}\s*(==|!=|<=|>=|<|>)\s*{_WORD}\s*")
_AND = re.compile(r"and\s")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class Comparison:
    """One comparison: a column, an operator and a value as text; ``missing`` without quotes stands for a value that isn't there."""

    column: str
    operator: str
    value: str
    missing: bool = False


def parse_rule(text: str) -> tuple[Comparison, ...]:
    """Read ``COLUMN OP VALUE and COLUMN OP VALUE ...``; names and values with spaces stand in quotes.

    Raises:
        ValueError: where it isn't of that form, in words for the user.

    Example:
        >>> [c.column for c in parse_rule("years_to_event <= 3 and eye == left")]
        ['years_to_event', 'eye']
    """
    found: list[Comparison] = []
    place = 0
    while True:
        match = _COMPARISON.match(text, place)
        if not match:
            raise ValueError(f"'{text}' is not COLUMN OP VALUE, joined by 'and', with OP one of {' '.join(_OPERATORS)}")
        column, value = (next(p for p in match.group(*range(first, first + 3)) if p is not None) for first in (1, 5))
        missing = match[7] == MISSING
        if missing and match[4] not in ("==", "!="):
            raise ValueError(f"'{text}': {MISSING} goes with == and != alone")
        found.append(Comparison(column, match[4], value, missing))
        place = match.end()
        if place == len(text):
            return tuple(found)
        joined = _AND.match(text, place)
        if not joined:
            raise ValueError(f"'{text}': expected 'and' before '{text[place:].strip()}'")
        place = joined.end()


def is_rule(text: str) -> bool:
    """Say whether a text is a rule."""
    try:
        parse_rule(text)
    except ValueError:
        return False
    return True


def fitting(rule: tuple[Comparison, ...], table: pd.DataFrame, where: str) -> pd.Series:
    """Say which rows fit a rule. A value that isn't there fits no comparison but ``== missing``.

    Args:
        rule: from `parse_rule`.
        table: a cohort's table.
        where: what asks, for messages.

    Returns:
        (n,) bool, the index is the table's.

    Raises:
        UserError: where there is no such column, or its values can't be compared so.
    """
    fits = None
    for comparison in rule:
        here = _compare(comparison, table, where)
        fits = here if fits is None else fits & here
    assert fits is not None  # a rule holds at least one comparison
    return fits


def _compare(comparison: Comparison, table: pd.DataFrame, where: str) -> pd.Series:
    import pandas as pd

    name, sign, value = comparison.column, comparison.operator, comparison.value
    if name not in table.columns:
        raise UserError(f"{where}: the cohort has no column '{name}'{nearest(name, map(str, table.columns))}")
    column = table[name]
    if comparison.missing:
        return column.isna() if sign == "==" else column.notna()
    known = column.notna()
    if pd.api.types.is_bool_dtype(column):
        return _text(column.astype("string").str.lower(), sign, value.lower(), name, where) & known
    if pd.api.types.is_numeric_dtype(column):
        return _OPERATORS[sign](column.astype("Float64"), _number(value, name, where)).fillna(False).astype(bool) & known
    return _text(column.astype("string").str.strip(), sign, value, name, where) & known


def _number(value: str, name: str, where: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{where}: '{value}' is text but column '{name}' holds numbers") from None


def _text(column: pd.Series, sign: str, value: str, name: str, where: str) -> pd.Series:
    """Compare text as text; smaller and larger only for dates written year first."""
    if sign not in ("==", "!="):
        given = column.dropna()
        odd = given[~given.str.fullmatch(_DATE.pattern).astype(bool)]
        if not _DATE.fullmatch(value) or len(odd):
            shown = f"'{odd.iloc[0]}'" if len(odd) else f"'{value}'"
            raise UserError(f"{where}: '{name} {sign} {value}': {shown} is neither a number nor a date (YYYY-MM-DD)")
    return _OPERATORS[sign](column, value).fillna(False).astype(bool)
