"""Cleaning rules, one column at a time: each returns clean values and writes what it changed to the ledger.

Nothing is guessed: a coding that could mean two things stops with the counts, a value that can't be read becomes
missing, and either way the ledger or the message says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from curate.errors import UserError
from curate.ledger import Ledger

if TYPE_CHECKING:
    Cleaner = Callable[[str], tuple[object, str | None]]

MISSING_WORDS = frozenset(
    {
        "na", "n/a", "nan", "none", "null", "nil", "not given", "not stated", "not known", "not recorded", "unknown", "unk",
        "u", "nr", "nk", "missing", "declined", "prefer not to say", "-", "--", "?", ".",
    }
)  # fmt: skip
_SEX = {"f": "female", "female": "female", "woman": "female", "m": "male", "male": "male", "man": "male", "o": "other", "other": "other"}
_SIDE = {"l": "left", "left": "left", "os": "left", "le": "left", "r": "right", "right": "right", "od": "right", "re": "right"}
_BOTH = frozenset({"b", "both", "ou"})
_OLDEST = 120.0


def apply_by_value(column: pd.Series, clean: Cleaner, name: str, ledger: Ledger) -> pd.Series:
    """Clean a text column value by value (each distinct value once).

    Args:
        column: text, indexed by the manifest's rows.
        clean: text -> (clean value or None, rule or None where nothing worth recording changed).
        name: the column's name in the ledger.
        ledger: where changes go.

    Returns:
        Objects; missing is None.
    """
    codes, values = pd.factorize(column, use_na_sentinel=False)
    cleaned = [clean(str(v)) if v is not None and v == v else ("", None) for v in values]
    for rule in sorted({r for _, r in cleaned if r}):
        rows = np.flatnonzero(np.isin(codes, [i for i, (_, r) in enumerate(cleaned) if r == rule]))
        after = [cleaned[c][0] for c in codes[rows]]
        ledger.record(column.index[rows], name, column.iloc[rows].tolist(), after, rule)
    result = np.empty(len(column), dtype=object)
    result[:] = [cleaned[c][0] if cleaned[c][0] != "" else None for c in codes]
    return pd.Series(result, index=column.index, dtype=object)


def is_missing(text: str) -> bool:
    """Say whether a text stands for 'not known'."""
    return text.strip() == "" or text.strip().casefold() in MISSING_WORDS


def _missing(text: str) -> tuple[None, str | None]:
    return None, "missing-word" if text.strip() else None


def clean_coded(column: pd.Series, codes: Mapping[str, str], name: str, ledger: Ledger) -> pd.Series:
    """Replace codes by their stated meanings; what has no meaning stays as it is."""

    def clean(text: str) -> tuple[object, str | None]:
        stripped = text.strip()
        if stripped in codes:
            meaning = codes[stripped]
            return meaning, None if meaning.casefold() == stripped.casefold() else "coding"
        return text, None

    return apply_by_value(column, clean, name, ledger)


def clean_sex(column: pd.Series, source: str, ledger: Ledger) -> pd.Series:
    """Read a sex column.

    Args:
        column: text after any stated coding.
        source: the table's own name for the column.
        ledger: where changes go.

    Returns:
        "female", "male", "other" or None.

    Raises:
        UserError: where it is coded in numbers: which is which is never guessed.
    """
    _refuse_numbers(column, source, "sex", "0:female,1:male", ignore=("9", "99"))

    def clean(text: str) -> tuple[object, str | None]:
        word = text.strip().casefold()
        if word in _SEX:
            return _SEX[word], None if word == _SEX[word] else "coding"
        if is_missing(text) or word in ("9", "99"):
            return _missing(text)
        return None, "sex-unreadable"

    return apply_by_value(column, clean, "sex", ledger)


def clean_laterality(column: pd.Series, source: str, ledger: Ledger) -> pd.Series:
    """Read which eye: R, L, OD, OS, RE, LE or words become "right" and "left".

    Raises:
        UserError: where it is coded in numbers.
    """
    _refuse_numbers(column, source, "laterality", "1:right,2:left")

    def clean(text: str) -> tuple[object, str | None]:
        word = text.strip().casefold()
        if word in _SIDE:
            return _SIDE[word], None if word == _SIDE[word] else "coding"
        if is_missing(text):
            return _missing(text)
        return None, "coding" if word in _BOTH else "laterality-unreadable"

    return apply_by_value(column, clean, "laterality", ledger)


def _refuse_numbers(column: pd.Series, source: str, name: str, example: str, ignore: tuple[str, ...] = ()) -> None:
    counts = column.dropna().astype(str).str.strip().value_counts()
    numbers = {v: int(n) for v, n in counts.items() if re.fullmatch(r"-?\d+(\.0+)?", str(v)) and v not in ignore}
    if numbers:
        shown = ", ".join(f"'{v}' ({n:,} rows)" for v, n in sorted(numbers.items())[:6])
        raise UserError(f"column '{source}' codes {name} in numbers: {shown}; say what they mean, as --codes {name}={example}")


_AGE = re.compile(r"0*(\d{1,3}(?:\.\d+)?)\s*(y|yr|yrs|years?|years? old|m|mo|months?|w|weeks?|d|days?)?\.?", re.IGNORECASE)
_TOP = re.compile(r"(?:(?:>|>=|≥|over|above)\s*(\d{2,3})|(\d{2,3})\s*(?:\+|and over|or over|plus))", re.IGNORECASE)
_UNIT = {"m": 12.0, "w": 52.1775, "d": 365.2425}


def _read_age(text: str) -> tuple[object, str | None]:
    stripped = text.strip()
    try:
        value = float(stripped)
    except ValueError:
        value = None
    if value is not None and np.isfinite(value):
        if 1850 <= value <= 2100 and value.is_integer():
            return value, "age-birth-year"
        return (None, "age-sentinel") if value < 0 or value >= _OLDEST else (value, None)
    if is_missing(text):
        return _missing(text)
    if match := _AGE.fullmatch(stripped):
        unit = (match[2] or "y")[0].lower()
        age = float(match[1]) / _UNIT.get(unit, 1.0)
        return (None, "age-sentinel") if age >= _OLDEST else (age, "age-text")
    if match := _TOP.fullmatch(stripped):
        return float(match[1] or match[2]), "age-top-coded"
    return None, "age-unreadable"


def clean_age(column: pd.Series, years: pd.Series, source: str, ledger: Ledger) -> pd.Series:
    """Read ages.

    Args:
        column: text.
        years: the year of acquisition, NaN where unknown; for birth years in the age column.
        source: the table's own name for the column.
        ledger: where changes go.

    Returns:
        Years, float64, NaN where missing.

    Raises:
        UserError: where most values that are there can't be read as ages, so that it's the wrong column.
    """
    scratch = Ledger()
    read = apply_by_value(column, _read_age, "age", scratch)
    ages = pd.to_numeric(read, errors="coerce").astype(float)
    entries = scratch.frame()
    unreadable = entries[entries["rule"] == "age-unreadable"]
    given = int((~column.fillna("").astype(str).map(is_missing)).sum())
    if given and len(unreadable) > given / 2:
        first = unreadable.iloc[0]
        raise UserError(
            f"column '{source}' does not hold ages: row {first['row']} says '{first['before']}'; name the right one with --map age=COLUMN"
        )
    for rule, group in entries[entries["rule"] != "age-birth-year"].groupby("rule", sort=True):
        ledger.record(
            group["row"], "age", group["before"].tolist(), [ages[r] if ages[r] == ages[r] else None for r in group["row"]], str(rule)
        )
    births = ages.index[ages >= 1850]
    if len(births):
        repaired = years.loc[births] - ages.loc[births]
        repaired = repaired.where((repaired >= 0) & (repaired < _OLDEST))
        ledger.record(births, "age", column.loc[births].tolist(), [v if v == v else None for v in repaired], "age-birth-year")
        ages.loc[births] = repaired
    return _drop_placeholders(ages, ledger)


def _drop_placeholders(ages: pd.Series, ledger: Ledger) -> pd.Series:
    """An age of 0 or 1 where nobody else is under 10 stands for 'not known' in an archive of adults."""
    low = ages.index[(ages == 0) | (ages == 1)]
    if len(low) and not ((ages > 1) & (ages < 10)).any() and len(low) < (ages >= 10).sum():
        ledger.record(low, "age", ages.loc[low].tolist(), None, "age-placeholder")
        return ages.mask(ages.index.isin(low))
    return ages


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

    def clean(text: str) -> tuple[object, str | None]:
        if is_missing(text):
            return _missing(text)
        stripped = text.strip()
        if date_format:
            date = pd.to_datetime(stripped, format=date_format, errors="coerce")
        else:
            match = re.match(r"(\d{4})[-/]?(\d{2})[-/]?(\d{2})(?:[T ].*)?$", stripped)
            date = pd.to_datetime("-".join(match.groups()), format="%Y-%m-%d", errors="coerce") if match else pd.NaT
        if pd.isna(date):
            return None, "date-unreadable"
        if date.year <= 1900:
            return None, "date-sentinel"
        iso = date.strftime("%Y-%m-%d")
        return iso, None

    scratch = Ledger()
    dates = apply_by_value(column, clean, "acquired_on", scratch)
    entries = scratch.frame()
    unreadable = entries[entries["rule"] == "date-unreadable"]
    if len(unreadable) > max(1, dates.notna().sum()):
        first = unreadable.iloc[0]
        raise UserError(
            f"column '{source}': row {first['row']} says '{first['before']}', not an ISO date; give its form, as --date-format %d/%m/%Y"
        )
    for rule, group in entries.groupby("rule", sort=True):
        ledger.record(group["row"], "acquired_on", group["before"].tolist(), None, str(rule))
    return dates


def clean_category(column: pd.Series, name: str, ledger: Ledger) -> pd.Series:
    """Read a category (ethnicity, device, site): words for 'not known' become missing, spellings are unified.

    Two values are spellings of one name where only case, spaces and punctuation differ; the commonest stands for all
    (the first in order where two are equally common).
    """
    counts = column.dropna().astype(str).str.strip().value_counts()
    best: dict[str, str] = {}
    for value in sorted(counts.index, key=lambda v: (-int(counts[v]), v)):
        best.setdefault(_letters(value), value)

    def clean(text: str) -> tuple[object, str | None]:
        if is_missing(text):
            return _missing(text)
        stripped = text.strip()
        chosen = best[_letters(stripped)]
        return chosen, None if chosen == stripped else "spelling"

    return apply_by_value(column, clean, name, ledger)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold()) or text


def clean_patient_ids(column: pd.Series, ledger: Ledger) -> pd.Series:
    """Give ids back what a spreadsheet took: the whole-number form of '123.0', the leading zeros of '000123'.

    Zeros are put back only where four fifths of the numeric ids share one length and some of them start with 0.
    """

    def whole(text: str) -> tuple[object, str | None]:
        if is_missing(text):
            return None, None
        stripped = text.strip()
        match = re.fullmatch(r"(\d+)\.0+", stripped)
        return (match[1], "id-float") if match else (stripped, None)

    ids = apply_by_value(column, whole, "patient_id", ledger)
    numeric = ids.dropna()[ids.dropna().str.fullmatch(r"\d+")]
    lengths = numeric.str.len().value_counts()
    if lengths.empty or not numeric.str.startswith("0").any():
        return ids
    width = int(lengths.index[0])
    if lengths.iloc[0] < 0.8 * len(numeric):
        return ids
    short = numeric[numeric.str.len() < width]
    ledger.record(short.index, "patient_id", short.tolist(), short.str.zfill(width).tolist(), "id-padding")
    return ids.where(~ids.index.isin(short.index), ids.str.zfill(width))


def clean_further(column: pd.Series) -> pd.Series:
    """Give a further column of the manifest its type: whole numbers, numbers or text, missing words as missing.

    Numbers with leading zeros are ids and stay text.
    """
    text = column.astype(object).where(~column.fillna("").astype(str).map(is_missing), None)
    given = text.dropna().astype(str).str.strip()
    if len(given) and given.str.fullmatch(r"-?(0|[1-9]\d{0,14})").all():
        return pd.to_numeric(text.str.strip()).astype("Int64")
    if len(given) and given.str.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?").all():
        return pd.to_numeric(text.str.strip()).astype(float)
    return text.astype("str")


def refuse_conflicts(table: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
    """Find rows that contradict each other within a patient.

    Rows of one patient, eye and day whose ages differ by more than a year are refused, because two people share the
    id (without dates: where their sex differs too). A sex that otherwise differs becomes missing, and so do a
    patient's ages that fall by more than a year as dates rise.

    Args:
        table: cleaned columns patient_id, laterality, acquired_on, age, sex; indexed by the manifest's rows.
        ledger: where changes go.

    Returns:
        The rows that stay.
    """
    table = table.copy()
    visit = [table["patient_id"], table["laterality"].fillna(""), table["acquired_on"].fillna("")]
    ages = table["age"].groupby(visit)
    spread = ages.transform("max") - ages.transform("min")
    # Without dates two ages of one eye may be two visits, unless the sex differs as well; on one day they can't be.
    two_people = (spread > 1) & (table["acquired_on"].notna() | (table["sex"].groupby(visit).transform("nunique") > 1))
    rows = table.index[two_people]
    ledger.record(rows, "patient_id", table.loc[rows, "patient_id"].tolist(), None, "identity-conflict")
    table = table.drop(rows)

    differing = table.groupby("patient_id")["sex"].transform("nunique") > 1
    rows = table.index[differing & table["sex"].notna()]
    ledger.record(rows, "sex", table.loc[rows, "sex"].tolist(), None, "sex-conflict")
    table.loc[rows, "sex"] = None

    dated = table[table["acquired_on"].notna() & table["age"].notna()].sort_values(["patient_id", "acquired_on"], kind="stable")
    falls = dated["age"] < dated.groupby("patient_id")["age"].cummax() - 1
    rows = dated.index[dated["patient_id"].isin(dated.loc[falls, "patient_id"])].sort_values()
    ledger.record(rows, "age", table.loc[rows, "age"].tolist(), None, "age-falls")
    table.loc[rows, "age"] = np.nan
    return table
