"""Ingest: from a manifest and its images to a cohort and a ledger of everything that was cleaned."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate import cleaning
from curate.artefacts import begin, finish, partial_of, provenance, read_json, write_json, write_parquet
from curate.cohort import COLUMNS
from curate.errors import UserError, nearest
from curate.inspection import examine_all, locate, refuse_copies
from curate.ledger import REFUSING, Ledger
from curate.manifest import FIRST_ROW, read_source
from curate.profiles import SYNONYMS, Profile, parse_codes, parse_map, read_profile

# Searched in column names with underscores and hyphens read as spaces. A name alone identifies, a camera's name doesn't.
_IDENTIFIERS = re.compile(
    r"^name$|\b(dob|birth ?da(te|y)|date ?of ?birth|(first|last|full|given|family|patient|middle) ?name|surname|forename|address|street|"
    r"post ?code|zip ?code|(tele)?phone|mobile|e ?mail|nhs ?(number|no)|mrn|ssn|national id|insurance number)\b",
    re.IGNORECASE,
)


def ingest(
    manifest: str | Path,
    *,
    images: Sequence[Path] = (),
    out: Path = Path("cohort"),
    profile: str | None = None,
    column_map: Sequence[str] = (),
    codes: Sequence[str] = (),
    pattern: str | None = None,
    date_format: str | None = None,
    encoding: str = "utf-8",
    name: str | None = None,
    subset: bool = False,
    max_bad: float = 0.01,
    workers: int = 0,
) -> dict[str, Any]:
    """Make a cohort.

    Args:
        manifest: a table (.csv, .tsv, .parquet) or a folder of images.
        images: folders that hold the images; default: the manifest's folder, or the folder of images itself.
        out: the cohort folder to make.
        profile: how the table is coded: the name of a profile, or a file of one.
        column_map: texts ``COLUMN=Column in the table``, on top of the profile.
        codes: texts ``COLUMN=CODE:MEANING,...``, on top of the profile.
        pattern: regular expression searched in image paths; its named groups give cohort columns.
        date_format: of the date column, as for ``strptime``; ISO where None.
        encoding: of a text manifest.
        name: the cohort's name; default: that of the folder that holds the table.
        subset: leave out rows whose image isn't there instead of counting them as faults.
        max_bad: largest share of rows whose image may be missing or damaged.
        workers: processes, 0 for one a core.

    Returns:
        The contents of ``cohort.json``.

    Raises:
        UserError: where the command can't go on; nothing is left behind.
    """
    layout = _layout(profile, column_map, codes, pattern)
    source = read_source(manifest, encoding=encoding)
    layout.columns = {**source.columns, **layout.columns}
    if images and source.extract:
        raise UserError(f"--images: {manifest} brings its own photographs")
    folders = [Path(f) for f in images] or [source.folder or partial_of(out) / "images"]
    for folder in folders:
        if not source.extract and not folder.is_dir():
            raise UserError(f"--images {folder}: no such folder")
    specification = {
        "name": name or source.name,
        "profile": layout.model_dump(),
        "date_format": date_format,
        "subset": subset,
        "max_bad": max_bad,
        "folders": [] if source.extract else [f.resolve().name for f in folders],
        "synthetic": source.synthetic,
    }
    made_by = provenance(specification, source.inputs)
    partial = begin(out, "cohort.json", made_by)
    if partial is None:
        return {**read_json(out / "cohort.json", "a cohort"), "done_before": True}
    try:
        if source.extract:
            folders[0].mkdir(exist_ok=True)
            source.extract(folders[0], workers)
        return _make(source.table, layout, folders, made_by, partial, out, date_format, workers)
    except UserError:
        shutil.rmtree(partial_of(out), ignore_errors=True)
        raise


def _make(
    raw: pd.DataFrame,
    layout: Profile,
    folders: list[Path],
    made_by: dict[str, Any],
    partial: Path,
    out: Path,
    date_format: str | None,
    workers: int,
) -> dict[str, Any]:
    specification = made_by["specification"]
    ledger = Ledger()
    table, patients_known = _clean(raw, layout, date_format, ledger)
    root, table = locate(table, folders, specification["subset"], ledger)
    table = examine_all(table, root, partial, ledger, float(specification["max_bad"]), specification["subset"], workers)
    table = cleaning.refuse_conflicts(table, ledger)
    table = refuse_copies(table, ledger)
    if table.empty:
        raise UserError(f"no row is left after cleaning ({_say_counts(ledger.counts())})")
    table = table.sort_values("image_id", kind="stable", ignore_index=True)
    entries = ledger.frame()
    about = {
        "made_by": made_by,
        "name": specification["name"],
        # The cohort stays valid when it is moved together with its images.
        "images": os.path.relpath(root, partial.resolve() if root.is_relative_to(partial.resolve()) else out.resolve()),
        "counts": {
            "rows": len(raw),
            "images": len(table),
            "patients": int(table["patient_id"].nunique()),
            "refused_rows": len(raw) - len(table),
            "repaired_values": int((~entries["rule"].isin(REFUSING | {"same-photograph", "direct-identifier"})).sum()),
        },
        "rules": ledger.counts(),
        "missing": {c: int(table[c].isna().sum()) for c in table.columns},
        "ethnicity_scheme": "as-recorded",
        "synthetic": bool(specification["synthetic"]),
        "patients_known": patients_known,
    }
    write_parquet(partial / "cohort.parquet", table)
    write_parquet(partial / "ledger.parquet", entries)
    shutil.rmtree(partial / "parts", ignore_errors=True)
    write_json(partial / "cohort.json", about)
    finish(out)
    return about


def _layout(profile: str | None, column_map: Sequence[str], codes: Sequence[str], pattern: str | None) -> Profile:
    layout = read_profile(profile) if profile else Profile()
    layout.columns.update(parse_map(column_map))
    for column, meanings in parse_codes(codes).items():
        layout.codes[column] = meanings
    if pattern is not None:
        layout.pattern = pattern
    try:
        groups = re.compile(layout.pattern or "").groupindex
    except re.error as error:
        raise UserError(f"--pattern {layout.pattern}: not a regular expression ({error})") from None
    for group in groups:
        if group not in SYNONYMS:
            raise UserError(f"--pattern: a cohort has no column '{group}'{nearest(group, SYNONYMS)}")
    return layout


def _columns(raw: pd.DataFrame, layout: Profile) -> dict[str, str]:
    """Find which of the table's columns gives which cohort column."""
    for target, source in layout.columns.items():
        if source not in raw.columns:
            raise UserError(f"the manifest has no column '{source}' (wanted for {target}){nearest(source, map(str, raw.columns))}")
    columns = dict(layout.columns)
    plain = {re.sub(r"[\s-]+", "_", str(c).strip().lower()): str(c) for c in reversed(list(raw.columns))}
    for target, names in SYNONYMS.items():
        found = next((plain[n] for n in names if n in plain and plain[n] not in columns.values()), None)
        if target not in columns and found:
            columns[target] = found
    return columns


def _clean(raw: pd.DataFrame, layout: Profile, date_format: str | None, ledger: Ledger) -> tuple[pd.DataFrame, bool]:
    """Give the cohort's own columns (path still as the manifest has it) and every further one; rows without an id are refused."""
    columns = _columns(raw, layout)
    if "path" not in columns and "image_id" in columns:
        columns["path"] = columns["image_id"]
    if "path" not in columns:
        raise UserError(f"the manifest has no column of file names; name it with --map path=COLUMN{nearest('path', map(str, raw.columns))}")
    text = {target: raw[source] for target, source in columns.items()}
    if layout.pattern:
        found = raw[columns["path"]].fillna("").astype(str).str.extract(layout.pattern)
        text.update({str(c): found[c].fillna("") for c in found.columns if isinstance(c, str)})
    for target, meanings in layout.codes.items():
        if target in text:
            text[target] = cleaning.clean_coded(text[target], meanings, target, ledger)

    table = pd.DataFrame(index=raw.index)
    table["path"] = text["path"].fillna("").astype(str)
    table["image_id"] = text["image_id"].astype(str).str.strip() if "image_id" in text else ""
    patients_known = "patient_id" in text
    if patients_known:
        table["patient_id"] = cleaning.clean_patient_ids(text["patient_id"], ledger)
    elif list(raw.columns) == ["path"]:
        table["patient_id"] = table["path"].map(lambda p: f"image:{p}")
    else:
        raise UserError(
            f"the manifest has no column of patients; name it with --map patient_id=COLUMN{nearest('patient_id', map(str, raw.columns))}"
        )
    nothing = pd.Series(None, index=raw.index, dtype=object)
    name_of = {**{t: t for t in SYNONYMS}, **columns}
    table["laterality"] = cleaning.clean_laterality(text["laterality"], name_of["laterality"], ledger) if "laterality" in text else nothing
    dates = cleaning.clean_dates(text["acquired_on"], name_of["acquired_on"], date_format, ledger) if "acquired_on" in text else nothing
    table["acquired_on"] = dates
    years = pd.to_numeric(dates.astype("str").str[:4], errors="coerce").astype(float)
    table["age"] = cleaning.clean_age(text["age"], years, name_of["age"], ledger) if "age" in text else np.nan
    table["sex"] = cleaning.clean_sex(text["sex"], name_of["sex"], ledger) if "sex" in text else nothing
    for target in ("ethnicity", "device", "site"):
        table[target] = cleaning.clean_category(text[target], target, ledger) if target in text else nothing
    _add_further(table, raw, layout, set(columns.values()), ledger)
    return _refuse_incomplete(table, ledger), patients_known


def _add_further(table: pd.DataFrame, raw: pd.DataFrame, layout: Profile, used: set[str], ledger: Ledger) -> None:
    """Copy the manifest's other columns under their own names, except what identifies people directly."""
    for new, sides in layout.by_eye.items():
        missing = [c for c in sides.values() if c not in raw.columns]
        if missing:
            raise UserError(f"the manifest has no column '{missing[0]}' (wanted for {new}){nearest(missing[0], map(str, raw.columns))}")
        picked = pd.Series("", index=raw.index, dtype=object)
        for side, source in sides.items():
            picked = picked.mask(table["laterality"] == side, raw[source])
        table[new] = cleaning.clean_further(picked)
    for column in map(str, raw.columns):
        if column in used or column in layout.leave_out:
            continue
        if _IDENTIFIERS.search(re.sub(r"[_-]+", " ", column)):
            ledger.record([FIRST_ROW - 1], column, None, None, "direct-identifier")
            continue
        values = raw[column]
        if column in layout.codes:
            values = cleaning.clean_coded(values, layout.codes[column], column, ledger)
        table[f"manifest_{column}" if column in (*COLUMNS, *table.columns) else column] = cleaning.clean_further(values)


def _refuse_incomplete(table: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
    for column, rule in (("path", "path-missing"), ("patient_id", "patient-missing")):
        gone = table[column].fillna("").astype(str).str.strip() == ""
        ledger.record(table.index[gone], column, None, None, rule)
        table = table[~gone]
    return table


def _say_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{rule} {n:,}" for rule, n in counts.items()) or "no rule applied"
