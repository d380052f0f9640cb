"""Inspection: every photograph of a manifest is found, decoded, hashed and compared with every other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from curate.artefacts import write_parquet
from curate.cohort import COLUMNS
from curate.errors import UserError
from curate.ledger import Ledger
from curate.manifest import IMAGE_SUFFIXES
from curate.parts import run_parts, slices
from curate.photographs import examine

_PART = 1024


def locate(table: pd.DataFrame, folders: list[Path], subset: bool, ledger: Ledger) -> tuple[Path, pd.DataFrame]:
    """Find each row's file in the folders; paths become relative to their common parent, ids are made where there are none."""
    roots = [f.resolve() for f in folders]
    root = Path(os.path.commonpath(roots))
    found: dict[str, tuple[str, str | None]] = {}
    for path in table["path"].unique():
        found[path] = _find(path, roots, root)
    table = table.copy()
    given = table["path"]
    table["path"] = [found[p][0] for p in given]
    for rule in ("path-extension", "path-outside"):
        rows = table.index[[found[p][1] == rule for p in given]]
        ledger.record(rows, "path", given.loc[rows].tolist(), table.loc[rows, "path"].tolist() if rule == "path-extension" else None, rule)
        if rule == "path-outside":
            table = table.drop(rows)
    absent = table.index[[found[p][1] == "image-missing" for p in given.loc[table.index]]]
    if subset:
        ledger.record(absent, "path", given.loc[absent].tolist(), None, "image-elsewhere")
        table = table.drop(absent)
        if table.empty:
            raise UserError(f"none of the manifest's {len(given):,} images is in {', '.join(map(str, folders))}")
    nameless = table["image_id"].isin(["", "nan", "None"])
    # The id is the path as the manifest gives it, without its ending: it stays the same when the folder moves.
    made = [_without_suffix(p) for p in given.loc[table.index]]
    table["image_id"] = table["image_id"].where(~nameless, pd.Series(made, index=table.index, dtype=object))
    return root, _refuse_doubled(table, ledger)


def _find(path: str, roots: list[Path], root: Path) -> tuple[str, str | None]:
    if "\0" in path:
        return path, "path-outside"
    for base in roots:
        full = os.path.normpath(os.path.join(base, path))
        if os.path.commonpath([str(base), full]) != str(base):
            return path, "path-outside"
        if os.path.isfile(full):
            return os.path.relpath(full, root), None
        for suffix in IMAGE_SUFFIXES:
            for ending in (suffix, suffix.upper()):
                if os.path.isfile(full + ending):
                    return os.path.relpath(full + ending, root), "path-extension"
    return os.path.relpath(os.path.normpath(os.path.join(roots[0], path)), root), "image-missing"


def _without_suffix(path: str) -> str:
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in IMAGE_SUFFIXES else path


def _refuse_doubled(table: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
    """Drop rows that say the same again; refuse all rows of an image that is given to different people or eyes."""
    again = table.duplicated(keep="first")
    ledger.record(table.index[again], "image_id", table.loc[again, "image_id"].tolist(), None, "duplicate-row")
    table = table[~again]
    torn = table["image_id"].duplicated(keep=False) | table["path"].duplicated(keep=False)
    ledger.record(table.index[torn], "image_id", table.loc[torn, "image_id"].tolist(), None, "duplicate-image")
    return table[~torn]


def _examine_part(folder: str, rows: list[int], paths: list[str], to: Path) -> dict[str, Any]:
    results = [{"row": row, **examine(folder, path)} for row, path in zip(rows, paths, strict=True)]
    columns = ("row", "sha256", "phash", "width", "height", "fault", "reason")
    write_parquet(to, pd.DataFrame({c: [r.get(c) for r in results] for c in columns}))
    return {"images": len(results), "bad": sum("fault" in r for r in results)}


def examine_all(table: pd.DataFrame, root: Path, partial: Path, ledger: Ledger, max_bad: float, subset: bool, workers: int) -> pd.DataFrame:
    """Decode and hash every image; refuse rows without a good one, and stop where there are too many of those."""
    parts_folder = partial / "parts"
    parts_folder.mkdir(exist_ok=True)
    runs = slices(len(table), _PART)
    parts = [
        (
            f"images-{i:06d}",
            stop - start,
            (
                str(root),
                table.index[start:stop].tolist(),
                table["path"].iloc[start:stop].tolist(),
                parts_folder / f"images-{i:06d}.parquet",
            ),
        )
        for i, (start, stop) in enumerate(runs)
    ]
    run_parts(_examine_part, parts, markers=parts_folder, workers=workers, label="reading images")
    seen = pd.concat([pd.read_parquet(arguments[3]) for _, _, arguments in parts], ignore_index=True).set_index("row")
    bad = seen[seen["fault"].notna()]
    for rule, group in bad.groupby("fault", sort=True):
        ledger.record(group.index, "path", table.loc[group.index, "path"].tolist(), None, str(rule))
    broken = bad[bad["fault"].isin(["image-missing", "image-damaged"])]
    if len(broken) > max_bad * len(table):
        first = broken.index[0]
        share = f"{100 * len(broken) / len(table):.2g} %"
        raise UserError(
            f"{len(broken):,} of {len(table):,} images are missing or damaged ({share}), more than --max-bad {100 * max_bad:g}%; "
            f"first: row {first}, {table.loc[first, 'path']} ({broken.loc[first, 'reason']})"
            + ("" if subset else "; --subset if the folder holds only a part of the archive")
        )
    good = seen[seen["fault"].isna()]
    table = table.loc[good.index]
    extra = good[["width", "height", "sha256", "phash"]].astype({"width": "int64", "height": "int64"})
    ordered = [c for c in COLUMNS if c in table.columns]
    table = pd.concat([table[ordered], extra, table[[c for c in table.columns if c not in COLUMNS]]], axis=1)
    return table.astype({c: "str" for c in COLUMNS if c not in ("age", "width", "height")})


def refuse_copies(table: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
    """Refuse second copies of one patient's file; note files that stand under two patients, for every split to keep together."""
    again = table.duplicated(["patient_id", "sha256"], keep="first")
    ledger.record(table.index[again], "image_id", table.loc[again, "image_id"].tolist(), None, "duplicate-file")
    table = table[~again]
    shared = table["sha256"].duplicated(keep=False)
    ledger.record(
        table.index[shared], "sha256", table.loc[shared, "sha256"].tolist(), table.loc[shared, "sha256"].tolist(), "same-photograph"
    )
    return table
