"""Columns: which of a manifest's columns says what, and the text that each gives before anything is cleaned."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from curate.cleaning import clean_coded, is_missing
from curate.errors import UserError, nearest
from curate.eyes import Long, by_instance, each_name, find_column, one_row_a_photograph, plain_name
from curate.ledger import Ledger
from curate.manifest import FILE_COLUMN
from curate.profiles import MAPPABLE, SYNONYMS, Profile, parse_codes, parse_eyes, parse_map, read_profile

# What a pattern's named groups may give.
GROUPS = (*MAPPABLE, "instance")


@dataclass
class Reading:
    """A manifest whose columns have been found.

    Attributes:
        table: the manifest's columns, one row an image.
        ledger: knows which of the manifest's rows each row is.
        text: cohort column -> what the manifest says.
        recorded: what it says of ethnicity before any code was given its meaning; None where there is no such column.
        further: column -> text, for the columns that no cohort column is made from.
        names: cohort column -> the manifest's name for it, for messages.
        patients_known: whether something says who is on an image.
        missing_columns: what could not be found.
    """

    table: pd.DataFrame
    ledger: Ledger
    text: dict[str, pd.Series]
    recorded: pd.Series | None
    further: dict[str, pd.Series]
    names: dict[str, str]
    patients_known: bool
    missing_columns: list[str] = field(default_factory=list)


def make_layout(profile: str | None, column_map: Sequence[str], codes: Sequence[str], pattern: str | None, eyes: Sequence[str]) -> Profile:
    """Put a profile and what the user states on top of it together.

    Args:
        profile: name or file of a profile.
        column_map: texts ``COLUMN=Column in the table``.
        codes: texts ``COLUMN=CODE:MEANING,...``.
        pattern: regular expression searched in image paths.
        eyes: texts ``left:COLUMN=Column in the table``.

    Raises:
        UserError: where one of them can't be read.
    """
    layout = read_profile(profile) if profile else Profile()
    stated = parse_map(column_map)
    layout.columns.update(stated)
    layout.optional = [c for c in layout.optional if c not in stated]
    layout.state_codes(parse_codes(codes))
    if eyes:
        layout.eyes = parse_eyes(eyes)  # type: ignore[assignment]
        layout.columns.pop("path", None)
    if pattern is not None:
        layout.pattern = pattern
    for where, expression in {"--pattern": layout.pattern, **layout.extract}.items():
        for group in _compile(expression, where).groupindex:
            if group not in GROUPS:
                raise UserError(f"{where}: a cohort has no column '{group}'{nearest(group, GROUPS)}")
    for expression in layout.make_path.patterns if layout.make_path else ():
        _compile(expression, "make_path")
    return layout


def _compile(expression: str | None, where: str) -> re.Pattern[str]:
    try:
        return re.compile(expression or "")
    except re.error as error:
        raise UserError(f"{where} {expression}: not a regular expression ({error})") from None


def read_columns(raw: pd.DataFrame, layout: Profile, stated_eyes: bool) -> Reading:
    """Find the columns of a manifest and give their text, codes replaced by their meanings.

    Args:
        raw: the manifest, all text.
        layout: from `make_layout`.
        stated_eyes: whether the user said that the table has one row a patient.

    Raises:
        UserError: where nothing gives the images' paths, or two columns could be meant.
    """
    columns, absent = _find(raw, layout)
    long = Long(raw.reset_index(drop=True), raw.index.to_numpy())
    if layout.eyes and (stated_eyes or "path" not in columns):
        columns.pop("path", None)
        long = one_row_a_photograph(raw, layout.eyes)
    table = long.table
    ledger = Ledger(long.rows)
    text = {target: table[source] for target, source in columns.items()}
    used = {*columns.values(), *long.used}
    text.update({t: s for t, s in long.text.items() if t in GROUPS})
    further = {t: s for t, s in long.text.items() if t not in GROUPS}
    if "path" not in text and "image_id" in text:
        text["path"], columns["path"] = text["image_id"], columns["image_id"]
    _extract(table, text, layout)
    if "path" not in text and not layout.make_path:
        shown = nearest("path", map(str, raw.columns))
        raise UserError(f"the manifest has no column of file names; name it with --map path=COLUMN{shown}")
    if layout.pattern and "path" in text:
        _add_groups(text, text["path"], layout.pattern, keep={*(set(layout.columns) & set(columns)), *long.text})
    _by_visit(table, text, columns, used, layout)
    if "path" not in text or layout.make_path:
        _make_paths(table, text, layout)
    recorded = text.get("ethnicity")
    further |= _further(table, layout, used)
    target_of = {source: target for target, source in columns.items()}
    for column, meanings in layout.codes.items():
        target = column if column in text or column in further else target_of.get(column, "")
        if target in text:
            text[target] = clean_coded(text[target], meanings, target, ledger)
        elif target in further:
            further[target] = clean_coded(further[target], meanings, target, ledger)
        elif column in layout.stated_codes:
            raise UserError(f"--codes {column}: there is no such column{nearest(column, [*text, *further, *target_of])}")
    if "instance" in text:
        further["instance"] = text.pop("instance")
    absent = [t for t in absent if t not in text]
    missing = [_say_missing(t, layout, raw) for t in absent if t not in layout.optional]
    known = "patient_id" in text
    if not known and list(raw.columns) == ["path"]:
        text["patient_id"] = text["path"].map(lambda p: f"image:{p}")
    return Reading(table, ledger, text, recorded, further, {**{t: t for t in MAPPABLE}, **columns}, known, missing)


def _find(raw: pd.DataFrame, layout: Profile) -> tuple[dict[str, str], list[str]]:
    """Find which of the table's columns gives which cohort column; also say which stated ones aren't there."""
    there = list(map(str, raw.columns))
    columns: dict[str, str] = {}
    absent = []
    for target, names in layout.columns.items():
        plain_names = [n for n in each_name(names) if "{" not in n]
        if plain_names and (found := find_column(plain_names, there)):
            columns[target] = found
        else:
            absent.append(target)
    given = set(columns) | set(absent) | set(_compile(layout.pattern, "--pattern").groupindex)
    given |= {group for expression in layout.extract.values() for group in _compile(expression, "extract").groupindex}
    given |= {t for wanted in layout.eyes.values() for t in wanted} | {"laterality"} if layout.eyes else set()
    by_plain: dict[str, list[str]] = {}
    for column in there:
        by_plain.setdefault(plain_name(column), []).append(column)
    for target, usual in SYNONYMS.items():
        if target in given:
            continue
        for name in usual:
            candidates = [c for c in by_plain.get(name, []) if c not in columns.values()]
            if len(candidates) > 1 and any(not raw[c].equals(raw[candidates[0]]) for c in candidates[1:]):
                shown = " and ".join(f"'{c}'" for c in candidates)
                raise UserError(f"columns {shown} both could be {target} and differ; say which, as --map {target}={candidates[0]}")
            if candidates:
                columns[target] = candidates[0]
                break
    return columns, absent


def _say_missing(target: str, layout: Profile, raw: pd.DataFrame) -> str:
    name = each_name(layout.columns[target])[0]
    return f"the manifest has no column '{name}' (wanted for {target}){nearest(name, map(str, raw.columns))}"


def _add_groups(text: dict[str, pd.Series], searched: pd.Series, expression: str, keep: set[str]) -> None:
    """Add what a pattern's named groups find; a stated column's own values go first."""
    codes, values = pd.factorize(searched.fillna("").astype(str))
    compiled = re.compile(expression)
    matches = [compiled.search(v) for v in values]
    for group in compiled.groupindex:
        found = pd.Series(np.array([(m[group] or "") if m else "" for m in matches], dtype=object)[codes], index=searched.index)
        if group in text:
            own = text[group].fillna("").astype(str)
            found = own.where(own.str.strip() != "", found) if group in keep else found.where(found != "", own)
        text[group] = found


def _extract(table: pd.DataFrame, text: dict[str, pd.Series], layout: Profile) -> None:
    for name, expression in layout.extract.items():
        searched = text.get(name)
        if searched is None and (column := find_column(name, map(str, table.columns))):
            searched = table[column]
        if searched is None:
            continue
        _add_groups(text, searched, expression, keep=set())


def _by_visit(table: pd.DataFrame, text: dict[str, pd.Series], columns: dict[str, str], used: set[str], layout: Profile) -> None:
    """Take what belongs to the visit of each photograph from the columns of that visit."""
    instance = text.get("instance", pd.Series("", index=table.index, dtype=object))
    for target, names in layout.columns.items():
        if target in text or not any("{instance}" in n for n in each_name(names)):
            continue
        found = by_instance(table, names, instance)
        if found is not None:
            text[target] = found[0]
            columns[target] = found[1][0]
            used |= set(found[1])


def _make_paths(table: pd.DataFrame, text: dict[str, pd.Series], layout: Profile) -> None:
    if layout.make_path is None:
        return
    parts = re.split(r"\{(\w+)\}", layout.make_path.template)
    whole = pd.Series(parts[0], index=table.index, dtype=object)
    for name, after in zip(parts[1::2], parts[2::2], strict=True):
        column = text[name] if name in text else table[name] if name in table.columns else None
        if column is None:
            return
        whole = whole + column.fillna("").astype(str).str.strip() + after
    compiled = {re.compile(expression): name for expression, name in layout.make_path.patterns.items()}
    codes, values = pd.factorize(whole)
    made = [next((m.expand(name) for pattern, name in compiled.items() if (m := pattern.fullmatch(v))), "") for v in values]
    paths = pd.Series(np.array(made, dtype=object)[codes], index=table.index)
    text["path"] = paths.where(paths != "", text["path"]) if "path" in text else paths


def _further(table: pd.DataFrame, layout: Profile, used: set[str]) -> dict[str, pd.Series]:
    there = list(map(str, table.columns))
    names = {found: new for new, wanted in layout.rename.items() if (found := find_column(wanted, there))}
    return {names.get(c, c): table[c] for c in there if c not in used and c not in layout.leave_out}


def header_rows(table: pd.DataFrame, text: Mapping[str, pd.Series]) -> pd.Series:
    """Say which rows repeat the header: each cell that holds anything holds its column's name, or "ID" where ids are."""
    first = text.get("patient_id", pd.Series("", index=table.index)).fillna("").astype(str).str.strip().str.casefold()
    names = {str(c).casefold() for c in table.columns}
    likely = first.isin(names | {"id"})
    repeats = pd.Series(data=False, index=table.index)
    for label in table.index[likely]:
        cells = {str(c): str(v).strip().casefold() for c, v in table.loc[label].items() if str(c) != FILE_COLUMN and not is_missing(str(v))}
        repeats[label] = all(v in (c.casefold(), "id") for c, v in cells.items())
    return repeats
