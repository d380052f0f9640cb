"""Ages and dates: read from however they are written, repaired by a named rule, or missing."""

from __future__ import annotations

import re
from datetime import datetime

import numpy as np
import pandas as pd

from curate.cleaning import apply_by_value, is_missing, missing
from curate.errors import UserError
from curate.identifiers import read_date, redact
from curate.ledger import Ledger

OLDEST = 120.0
_AGE = re.compile(r"0*(\d{1,3}(?:\.\d+)?)\s*(y|yr|yrs|years?|years? old|m|mo|months?|w|weeks?|d|days?)?\.?", re.IGNORECASE)
_TOP = re.compile(r"(?:(?:>|>=|≥|over|above)\s*(\d{2,3})|(\d{2,3})\s*(?:\+|and over|or over|plus|or more|and above))", re.IGNORECASE)
_UNIT = {"m": 12.0, "w": 52.1775, "d": 365.2425}
_SENTINEL_DATES = frozenset({"1970-01-01", "1980-01-01"})  # nought of the usual clocks
# 99 stands for 'not known' where it is commoner than all other ages from 90 on, and so often.
_LEAST_NINETY_NINES = 5


def _read_age(text: str) -> tuple[float | None, str | None]:
    stripped = text.strip()
    value = float(stripped) if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", stripped) else None
    if value is not None:
        if 1850 <= value <= 2100 and value.is_integer():
            return value, "age-birth-year"
        return (None, "age-sentinel") if value < 0 or value >= OLDEST else (value, None)
    if is_missing(text):
        return missing(text)
    if match := _AGE.fullmatch(stripped):
        unit = (match[2] or "y")[0].lower()
        age = float(match[1]) / _UNIT.get(unit, 1.0)
        return (None, "age-sentinel") if age >= OLDEST else (age, "age-text")
    if match := _TOP.fullmatch(stripped):
        age = float(match[1] or match[2])
        return (None, "age-sentinel") if age >= OLDEST else (age, "age-top-coded")
    return None, "age-birth-date" if read_date(stripped) else "age-unreadable"


def clean_age(column: pd.Series, acquired: pd.Series, source: str, ledger: Ledger) -> pd.Series:
    """Read ages.

    Args:
        column: text.
        acquired: ISO dates of acquisition, None where unknown; for birth years and dates in the age column.
        source: the table's own name for the column.
        ledger: where changes go.

    Returns:
        Years, float64, NaN where missing.

    Raises:
        UserError: where most values that are there can't be read as ages, so that it's the wrong column.
    """
    codes, values = pd.factorize(column, use_na_sentinel=False)
    texts = ["" if v is None or v != v else str(v) for v in values]
    read = [_read_age(t) for t in texts]
    rules = np.array([rule or "" for _, rule in read], dtype=object)[codes]
    ages = pd.Series(np.array([np.nan if v is None else v for v, _ in read])[codes], index=column.index, dtype=float)
    unread = np.flatnonzero(rules == "age-unreadable")
    given = int(np.array([not is_missing(t) for t in texts])[codes].sum())
    if given and len(unread) > given / 2:
        row, said = ledger.row(column.index[unread[0]]), redact(str(column.iloc[unread[0]]))
        raise UserError(f"column '{source}' does not hold ages: row {row} says '{said}'; name the right one with --map age=COLUMN")
    years = pd.to_numeric(acquired.astype("str").str[:4], errors="coerce").astype(float)
    born = rules == "age-birth-year"
    ages[born] = _possible(years[born] - ages[born])
    dated = rules == "age-birth-date"
    if dated.any():
        ages[dated] = _age_at(column[dated], acquired[dated])
    shown = [redact(t) for t in texts]
    for rule in sorted(set(rules) - {""}):
        rows = np.flatnonzero(rules == rule)
        after = [v if v == v else None for v in ages.iloc[rows]]
        ledger.record(column.index[rows], "age", [shown[codes[r]] for r in rows], after, rule)
    return _drop_placeholders(ages, ledger)


def age_from_birth(ages: pd.Series, births: pd.Series, acquired: pd.Series, ledger: Ledger) -> pd.Series:
    """Fill missing ages from dates of birth and of acquisition; the dates themselves are shown nowhere.

    Args:
        ages: years, NaN where missing.
        births: dates of birth as text.
        acquired: ISO dates, None where unknown.
        ledger: where the ages that were found go.
    """
    found = _age_at(births, acquired)
    filled = ages.index[ages.isna() & found.notna()]
    ledger.record(filled, "age", None, found.loc[filled].tolist(), "age-from-birth-date")
    return ages.fillna(found)


def _age_at(births: pd.Series, acquired: pd.Series) -> pd.Series:
    """Give completed years between a date of birth and one of acquisition, NaN where either is unknown."""
    codes, values = pd.factorize(births, use_na_sentinel=False)
    dates = [None if v is None or v != v else read_date(str(v).strip()) for v in values]
    born = pd.Series(pd.DatetimeIndex([pd.NaT if d is None else pd.Timestamp(d) for d in dates]).take(codes), index=births.index)
    when = pd.to_datetime(acquired.astype("str"), format="%Y-%m-%d", errors="coerce")
    before = (when.dt.month < born.dt.month) | ((when.dt.month == born.dt.month) & (when.dt.day < born.dt.day))
    return _possible((when.dt.year - born.dt.year - before).astype(float).where(when.notna() & born.notna()))


def _possible(ages: pd.Series) -> pd.Series:
    return ages.where((ages >= 0) & (ages < OLDEST))


def _drop_placeholders(ages: pd.Series, ledger: Ledger) -> pd.Series:
    """Take out ages that stand for 'not known'.

    In an archive of adults those are 0 and 1 where nobody else is under 10, and 9 where nobody else is under 18. 99 is one where
    it is commoner than all other ages from 90 on.
    """
    adults = int((ages >= 10).sum())
    low = (ages == 0) | (ages == 1) | (ages == 9)
    children = (ages > 1) & (ages < 18) & ~low
    if children.any() or low.sum() >= adults:
        low = ((ages == 0) | (ages == 1)) & (not ((ages > 1) & (ages < 10)).any())
        low &= low.sum() < adults
    oldest = ages == 99
    if oldest.sum() < _LEAST_NINETY_NINES or oldest.sum() <= ((ages >= 90) & ~oldest).sum():
        oldest &= False
    out = ages.index[low | oldest]
    ledger.record(out, "age", ages.loc[out].tolist(), None, "age-placeholder")
    return ages.mask(low | oldest)


def clean_dates(column: pd.Series, source: str, date_format: str | None, ledger: Ledger) -> pd.Series:
    """Read dates of acquisition.

    Args:
        column: text.
        source: the table's own name for the column.
        date_format: as for ``strptime``; None reads ISO dates alone (2021-03-04, 2021/03/04, 20210304), because
            03/04/2021 is two dates.
        ledger: where changes go.

    Returns:
        ISO dates as text, or None.

    Raises:
        UserError: where most of the values that are there can't be read.
    """
    known = {v: _read_acquired(str(v), date_format) for v in pd.unique(column.dropna())}
    rules = column.map({v: rule or "" for v, (_, rule) in known.items()})
    unread = column.index[rules == "date-unreadable"]
    readable = int(column.map({v: iso is not None for v, (iso, _) in known.items()}).fillna(value=False).astype(bool).sum())
    if len(unread) > max(1, readable):
        raise UserError(
            f"column '{source}': row {ledger.row(unread[0])} says '{str(column.loc[unread[0]]).strip()[:40]}', not "
            f"{'a date of the form ' + date_format if date_format else 'an ISO date'}; give its form, as --date-format %d/%m/%Y"
        )
    return apply_by_value(column, lambda text: known[text] if text in known else _read_acquired(text, date_format), "acquired_on", ledger)


def _read_acquired(text: str, date_format: str | None) -> tuple[str | None, str | None]:
    if is_missing(text):
        return missing(text)
    stripped = text.strip()
    try:
        if date_format:
            found: datetime | None = datetime.strptime(stripped, date_format)
        else:
            match = re.match(r"([0-9]{4})[-/]?([0-9]{2})[-/]?([0-9]{2})(?:[T ].*)?$", stripped)
            found = datetime(int(match[1]), int(match[2]), int(match[3])) if match else None
    except (ValueError, re.error):
        found = None
    if found is None:
        return None, "date-sentinel" if re.match(r"0000|0001", stripped) else "date-unreadable"
    iso = f"{found.year:04d}-{found.month:02d}-{found.day:02d}"
    if found.year <= 1900 or found.year >= 2100 or iso in _SENTINEL_DATES:
        return None, "date-sentinel"
    return iso, None if stripped == iso else "date-form"
