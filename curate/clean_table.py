"""From a manifest's text to a cohort's columns: every cleaning rule in its order, all that is ambiguous found at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd

from curate import ages, cleaning
from curate.cohort import COLUMNS
from curate.columns import Reading, header_rows, read_columns
from curate.errors import UserError, nearest
from curate.ethnicity import harmonise
from curate.eyes import find_column
from curate.identifiers import kind_by_name, kind_of_column, kind_of_value
from curate.ledger import Ledger
from curate.profiles import Profile

T = TypeVar("T")
_CATEGORIES = ("ethnicity", "device", "site")


@dataclass
class Cleaned:
    """A manifest that has been cleaned.

    Attributes:
        table: the cohort's own columns (path still as the manifest has it) and every further one, indexed for `ledger`.
        ledger: what was changed and refused.
        listed: images that the manifest lists.
        patients_known: whether something says who is on an image.
        identifiers: column that was not copied -> what it holds.
        warnings: what the user should look at, in sentences.
        problems: mistakes that stand in the way of a cohort, one line each.
    """

    table: pd.DataFrame
    ledger: Ledger
    listed: int
    patients_known: bool
    identifiers: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def attempt(self, clean: Callable[[], T], otherwise: T) -> T:
        """Clean something; a mistake of the user's is kept and the rest goes on, so that all are found at once."""
        try:
            return clean()
        except UserError as error:
            self.problems.append(str(error))
            return otherwise


def clean_table(
    raw: pd.DataFrame, layout: Profile, *, stated_eyes: bool, date_format: str | None, scheme: str, keep: Collection[str]
) -> Cleaned:
    """Clean a manifest.

    Args:
        raw: the manifest, all text.
        layout: how it is coded.
        stated_eyes: whether the user said that it has one row a patient.
        date_format: of dates that are not ISO.
        scheme: ethnicity scheme.
        keep: columns that are copied though they look like direct identifiers.

    Raises:
        UserError: where nothing says which image a row is about, or whose; what else stands in the way is in `problems`.
    """
    for column in keep:
        if find_column(column, map(str, raw.columns)) is None:
            raise UserError(f"--keep-column {column}: the manifest has no such column{nearest(column, map(str, raw.columns))}")
    reading = read_columns(raw, layout, stated_eyes)
    listed = len(reading.table)
    ledger = reading.ledger
    _drop_headers(reading)
    unreadable = _drop_bad_text(reading)
    text = reading.text
    index = reading.table.index
    done = Cleaned(pd.DataFrame(index=index), ledger, listed, reading.patients_known, problems=list(reading.missing_columns))
    if "patient_id" not in text:
        shown = nearest("patient_id", map(str, raw.columns))
        raise UserError(f"the manifest has no column of patients; name it with --map patient_id=COLUMN{shown}")
    nothing = pd.Series(None, index=index, dtype=object)
    table = done.table
    table["path"] = text["path"].fillna("").astype(str).where(~unreadable, "")
    table["image_id"] = _image_ids(text, index)
    table["patient_id"] = cleaning.clean_patient_ids(text["patient_id"], ledger)
    names = reading.names

    def side() -> pd.Series:
        return cleaning.clean_laterality(text["laterality"], names["laterality"], ledger)

    def dates() -> pd.Series:
        return ages.clean_dates(text["acquired_on"], names["acquired_on"], date_format, ledger)

    table["laterality"] = done.attempt(side, nothing) if "laterality" in text else nothing
    table["acquired_on"] = done.attempt(dates, nothing) if "acquired_on" in text else nothing
    no_age = pd.Series(np.nan, index=index)
    table["age"] = no_age
    if "age" in text:
        table["age"] = done.attempt(lambda: ages.clean_age(text["age"], table["acquired_on"], names["age"], ledger), no_age)
    if "birth_date" in text:
        table["age"] = ages.age_from_birth(table["age"], text["birth_date"], table["acquired_on"], ledger)
    table["sex"] = done.attempt(lambda: cleaning.clean_sex(text["sex"], names["sex"], ledger), nothing) if "sex" in text else nothing
    _add_categories(done, reading, scheme, set(keep), nothing)
    _add_further(done, reading, layout, set(keep))
    for target in ("patient_id", "image_id"):
        kind = kind_of_column(text[target]) if target in text and reading.patients_known else None
        if kind:
            done.warnings.append(
                f"column '{names[target]}' ({target}) looks like {kind}: shards carry pseudonyms, but the cohort folder holds it as it is; "
                "replace it by a study number where you can"
            )
    done.table = _refuse_incomplete(table, ledger, unreadable)
    return done


def _image_ids(text: dict[str, pd.Series], index: pd.Index) -> pd.Series:
    if "image_id" not in text:
        return pd.Series("", index=index, dtype=object)
    ids = text["image_id"].fillna("").astype(str).str.strip()
    codes, values = pd.factorize(ids)
    return pd.Series(np.array(["" if cleaning.is_missing(v) else v for v in values], dtype=object)[codes], index=index)


def _drop_headers(reading: Reading) -> None:
    repeats = header_rows(reading.table, reading.text)
    if not repeats.any():
        return
    reading.ledger.record(repeats.index[repeats], "path", None, None, "header-row")
    reading.table = reading.table[~repeats]
    reading.text = {c: s[~repeats] for c, s in reading.text.items()}
    reading.further = {c: s[~repeats] for c, s in reading.further.items()}
    reading.recorded = None if reading.recorded is None else reading.recorded[~repeats]


def _drop_bad_text(reading: Reading) -> pd.Series:
    """Take out text that isn't Unicode (bytes of a file name kept by the system, broken escapes); say which paths are such."""
    unreadable = pd.Series(data=False, index=reading.table.index)
    for columns in (reading.text, reading.further):
        for name, column in columns.items():
            values = column.fillna("").astype(str)
            if name == "path":
                unreadable |= values.str.contains("\0", regex=False)
            try:
                "".join(pd.unique(values)).encode()
            except UnicodeEncodeError:
                bad = ~values.map(_is_unicode).astype(bool)
                columns[name] = column.mask(bad, "")
                if name == "path":
                    unreadable |= bad
                else:
                    reading.ledger.record(bad.index[bad], name, None, None, "text-unreadable")
    if reading.recorded is not None:
        reading.recorded = reading.recorded.where(reading.recorded.fillna("").astype(str).map(_is_unicode).astype(bool), "")
    return unreadable


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _add_categories(done: Cleaned, reading: Reading, scheme: str, keep: set[str], nothing: pd.Series) -> None:
    for target in _CATEGORIES:
        done.table[target] = nothing
        if target not in reading.text:
            continue
        name, column = reading.names[target], reading.text[target]
        kept = name in keep
        recorded = reading.recorded if target == "ethnicity" else None
        if not kept and (kind := _kind(done, column) or (recorded is not None and _kind(done, recorded)) or None):
            _refuse_column(done, name, kind)
            continue
        clean = cleaning.clean_category(column, target, done.ledger, keep=kept)
        if target == "ethnicity":
            clean = harmonise(clean, scheme, done.ledger)
            if recorded is not None:
                done.table["ethnicity_recorded"] = _as_recorded(recorded, kept)
        done.table[target] = clean


def _as_recorded(column: pd.Series, keep: bool) -> pd.Series:
    """Give what was recorded, word for word, except single values that look like direct identifiers."""
    return cleaning.apply_by_value(
        column, lambda text: (None if not keep and kind_of_value(text) else text.strip(), None), "ethnicity_recorded", Ledger()
    )


def _kind(done: Cleaned, column: pd.Series) -> str | None:
    table = done.table
    return kind_of_column(column, patients=table["patient_id"], acquired=table["acquired_on"], ages=table["age"])


def _refuse_column(done: Cleaned, name: str, kind: str) -> None:
    done.identifiers[name] = kind
    done.ledger.note_column(name, f"not copied because of {kind}", "direct-identifier")


def _add_further(done: Cleaned, reading: Reading, layout: Profile, keep: set[str]) -> None:
    """Copy the manifest's other columns under their own names, except what identifies people directly."""
    table = done.table
    for new, sides in layout.by_eye.items():
        there = {side: source for side, source in sides.items() if source in reading.table.columns}
        if new in reading.further or not there:
            continue
        picked = pd.Series("", index=table.index, dtype=object)
        for side, source in there.items():
            picked = picked.mask(table["laterality"] == side, reading.table[source])
        reading.further[new] = picked
    taken = {c.casefold() for c in (*COLUMNS, *table.columns)}
    for column, values in reading.further.items():
        kept = column in keep
        kind = None if kept else (kind_by_name(column) or _kind(done, values))
        name = _column_name(column, taken)
        if kind:
            _refuse_column(done, name, kind)
            continue
        taken.add(name.casefold())
        done.table[name] = cleaning.clean_further(values, name, done.ledger, keep=kept)


def _column_name(column: str, taken: set[str]) -> str:
    """Give a column a name that a table can have, different from all others whatever the capitals."""
    printable = "".join(c if c.isprintable() else " " for c in column.encode("utf-8", "replace").decode())
    name = plain = " ".join(printable.split()) or "column"
    if name.casefold() in taken:
        name = plain = f"manifest_{plain}"
    number = 2
    while name.casefold() in taken:
        name, number = f"{plain}_{number}", number + 1
    return name


def _refuse_incomplete(table: pd.DataFrame, ledger: Ledger, unreadable: pd.Series) -> pd.DataFrame:
    ledger.record(table.index[unreadable], "path", None, None, "path-unreadable")
    table = table[~unreadable]
    # A row whose id lost its digits has its entry already.
    said = ledger.labels("id-scientific")
    table = table[~(table.index.isin(said) & table["patient_id"].isna())]
    for column, rule in (("path", "path-missing"), ("patient_id", "patient-missing")):
        codes, values = pd.factorize(table[column].fillna("").astype(str))
        gone = np.array([cleaning.is_missing(v) for v in values], dtype=bool)[codes]
        ledger.record(table.index[gone], column, None, None, rule)
        table = table[~gone]
    return table
