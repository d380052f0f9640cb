"""Inspection: every photograph of a manifest is found, decoded, hashed and compared with every other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from curate.artefacts import write_parquet
from curate.cohort import COLUMNS
from curate.errors import UserError
from curate.find_files import Folders
from curate.ledger import REFUSING, Ledger
from curate.manifest import IMAGE_SUFFIXES
from curate.near_duplicates import find_near_duplicates
from curate.parts import run_parts, slices
from curate.photographs import examine

_PART = 1024
FINE = "\0fine"  # carries the fine hash until near-duplicates have been looked for; no column of a table can be called so


def locate(table: pd.DataFrame, folders: list[Path], subset: bool, ledger: Ledger) -> tuple[Path, pd.DataFrame]:
    """Find each row's file in the folders; paths become relative to their common parent, ids are made where there are none."""
    search = Folders(folders)
    root = search.root
    found = {path: search.find(path) for path in table["path"].unique()}
    table = table.copy()
    given = table["path"]
    table["path"] = [found[p][0] for p in given]
    for rule in ("path-extension", "path-spelling", "path-outside", "path-unreadable"):
        rows = table.index[[found[p][1] == rule for p in given.loc[table.index]]]
        refused = rule in REFUSING
        ledger.record(rows, "path", given.loc[rows].tolist(), None if refused else table.loc[rows, "path"].tolist(), rule)
        if refused:
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
    columns = ("row", "sha256", "phash", "fine", "width", "height", "fault", "reason")
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
    run_parts(_examine_part, parts, markers=parts_folder, workers=workers, label="reading images", last=False)
    seen = pd.concat([pd.read_parquet(arguments[3]) for _, _, arguments in parts], ignore_index=True).set_index("row")
    bad = seen[seen["fault"].notna()]
    for rule, group in bad.groupby("fault", sort=True):
        ledger.record(group.index, "path", table.loc[group.index, "path"].tolist(), None, str(rule))
    broken = bad[bad["fault"].isin(["image-missing", "image-damaged"])]
    if len(broken) > max_bad * len(table):
        first = broken.index[0]
        share = f"{100 * len(broken) / len(table):.3g} %"
        raise UserError(
            f"{len(broken):,} of {len(table):,} images are missing or damaged ({share}), more than --max-bad {100 * max_bad:g}%; "
            f"first: row {ledger.row(first)}, {table.loc[first, 'path']} ({broken.loc[first, 'reason']})"
            + ("" if subset else "; --subset if the folder holds only a part of the archive")
        )
    good = seen[seen["fault"].isna()]
    table = table.loc[good.index]
    extra = good[["width", "height", "sha256", "phash"]].astype({"width": "int64", "height": "int64"})
    extra[FINE] = good["fine"].astype(object)
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


def compare_all(table: pd.DataFrame, root: Path, partial: Path, ledger: Ledger, workers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Look for photographs that stand twice in the archive.

    Args:
        table: what `examine_all` gave, rows that were refused since taken out.
        root: the folder that paths are relative to.
        partial: the unfinished cohort.
        ledger: photographs that stand under two patients are noted, for every split to keep those together.
        workers: processes.

    Returns:
        The table sorted by image_id, and the pairs (see `curate.near_duplicates.find_near_duplicates`).
    """
    table = table.sort_values("image_id", kind="stable")
    pairs = find_near_duplicates(table, table[FINE], root, partial / "parts", workers)
    row = pd.Series(table.index, index=table["image_id"])
    patient = table.set_index("image_id")["patient_id"]
    apart = pairs[(pairs["similarity"] < 1) & (patient.loc[pairs["image_a"]].to_numpy() != patient.loc[pairs["image_b"]].to_numpy())]
    involved = list(dict.fromkeys([*apart["image_a"], *apart["image_b"]]))
    ledger.record(row.loc[involved].tolist(), "image_id", involved, involved, "near-duplicate")
    return table.drop(columns=FINE).reset_index(drop=True), pairs
