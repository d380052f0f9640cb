"""Read the tables of a measuring tool and bring them to the cohort's images."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate import console
from curate.artefacts import sha256_file
from curate.errors import UserError, nearest
from curate.imported.matching import match
from curate.imported.profile import MeasureProfile, plain, read_measure_profile
from curate.imported.values import LEDGER, Changes, clear_ratios, first_conflict, grades, numbers

_NAMED = 3  # names that a message shows


@dataclass(frozen=True)
class Imported:
    """What one tool's tables hold of a cohort's images.

    Attributes:
        profile: how they were read.
        table: a row an image that they name, indexed by ``image_id``: float64 columns of measures, and ``quality`` where graded.
        ledger: what became missing: columns as in `curate.imported.values.LEDGER`.
        about: counts, columns and notes, as they go into ``measurements.json``.
        inputs: each table, and the profile -> SHA-256.
    """

    profile: MeasureProfile
    table: pd.DataFrame
    ledger: pd.DataFrame
    about: dict[str, Any]
    inputs: dict[str, str]

    @property
    def compatible(self) -> str | None:
        """Whose definitions the measures follow, where they have names of ours; None where the tables hold grades alone."""
        return self.profile.compatible if any(c != "quality" for c in self.table.columns) else None


def parse_imports(options: Sequence[str]) -> dict[str, Path]:
    """Read ``--import automorph=DIR`` (repeatable).

    Returns:
        Tool, or path of a profile -> file or folder.

    Raises:
        UserError: where a text isn't of that form, or a tool is named twice.
    """
    imports: dict[str, Path] = {}
    for option in options:
        tool, equals, place = option.partition("=")
        if not (tool and equals and place):
            raise UserError(f"--import {option}: expected TOOL=FOLDER or TOOL=FILE, as automorph=Results")
        if tool in imports:
            raise UserError(f"--import {option}: {tool} is named twice; give the folder that holds all of its tables")
        imports[tool] = Path(place)
    return imports


def import_tables(tool: str, place: Path, cohort: pd.DataFrame) -> Imported:
    """Read the tables of one tool and bring them to the cohort's images.

    Args:
        tool: a name in ``curate/profiles/measures``, or the path of a profile of the user's own.
        place: one of its tables, or a folder that holds them at any depth.
        cohort: columns image_id and path, a row an image.

    Returns:
        The measures, what was changed in them, and counts.

    Raises:
        UserError: where there is no such tool or table, a table can't be read or has none of the tool's columns, no row is of an
            image of the cohort, or rows of one image disagree.
    """
    profile = read_measure_profile(tool)
    files = _files(profile, place)
    ids, paths = cohort["image_id"].to_numpy(dtype=object), cohort["path"].tolist()
    parts, ledgers, counts = [], [], Counter[str]()
    unmatched: dict[str, None] = {}
    ambiguous: dict[str, None] = {}
    left_out: dict[str, None] = {}
    for name, file in files.items():
        text = _read(file)
        if text.empty:
            console.warn(f"{file}: holds no rows")
            continue
        image = _image_column(profile, text, file)
        columns = _columns(profile, text, file)
        matches = match(text[image].tolist(), paths, cut=profile.names == "cut")
        rows = np.array([number is not None for number in matches.image], dtype=bool)
        counts.update(rows=len(text), matched=int(rows.sum()))
        unmatched |= dict.fromkeys(matches.unmatched)
        ambiguous |= dict.fromkeys(matches.ambiguous)
        if not rows.any():
            continue
        numbered = text.index.to_numpy(dtype=np.int64)[rows]
        changes = Changes(name, ids[[n for n in matches.image if n is not None]], numbered)
        own = text[rows].reset_index(drop=True)
        values, useless = _values(profile, own, columns, changes)
        left_out |= dict.fromkeys(useless)
        parts.append(values.assign(image_id=changes.image_id, __file=name, __row=numbered))
        ledgers.append(changes.frame())
    if not parts:
        raise UserError(_nothing(profile.title, place, files, [*unmatched, *ambiguous], paths))
    table = _merge(profile, parts)
    ledger = pd.concat(ledgers, ignore_index=True).sort_values(["image_id", "file", "row"], kind="stable", ignore_index=True)
    about = {
        "tool": profile.title,
        "rows": counts["rows"],
        "matched": counts["matched"],
        "images": len(table),
        "images_without_a_row": len(ids) - len(table),
        "unmatched": {"names": len(unmatched), "first": list(unmatched)[:_NAMED]},
        "ambiguous": {"names": len(ambiguous), "first": list(ambiguous)[:_NAMED]},
        "columns": [str(c) for c in table.columns],
        "left_out": list(left_out),
        "nulled": {str(rule): int(n) for rule, n in ledger["rule"].value_counts().sort_index().items()},
        "notes": profile.notes,
    }
    digest = hashlib.sha256(profile.model_dump_json().encode()).hexdigest()
    inputs = {f"{profile.title} profile": digest, **{f"{profile.title} {name}": sha256_file(file) for name, file in files.items()}}
    return Imported(profile, table, ledger, about, inputs)


def show_import(about: Mapping[str, Any]) -> None:
    """Say what was imported, and what a reader must know of it."""
    tool = about["tool"]
    console.say(f"{tool}: {about['matched']:,} of {about['rows']:,} rows belong to {about['images']:,} images of the cohort")
    for kind, what in (("unmatched", "belong to no image of the cohort"), ("ambiguous", "could be several images, and are left out")):
        if about[kind]["names"]:
            more = ", ..." if about[kind]["names"] > _NAMED else ""
            console.warn(f"{tool}: {about[kind]['names']:,} names {what}: {', '.join(about[kind]['first'])}{more}")
    if about["images_without_a_row"]:
        console.warn(f"{tool}: {about['images_without_a_row']:,} images of the cohort have no row")
    if about["left_out"]:
        console.warn(f"{tool}: columns without a number are left out: {', '.join(about['left_out'][:8])}")
    if about["nulled"]:
        each = ", ".join(f"{rule} {count:,}" for rule, count in about["nulled"].items())
        console.warn(f"{tool}: values that became missing, see measurements_ledger.parquet: {each}")
    for note in about["notes"]:
        console.warn(f"{tool}: {note}")


def _files(profile: MeasureProfile, place: Path) -> dict[str, Path]:
    """Find the tables: name within the folder -> file."""
    if not place.exists():
        raise UserError(f"{place}: no such file or folder")
    if place.is_file():
        return {place.name: place}
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            if any(fnmatch(name.casefold(), pattern.casefold()) for pattern in profile.tables):
                file = Path(folder) / name
                found[file.relative_to(place).as_posix()] = file
    if not found:
        raise UserError(f"{place}: holds no table of {profile.title} ({', '.join(profile.tables)}); name the file itself")
    return found


def _read(file: Path) -> pd.DataFrame:
    """Read a table as text, its index the rows' numbers."""
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    if suffix in (".csv", ".tsv", ".txt"):
        from curate.manifest.delimited import read_delimited

        try:
            table = read_delimited(file, encoding="utf-8", skip_rows=0)
        except UserError as error:
            if "--encoding" in str(error):
                raise UserError(f"{file}: not UTF-8; save it as UTF-8") from None
            raise
    elif suffix in (".xlsx", ".xlsm"):
        from curate.manifest.spreadsheet import read_spreadsheet

        table = read_spreadsheet(file, sheet=None, skip_rows=0)
    elif suffix == ".parquet":
        from curate.manifest.parquet import read_parquet

        table = read_parquet(file)
    else:
        raise UserError(f"{file}: expected a table (.csv, .tsv, .xlsx or .parquet)")
    doubled = table.columns[table.columns.duplicated()]
    if len(doubled):
        raise UserError(f"{file}: two columns are called '{doubled[0]}'; rename one")
    return table


def _image_column(profile: MeasureProfile, text: pd.DataFrame, file: Path) -> str:
    there = {plain(str(c)): str(c) for c in reversed(text.columns)}
    for name in profile.image:
        if plain(name) in there:
            return there[plain(name)]
    raise UserError(f"{file}: no column says which image a row is of (looked for {', '.join(profile.image)}){_shown(text)}")


def _columns(profile: MeasureProfile, text: pd.DataFrame, file: Path) -> dict[str, str]:
    """Find the tool's columns: column of measures -> the table's column."""
    columns: dict[str, str] = {}
    names = {alias: column for column, aliases in profile.wanted().items() for alias in aliases}
    for title in map(str, text.columns):
        own = title.strip()
        column = names.get(plain(own))
        image = any(plain(own) == plain(name) for name in profile.image)
        if column is None and profile.keep is not None and not image and re.fullmatch(profile.keep, own):
            column = profile.prefix + own
        if column is None or column in ("image_id", "state", "quality"):
            continue
        if column in columns:
            raise UserError(f"{file}: columns '{columns[column]}' and '{title}' both give {column}; leave one out")
        columns[column] = title
    graded = profile.quality is not None and profile.quality.column in text.columns
    if not columns and not graded:
        wanted = [*profile.wanted(), *([profile.quality.column] if profile.quality else [])]
        raise UserError(f"{file}: none of its columns is one of {profile.title}'s{nearest(str(text.columns[-1]), wanted)}{_shown(text)}")
    return columns


def _shown(text: pd.DataFrame) -> str:
    names = [str(c) for c in text.columns]
    return f"; it has {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"


def _values(profile: MeasureProfile, text: pd.DataFrame, columns: dict[str, str], changes: Changes) -> tuple[pd.DataFrame, list[str]]:
    """Read the numbers and the grade of one table; also names the columns that hold none and are no measures."""
    useless = []
    read: dict[str, pd.Series] = {}
    for column, title in columns.items():
        trial = Changes(changes.file, changes.image_id, changes.row)
        values = numbers(text[title], column, profile.failed, trial)
        # Which further columns a tool writes is not known beforehand: one of words is no measure.
        if column not in profile.wanted() and profile.prefix and values.isna().all() and (text[title].str.strip() != "").any():
            useless.append(title)
            continue
        changes.take(trial)
        read[column] = values
    table = pd.DataFrame(read, index=text.index)
    originals = pd.DataFrame({column: text[columns[column]] for column in read}, index=text.index)
    clear_ratios(table, originals, profile.ratios, changes)
    graded = profile.quality
    if graded is not None and graded.column in text.columns:
        limits = {c: limit for c, limit in graded.reject_from.items() if c in text.columns}
        unrecorded = Changes(changes.file, changes.image_id, changes.row)
        limiting = {c: numbers(text[c], c, profile.failed, unrecorded) for c in limits}
        table["quality"] = grades(text[graded.column], graded.codes, limiting, limits, changes)
    return table, useless


def _merge(profile: MeasureProfile, parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Bring several tables, and several rows of an image that agree, to one row an image."""
    rows = pd.concat(parts, ignore_index=True).set_index("image_id")
    place = rows[["__file", "__row"]]
    table = rows.drop(columns=["__file", "__row"])
    conflict = first_conflict(table)
    if conflict is not None:
        image, column = conflict
        there = table.loc[[image], column]
        known = there.notna().to_numpy()
        said = [f"{v} ({f} row {r})" for v, (f, r) in zip(there[known], place.loc[[image]].to_numpy()[known], strict=True)]
        different = [said[0], next(s for s, v in zip(said, there[known], strict=True) if v != there[known].iloc[0])]
        raise UserError(f"{profile.title}: rows of image {image} disagree: {column} is {' and '.join(different)}; leave one of them out")
    if table.index.has_duplicates:
        table = table.groupby(level=0, sort=False).first()
    table = table.sort_index(kind="stable")
    return table.astype({c: "string" if c == "quality" else "float64" for c in table.columns})


def _nothing(title: str, place: Path, files: dict[str, Path], names: list[str], paths: list[str]) -> str:
    if not names:
        return f"{place}: no table of {title} holds a row ({', '.join(list(files)[:_NAMED])})"
    theirs, ours = names[0], paths[0] if paths else "none"
    return f"{place}: no row belongs to one image of the cohort; {title} names them as {theirs!r}, the cohort as {ours!r}"


def add_imports(table: pd.DataFrame, imports: Sequence[Imported]) -> pd.DataFrame:
    """Put imported columns into a table of measures, in the place of its own of the same names.

    Args:
        table: image_id, state and what was measured, a row an image.
        imports: of one tool each.

    Returns:
        The table with the imported columns behind its own. Of a tool with definitions under our names none of our own is left
        under such a name, even where the tool has no value: a column comes from one source.

    Raises:
        UserError: where two tools give one column.
    """
    given: dict[str, str] = {}
    for found in imports:
        title = found.profile.title
        if twice := [c for c in found.table.columns if c in given]:
            raise UserError(f"{title} and {given[twice[0]]} both give {twice[0]}; import one of them")
        given |= dict.fromkeys(map(str, found.table.columns), title)
        named = [c for c in table.columns if found.compatible is not None and c != "quality" and found.profile.has(str(c))]
        table = table.drop(columns=[*named, *(c for c in found.table.columns if c in table.columns and c not in named)])
        table = table.join(found.table, on="image_id")
    return table


def join_ledgers(imports: Sequence[Imported]) -> pd.DataFrame:
    """Put the ledgers of several tools below each other: columns image_id, tool, file, row, column, before, after, rule."""
    ledgers = [found.ledger.assign(tool=pd.Series(found.profile.title, index=found.ledger.index, dtype="string")) for found in imports]
    whole = pd.concat(ledgers, ignore_index=True)
    return whole[["image_id", "tool", *(c for c in LEDGER if c != "image_id")]]
