"""Ingest: from a manifest and its images to a cohort and a ledger of everything that was cleaned."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from curate import cleaning, console
from curate.artefacts import begin, drop, finish, give_up, partial_of, provenance, read_json, same_or_refuse, write_json, write_parquet
from curate.clean_table import Cleaned, clean_table
from curate.columns import make_layout
from curate.errors import UserError
from curate.ethnicity import AS_RECORDED, read_scheme
from curate.inspection import compare_all, examine_all, locate, refuse_copies
from curate.ledger import NOTING, REFUSING
from curate.manifest import Source, read_source
from curate.profiles import Profile
from curate.redaction import redact

_EXAMPLES = 3  # entries of each rule that --check shows
LOUD = 0.1  # share of refused rows that is worth a warning


def ingest_archive(
    manifest: str | Path | Sequence[str | Path],
    *,
    images: Sequence[Path] = (),
    out: Path = Path("cohort"),
    profile: str | None = None,
    column_map: Sequence[str] = (),
    codes: Sequence[str] = (),
    pattern: str | None = None,
    eyes: Sequence[str] = (),
    date_format: str | None = None,
    ethnicity_scheme: str = AS_RECORDED,
    keep_columns: Sequence[str] = (),
    encoding: str = "utf-8",
    sheet: str | None = None,
    split: str | None = None,
    query: str | None = None,
    name: str | None = None,
    subset: bool = False,
    max_bad: float = 0.01,
    check: bool = False,
    workers: int = 0,
) -> dict[str, Any]:
    """Make a cohort, or say what it would be.

    Args:
        manifest: a table, several tables that are stacked, a folder of images or of DICOM files, a dataset or a database:
            see `curate.manifest.read_source`.
        images: folders that hold the images; default: the manifest's folder, or the folder of images itself.
        out: the cohort folder to make.
        profile: how the table is coded: the name of a profile, or a file of one.
        column_map: texts ``COLUMN=Column in the table``, on top of the profile.
        codes: texts ``COLUMN=CODE:MEANING,...``, on top of the profile.
        pattern: regular expression searched in image paths; its named groups give cohort columns.
        eyes: for a table with one row a patient: texts ``left:path=Column in the table``, ``right:path=...``.
        date_format: of the date column, as for ``strptime``; ISO where None.
        ethnicity_scheme: the groups in which ethnicities are placed: ``ons-2021``, ``uk-biobank``, ``us-omb`` or
            ``as-recorded``.
        keep_columns: columns to copy though they look as if they identified people.
        encoding: of a text manifest.
        sheet: of a workbook.
        split: of a dataset.
        query: of a database.
        name: the cohort's name; default: that of the folder that holds the table.
        subset: leave out rows whose image isn't there instead of counting them as faults.
        max_bad: largest share of rows whose image may be missing or damaged.
        check: write nothing; problems are reported in the result instead of raised.
        workers: processes, 0 for one a core.

    Returns:
        The contents of ``cohort.json``, and ``identifiers`` (column that was not copied -> why) and ``warnings``. With `check`
        also ``examples`` (the ledger's first entries by rule) and ``problems`` (what stands in the way of a cohort).

    Raises:
        UserError: where the command can't go on; nothing is left behind.
    """
    layout = make_layout(profile, column_map, codes, pattern, eyes)
    if ethnicity_scheme != AS_RECORDED:
        read_scheme(ethnicity_scheme)
    wanted = layout.columns.get("path")
    source = read_source(
        manifest, encoding=encoding, sheet=sheet, split=split, query=query, skip_rows=layout.skip_rows,
        image_column=wanted if isinstance(wanted, str) else None, workers=workers,
    )  # fmt: skip
    layout.columns = {**source.columns, **layout.columns}
    if images and source.extract:
        raise UserError(f"--images: {source.name} brings its own photographs")
    if not (images or source.folder or source.extract):
        raise UserError(f"{source.name}: say where its images are, with --images FOLDER")
    folders = [Path(f) for f in images] or [source.folder or partial_of(out) / "images"]
    for folder in folders:
        if not source.extract and not folder.is_dir():
            raise UserError(f"--images {folder}: no such folder")
    specification = {
        "name": name or source.name,
        "profile": layout.model_dump(),
        "eyes": sorted(eyes),
        "date_format": date_format,
        "ethnicity_scheme": ethnicity_scheme,
        "keep_columns": sorted(keep_columns),
        "subset": subset,
        "max_bad": max_bad,
        "folders": [] if source.extract else [f.resolve().name for f in folders],
        "synthetic": source.synthetic,
        "source": {"sheet": sheet, "split": split, "query": redact(query) if query else None, "rows": dict(source.rows)},
    }
    made_by = provenance(specification, source.inputs)
    if check:
        if (out / "cohort.json").exists():
            try:
                same_or_refuse(out, read_json(out / "cohort.json", "a cohort").get("made_by", {}), made_by)
            except UserError as error:
                console.warn(f"{error}; nothing is written now")
        with tempfile.TemporaryDirectory() as scratch:
            return _check(source, layout, folders, made_by, Path(scratch), out, workers)
    partial = begin(out, "cohort.json", made_by)
    if partial is None:
        return {**read_json(out / "cohort.json", "a cohort"), "done_before": True}
    try:
        if source.extract:
            folders[0].mkdir(exist_ok=True)
            source.extract(folders[0], workers)
        return _make(source.table, layout, folders, made_by, partial, out, workers)
    except UserError as error:
        give_up(out, error)
        raise


def _make(
    raw: pd.DataFrame, layout: Profile, folders: list[Path], made_by: dict[str, Any], partial: Path, out: Path, workers: int
) -> dict[str, Any]:
    specification = made_by["specification"]
    cleaned = _clean(raw, layout, specification)
    if cleaned.problems:
        more = len(cleaned.problems) - 1
        raise UserError(cleaned.problems[0] + (f" (and {more} more: --check shows all)" if more else ""))
    root, table = _locate(cleaned, folders, specification["subset"])
    table = examine_all(table, root, partial, cleaned.ledger, float(specification["max_bad"]), specification["subset"], workers)
    table = _refuse(table, cleaned)
    table, duplicates = compare_all(table, root, partial, cleaned.ledger, workers)
    about = _describe(raw, table, cleaned, made_by)
    # The cohort stays valid when it is moved together with its images.
    about["images"] = os.path.relpath(root, partial.resolve() if root.is_relative_to(partial.resolve()) else out.resolve())
    write_parquet(partial / "cohort.parquet", table)
    write_parquet(partial / "duplicates.parquet", duplicates)
    write_parquet(partial / "ledger.parquet", cleaned.ledger.frame())
    drop(partial / "parts")
    write_json(partial / "cohort.json", about)
    finish(out)
    return about


def _check(
    source: Source, layout: Profile, folders: list[Path], made_by: dict[str, Any], scratch: Path, out: Path, workers: int
) -> dict[str, Any]:
    """Do everything that `_make` does, in a folder that is thrown away, and go on where that would stop."""
    specification = made_by["specification"]
    if source.extract:
        folders = [scratch / "images"]
        folders[0].mkdir()
        source.extract(folders[0], workers)
    cleaned = _clean(source.table, layout, specification)
    table = cleaned.table
    try:
        root, table = _locate(cleaned, folders, specification["subset"])

        def examine(limit: float) -> pd.DataFrame:
            return examine_all(table, root, scratch, cleaned.ledger, limit, specification["subset"], workers)

        unlimited = examine(1.0)
        broken = sum(cleaned.ledger.counts().get(rule, 0) for rule in ("image-missing", "image-damaged"))
        if broken > specification["max_bad"] * len(table):
            cleaned.problems.append(
                f"{broken:,} of {len(table):,} images are missing or damaged ({100 * broken / len(table):.3g} %), "
                f"more than --max-bad {100 * specification['max_bad']:g}%"
            )
        table = _refuse(unlimited, cleaned)
        table, _ = compare_all(table, root, scratch, cleaned.ledger, workers)
    except UserError as error:
        cleaned.problems.append(str(error))
        table = table.iloc[:0]
    about = _describe(source.table, table, cleaned, made_by)
    return {**about, "examples": cleaned.ledger.examples(_EXAMPLES), "problems": cleaned.problems}


def _clean(raw: pd.DataFrame, layout: Profile, specification: dict[str, Any]) -> Cleaned:
    return clean_table(
        raw,
        layout,
        stated_eyes=bool(specification["eyes"]),
        date_format=specification["date_format"],
        scheme=specification["ethnicity_scheme"],
        keep=specification["keep_columns"],
    )


def _locate(cleaned: Cleaned, folders: list[Path], subset: bool) -> tuple[Path, pd.DataFrame]:
    _refuse_nothing_left(cleaned.table, cleaned)
    root, table = locate(cleaned.table, folders, subset, cleaned.ledger)
    _refuse_nothing_left(table, cleaned)
    return root, table


def _refuse(table: pd.DataFrame, cleaned: Cleaned) -> pd.DataFrame:
    _refuse_nothing_left(table, cleaned)
    table = cleaning.refuse_conflicts(table, cleaned.ledger)
    table = refuse_copies(table, cleaned.ledger)
    _refuse_nothing_left(table, cleaned)
    return table


def _refuse_nothing_left(table: pd.DataFrame, cleaned: Cleaned) -> None:
    if table.empty:
        raise UserError(f"no row is left after cleaning ({_say_counts(cleaned.ledger.counts())})")


def _describe(raw: pd.DataFrame, table: pd.DataFrame, cleaned: Cleaned, made_by: dict[str, Any]) -> dict[str, Any]:
    specification = made_by["specification"]
    counts = cleaned.ledger.counts()
    refused = cleaned.listed - len(table)
    warnings = list(cleaned.warnings)
    if refused > LOUD * cleaned.listed:
        why = _say_counts({rule: n for rule, n in counts.items() if rule in REFUSING})
        warnings.append(f"{refused:,} of {cleaned.listed:,} rows were refused ({100 * refused / cleaned.listed:.3g} %): {why}")
    if unplaced := counts.get("ethnicity-unplaced"):
        warnings.append(
            f"{unplaced:,} recorded ethnicities have no one place in {specification['ethnicity_scheme']} and are missing; "
            "ethnicity_recorded keeps them"
        )
    return {
        "made_by": made_by,
        "name": specification["name"],
        "counts": {
            "manifest_rows": len(raw),
            "rows": cleaned.listed,
            "images": len(table),
            "patients": int(table["patient_id"].nunique()),
            "refused_rows": refused,
            "repaired_values": sum(n for rule, n in counts.items() if rule not in REFUSING | NOTING),
        },
        "rules": counts,
        "missing": {c: int(table[c].isna().sum()) for c in table.columns},
        "ethnicity_scheme": specification["ethnicity_scheme"],
        "identifiers": cleaned.identifiers,
        "warnings": warnings,
        "synthetic": bool(specification["synthetic"]),
        "patients_known": cleaned.patients_known,
    }


def _say_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{rule} {n:,}" for rule, n in counts.items()) or "no rule applied"
