"""Cleaning rules, one column at a time: each returns clean values and writes what it changed to the ledger.

Nothing is guessed: a coding that could mean two things stops with the counts, a value that can't be read becomes
missing, and either way the ledger or the message says so. Ages and dates are in `curate.ages`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from curate.errors import UserError
from curate.identifiers import kind_of_value, redact
from curate.ledger import Ledger

if TYPE_CHECKING:
    Cleaner = Callable[[str], tuple[object, str | None]]

MISSING_WORDS = frozenset(
    {
        "na", "n/a", "nan", "none", "null", "nil", "not given", "not stated", "not known", "not recorded", "not available",
        "not specified", "unspecified", "unknown", "unk", "u", "nr", "nk", "ns", "missing", "declined", "refused",
        "prefer not to say", "prefer not to answer", "do not know", "don't know", "<na>", "nat", "-", "--", "?", ".",
        "#n/a", "#ref!", "#value!", "#null!", "#name?", "#div/0!", "#num!",
    }
)  # fmt: skip
_SEX = {
    **dict.fromkeys(("f", "female", "woman", "w", "weiblich", "feminino", "femenino", "féminin", "fem", "girl"), "female"),
    **dict.fromkeys(("m", "male", "man", "männlich", "masculino", "masculin", "masc", "boy"), "male"),
    **dict.fromkeys(("o", "other", "x", "intersex", "indeterminate", "non-binary"), "other"),
}
# Beside these an F may stand for "false", and an M (Spanish: H for hombre, M for mujer) for a woman.
_TWO_MEANINGS = frozenset({"t", "true", "false", "y", "n", "yes", "no", "h"})
_SIDE = {
    **dict.fromkeys(("l", "left", "os", "le", "left eye", "oculus sinister", "eye left"), "left"),
    **dict.fromkeys(("r", "right", "od", "re", "right eye", "oculus dexter", "eye right"), "right"),
}
_BOTH = frozenset({"b", "both", "ou"})
_NUMBER = re.compile(r"([-+]?)0*(\d+)(?:\.0*)?")
_SHORTEST_CUT = 8  # letters that a name cut short must still have


def apply_by_value(column: pd.Series, clean: Cleaner, name: str, ledger: Ledger) -> pd.Series:
    """Clean a text column value by value (each distinct value once).

    Args:
        column: text, indexed by the table's rows.
        clean: text -> (clean value or None, rule or None where nothing worth recording changed).
        name: the column's name in the ledger.
        ledger: where changes go; a value that looks like a direct identifier is not shown there.

    Returns:
        Objects; missing is None.
    """
    codes, values = pd.factorize(column, use_na_sentinel=False)
    cleaned = [clean(str(v)) if v is not None and v == v else (None, None) for v in values]
    after = np.empty(len(values), dtype=object)
    after[:] = [v if v != "" else None for v, _ in cleaned]
    rules = np.array([r or "" for _, r in cleaned], dtype=object)
    for rule in sorted(set(rules) - {""}):
        concerned = rules == rule
        before = np.empty(len(values), dtype=object)
        before[concerned] = [redact(str(v)) for v in values[concerned]]
        rows = np.flatnonzero(concerned[codes])
        ledger.record(column.index[rows], name, before[codes[rows]].tolist(), after[codes[rows]].tolist(), rule)
    return pd.Series(after[codes], index=column.index, dtype=object)


def is_missing(text: str) -> bool:
    """Say whether a text stands for 'not known'."""
    return text.strip() == "" or text.strip().casefold() in MISSING_WORDS


def missing(text: str) -> tuple[None, str | None]:
    """Give what becomes of a text that stands for 'not known': no entry where the cell was empty."""
    return None, "missing-word" if text.strip() else None


def number_of(text: str) -> int | None:
    """Read a whole number however it is written: 1, 01, 1.0, +1.

    Example:
        >>> number_of(" 01.0 "), number_of("-9"), number_of("1.5")
        (1, -9, None)
    """
    match = _NUMBER.fullmatch(text.strip())
    return None if match is None or len(match[2]) > 15 else int(match[1] + match[2])


def clean_coded(column: pd.Series, codes: Mapping[str, str], name: str, ledger: Ledger) -> pd.Series:
    """Replace codes by their stated meanings, whether written 1, 01 or 1.0; what has no meaning stays as it is."""
    numbers = {number: meaning for code, meaning in codes.items() if (number := number_of(code)) is not None}
    words = {code.casefold(): meaning for code, meaning in codes.items()}

    def clean(text: str) -> tuple[object, str | None]:
        stripped = text.strip()
        meaning = codes.get(stripped) or words.get(stripped.casefold()) or numbers.get(number_of(stripped))  # type: ignore[arg-type]
        if meaning is None:
            return text, None
        return meaning, None if meaning.casefold() == stripped.casefold() else "coding"

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
        UserError: where it is coded in numbers, in words with two meanings (T/F, H/M), or doesn't hold sexes: what means
            what is never guessed.
    """
    counts = _count(column)
    _refuse_numbers(counts, source, "sex", "0:female,1:male")
    if _TWO_MEANINGS & {v.casefold() for v in counts}:
        said = f"column '{source}' codes sex in words with two meanings: {_show(counts)}"
        raise UserError(f"{said}; say what they mean, as --codes sex=T:male,F:female")
    _refuse_others(counts, source, "sex", _SEX)

    def clean(text: str) -> tuple[object, str | None]:
        word = text.strip().casefold()
        if word in _SEX:
            return _SEX[word], None if word == _SEX[word] else "coding"
        if is_missing(text) or number_of(text) is not None:
            return missing(text)
        return None, "sex-unreadable"

    return apply_by_value(column, clean, "sex", ledger)


def clean_laterality(column: pd.Series, source: str, ledger: Ledger) -> pd.Series:
    """Read which eye: R, L, OD, OS, RE, LE or words become "right" and "left".

    Raises:
        UserError: where it is coded in numbers, or doesn't hold sides.
    """
    counts = _count(column)
    _refuse_numbers(counts, source, "laterality", "1:right,2:left")
    _refuse_others(counts, source, "laterality", {**_SIDE, **dict.fromkeys(_BOTH)})

    def clean(text: str) -> tuple[object, str | None]:
        word = text.strip().casefold().rstrip(".")
        if word in _SIDE:
            return _SIDE[word], None if word == _SIDE[word] else "coding"
        if is_missing(text) or number_of(text) is not None:
            return missing(text)
        return None, "laterality-both" if word in _BOTH else "laterality-unreadable"

    return apply_by_value(column, clean, "laterality", ledger)


def _count(column: pd.Series) -> dict[str, int]:
    """Count the values that are there, most frequent first."""
    counts = column.dropna().astype(str).str.strip().value_counts()
    ordered = sorted(((str(v), int(n)) for v, n in counts.items() if not is_missing(str(v))), key=lambda item: (-item[1], item[0]))
    return dict(ordered)


def _show(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"'{redact(v)}' ({n:,} rows)" for v, n in sorted(counts.items())[:6])
    return shown + (", ..." if len(counts) > 6 else "")


def _refuse_numbers(counts: Mapping[str, int], source: str, name: str, example: str) -> None:
    numbers = {v: n for v, n in counts.items() if re.fullmatch(r"[-+]?\d+([.,]\d*)?([eE][-+]?\d+)?", v) and not stands_for_unknown(v)}
    if numbers:
        raise UserError(f"column '{source}' codes {name} in numbers: {_show(numbers)}; say what they mean, as --codes {name}={example}")


def stands_for_unknown(text: str) -> bool:
    """Say whether a number among words stands for 'not known': 9, 99, 999 or anything below nought."""
    number = number_of(text)
    return number is not None and (number < 0 or number in (9, 99, 999))


def _refuse_others(counts: Mapping[str, int], source: str, name: str, known: Mapping[str, object]) -> None:
    unread = {v: n for v, n in counts.items() if v.casefold() not in known and not stands_for_unknown(v)}
    if sum(unread.values()) > sum(counts.values()) / 2:
        raise UserError(
            f"column '{source}' does not hold {name}: {_show(unread)}; say what they mean with --codes {name}=CODE:MEANING, "
            f"or name the right column with --map {name}=COLUMN"
        )


def clean_category(column: pd.Series, name: str, ledger: Ledger, *, keep: bool = False) -> pd.Series:
    """Read a category (ethnicity, device, site): words for 'not known' become missing, spellings are unified.

    Two values are spellings of one name where only case, spaces and punctuation differ; the commonest stands for all
    (the first in order where two are equally common). A name cut short in the middle of a word is completed where just one
    other name, at least as common, begins with it.

    Args:
        column: text.
        name: the column's name in the ledger.
        ledger: where changes go.
        keep: whether values that look like direct identifiers stay.
    """
    counts = _count(column)
    best: dict[str, str] = {}
    for value in counts:
        best.setdefault(_letters(value), value)
    whole = _complete(counts, best)
    numbered = all(number_of(v) is not None for v in counts)

    def clean(text: str) -> tuple[object, str | None]:
        # Among numbers a 9 is a category like the others.
        if is_missing(text) or (not numbered and stands_for_unknown(text)):
            return missing(text)
        stripped = text.strip()
        if not keep and kind_of_value(stripped):
            return None, "identifier-value"
        chosen = best[_letters(stripped)]
        if chosen in whole:
            return whole[chosen], "text-truncated"
        return chosen, None if chosen == stripped else "spelling"

    return apply_by_value(column, clean, name, ledger)


def _complete(counts: Mapping[str, int], best: Mapping[str, str]) -> dict[str, str]:
    """Map names that were cut short to the whole ones."""
    names = sorted(set(best.values()), key=str.casefold)
    whole = {}
    for i, short in enumerate(names):
        if len(short) < _SHORTEST_CUT or not short[-1].isalpha():
            continue
        longer = []
        for name in names[i + 1 :]:
            if not name.casefold().startswith(short.casefold()):
                break
            longer.append(name)
        if len(longer) == 1 and longer[0][len(short)].isalpha() and counts[longer[0]] >= counts[short]:
            whole[short] = longer[0]
    return {short: whole.get(name, name) for short, name in whole.items()}


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold()) or text


def clean_patient_ids(column: pd.Series, ledger: Ledger) -> pd.Series:
    """Give ids back what a spreadsheet took: the whole-number form of '123.0', the leading zeros of '000123'.

    Zeros are put back only where four fifths of the numeric ids share one length and some of them start with 0. An id in
    scientific notation (1.23E+05) has lost digits: it becomes missing, so that its row is refused.
    """

    def whole(text: str) -> tuple[object, str | None]:
        if is_missing(text):
            return None, None
        stripped = text.strip()
        if re.fullmatch(r"[-+]?\d+([.,]\d+)?[eE]\+?\d+", stripped):
            return None, "id-scientific"
        match = re.fullmatch(r"(\d+)\.0+", stripped)
        return (match[1], "id-float") if match else (stripped, None)

    ids = apply_by_value(column, whole, "patient_id", ledger)
    numeric = ids.dropna()
    numeric = numeric[numeric.str.fullmatch(r"[0-9]+").to_numpy(dtype=bool)]
    lengths = numeric.str.len().value_counts()
    if lengths.empty or not numeric.str.startswith("0").any():
        return ids
    width = int(lengths.index[0])
    if lengths.iloc[0] < 0.8 * len(numeric):
        return ids
    short = numeric[(numeric.str.len() < width).to_numpy(dtype=bool)]
    ledger.record(short.index, "patient_id", short.tolist(), short.str.zfill(width).tolist(), "id-padding")
    return ids.where(~ids.index.isin(short.index), ids.str.zfill(width))


def clean_further(column: pd.Series, name: str, ledger: Ledger, *, keep: bool = False) -> pd.Series:
    """Give a further column of the manifest its type: whole numbers, numbers or text, missing words as missing.

    Numbers with leading zeros are ids and stay text. Single values that look like direct identifiers become missing.

    Args:
        column: text.
        name: the column's name in the ledger.
        ledger: where values that were taken out go.
        keep: whether values that look like direct identifiers stay.
    """
    codes, values = pd.factorize(column, use_na_sentinel=False)
    there = [None if v is None or v != v or is_missing(str(v)) else str(v).strip() for v in values]
    given = [v for v in there if v is not None]
    whole = all(re.fullmatch(r"-?(0|[1-9][0-9]{0,14})", v) for v in given)
    if given and (whole or all(re.fullmatch(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?", v) for v in given)):
        numbers = pd.array([None if v is None else float(v) for v in there], dtype="Float64")
        return pd.Series(numbers.take(codes), index=column.index).astype("Int64" if whole else float)

    def clean(text: str) -> tuple[object, str | None]:
        if is_missing(text):
            return None, None
        return (None, "identifier-value") if not keep and kind_of_value(text) else (text, None)

    return apply_by_value(column, clean, name, ledger).astype("str")


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
