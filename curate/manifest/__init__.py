"""Manifests: whatever an archive's table comes in becomes one data frame of text, nothing interpreted yet.

One module a kind of input; `read_source` finds out which it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curate.artefacts import sha256_file
from curate.errors import UserError
from curate.manifest.source import FIRST_ROW, IMAGE_SUFFIXES, Source
from curate.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FILE_COLUMN", "FIRST_ROW", "IMAGE_SUFFIXES", "Source", "read_source"]

FILE_COLUMN = "manifest_file"  # which of several files a row stands in
_TEXT = (".csv", ".tsv", ".txt")
_JSON = (".jsonl", ".ndjson", ".json")
_EXCEL = (".xlsx", ".xlsm")
_KINDS = (
    "a manifest is a table (.csv, .tsv, .xlsx, .parquet, .jsonl), a folder of images or DICOM files, a Hugging Face dataset "
    "(its folder, or hf:NAME), or a database (a URL, a SQLite or DuckDB file) with --query"
)


def read_source(
    manifests: str | Path | Sequence[str | Path],
    *,
    encoding: str = "utf-8",
    sheet: str | None = None,
    split: str | None = None,
    query: str | None = None,
    skip_rows: int = 0,
    image_column: str | None = None,
    workers: int = 0,
) -> Source:
    """Read an archive's table from whatever it is kept in.

    Args:
        manifests: a table (``.csv``, ``.tsv``, ``.txt``, ``.json``, ``.jsonl``, ``.ndjson``, all also with ``.gz`` behind;
            ``.xlsx``, ``.xlsm``; ``.parquet``), a folder of images, of DICOM files or of a Hugging Face dataset, the
            name of one as ``hf:NAME``, or a database: a SQLAlchemy URL, a SQLite or DuckDB file. Or several tables,
            which are stacked: the column `FILE_COLUMN` then has each row's file without its ending, and rows are
            numbered as if the files stood below each other.
        encoding: of a text file.
        sheet: of a workbook.
        split: of a dataset; several with commas, or "all".
        query: of a database: a SELECT, or the name of a table.
        skip_rows: rows above the header of a text table or a workbook.
        image_column: the dataset's column of images, where there are several.
        workers: processes that read DICOM headers, 0 for one a core.

    Raises:
        UserError: where it can't be read, or an option doesn't belong to what it is.
    """
    texts = [str(m) for m in ([manifests] if isinstance(manifests, str | Path) else manifests)]
    kinds = [_kind(text) for text in texts]
    _refuse_options(kinds[0], texts[0], encoding, sheet, split, query, skip_rows)
    if len(texts) > 1:
        odd = next((t for t, k in zip(texts, kinds, strict=True) if k not in ("text", "excel", "parquet", "json")), None)
        if odd:
            raise UserError(f"{redact(odd)}: only tables in files can be read several at a time")
        return _stack([Path(t) for t in texts], kinds, encoding, sheet, skip_rows)
    text, kind = texts[0], kinds[0]
    if kind == "database":
        from curate.manifest.database import read_database

        return _checked(read_database(text, query=query), redact(text))
    if kind == "dataset":
        from curate.manifest.huggingface import read_dataset

        return _checked(read_dataset(text, split=split, image_column=image_column), text)
    if kind == "dicom":
        from curate.manifest.dicom import read_dicom

        return _checked(read_dicom(Path(text.removeprefix("dicom:")), workers=workers), text)
    path = Path(text.removeprefix("images:"))
    if kind == "images":
        from curate.manifest.folder import list_images

        table = list_images(path)
        inputs = {path.resolve().name: f"{len(table)} files"}
    else:
        table = _read_file(path, kind, encoding, sheet, skip_rows)
        inputs = {path.name: sha256_file(path)}
    folder = path if kind == "images" else path.parent
    return _checked(Source(table=table, inputs=inputs, name=folder.resolve().name, folder=folder, synthetic=_is_synthetic(folder)), text)


def _kind(text: str) -> str:
    """Say what a manifest is: text, excel, parquet, json, database, dataset, dicom or images."""
    if text.startswith("hf:"):
        return "dataset"
    for prefix in ("dicom", "images"):
        if text.startswith(f"{prefix}:"):
            if not Path(text.removeprefix(f"{prefix}:")).is_dir():
                raise UserError(f"{text}: no such folder")
            return prefix
    if "://" in text:
        return "database"
    path = Path(text)
    if not path.exists():
        raise UserError(f"{redact(text)}: no such file or folder")
    if path.is_dir():
        from curate.manifest.folder import kind_of

        return kind_of(path)
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    for suffixes, kind in ((_TEXT, "text"), (_JSON, "json")):
        if suffix in suffixes:
            return kind
    if path.suffix.lower() in _EXCEL:
        return "excel"
    if path.suffix.lower() == ".parquet":
        return "parquet"
    from curate.manifest.database import database_kind
    from curate.manifest.folder import is_dicom

    if database_kind(path):
        return "database"
    if is_dicom(path):
        raise UserError(f"{path}: is one DICOM file; give the folder that holds them")
    if path.suffix.lower() in (".xls", ".xlsb", ".ods"):
        raise UserError(f"{path}: save it as .xlsx or .csv; {_KINDS}")
    raise UserError(f"{path}: {_KINDS}")


def _refuse_options(kind: str, text: str, encoding: str, sheet: str | None, split: str | None, query: str | None, skip_rows: int) -> None:
    for given, option, wanted, what in (
        (sheet is not None, "--sheet", ("excel",), "Excel workbooks"),
        (split is not None, "--split", ("dataset",), "Hugging Face datasets"),
        (query is not None, "--query", ("database",), "databases"),
        (skip_rows != 0, "skip_rows", ("text", "excel"), "text tables and Excel workbooks"),
        (encoding.lower() not in ("utf-8", "utf8"), "--encoding", ("text", "json"), "text files"),
    ):
        if given and kind not in wanted:
            raise UserError(f"{option} belongs to {what}, and {redact(text)} is none")


def _read_file(path: Path, kind: str, encoding: str, sheet: str | None, skip_rows: int) -> pd.DataFrame:
    if kind == "text":
        from curate.manifest.delimited import read_delimited

        return read_delimited(path, encoding=encoding, skip_rows=skip_rows)
    if kind == "excel":
        from curate.manifest.spreadsheet import read_spreadsheet

        return read_spreadsheet(path, sheet=sheet, skip_rows=skip_rows)
    if kind == "json":
        from curate.manifest.json_lines import read_json_lines

        return read_json_lines(path, encoding=encoding)
    from curate.manifest.parquet import read_parquet

    return read_parquet(path)


def _stack(paths: list[Path], kinds: list[str], encoding: str, sheet: str | None, skip_rows: int) -> Source:
    import pandas as pd

    from curate.console import warn

    names = _distinct_names(paths)
    tables: list[pd.DataFrame] = []
    rows: dict[str, tuple[int, int]] = {}
    start = 0
    for path, kind, name in zip(paths, kinds, names, strict=True):
        _refuse_options(kind, str(path), encoding, sheet, None, None, skip_rows)
        table = _check_table(_read_file(path, kind, encoding, sheet, skip_rows), str(path))
        if FILE_COLUMN in table.columns:
            raise UserError(f"{path}: has a column '{FILE_COLUMN}' already; rename it")
        absent = [c for c in tables[0].columns if c not in (*table.columns, FILE_COLUMN)] if tables else []
        if tables and len(absent) == len(tables[0].columns) - 1:
            raise UserError(f"{path}: has none of the columns of {paths[0]}")
        if absent:
            warn(f"{path}: has no column '{absent[0]}'{f' and {len(absent) - 1} others' if absent[1:] else ''}; empty for its rows")
        table[FILE_COLUMN] = Path(name).with_suffix("").as_posix()
        table.index = table.index + start
        rows[name] = (int(table.index[0]), int(table.index[-1]))
        start = int(table.index[-1]) + 1 - FIRST_ROW
        tables.append(table)
    parents = {p.parent.resolve() for p in paths}
    folder = paths[0].parent if len(parents) == 1 else None
    stacked = pd.concat(tables).fillna("")
    for name, (first, last) in rows.items():
        warn(f"{name}: rows {first} to {last} of the ledger")
    return Source(
        table=stacked,
        inputs={n: sha256_file(p) for n, p in zip(names, paths, strict=True)},
        name=Path(os.path.commonpath(parents)).name,
        folder=folder,
        synthetic=any(_is_synthetic(p.parent) for p in paths),
        rows=rows,
    )


def _distinct_names(paths: list[Path]) -> list[str]:
    """Name files by their own names, or with as much of their folders as tells them apart."""
    resolved = [p.resolve() for p in paths]
    again = next((p for i, p in enumerate(resolved) if p in resolved[:i]), None)
    if again is not None:
        raise UserError(f"{again.name}: given twice")
    if len({p.stem for p in paths}) == len(paths):
        return [p.name for p in paths]
    if len({p.name for p in paths}) == len(paths) and len({p.parent for p in resolved}) == 1:
        raise UserError(f"{paths[0].stem}: two files have this name but for the ending; rename one")
    common = os.path.commonpath([p.parent for p in resolved])
    return [p.relative_to(common).as_posix() for p in resolved]


def _is_synthetic(folder: Path) -> bool:
    # A phantom archive says so itself, and whatever is made from it must.
    return (folder / "simulation.json").is_file()


def _checked(source: Source, where: str) -> Source:
    _check_table(source.table, where)
    return source


def _check_table(table: pd.DataFrame, where: str) -> pd.DataFrame:
    if table.empty:
        raise UserError(f"{where}: holds no rows")
    doubled = table.columns[table.columns.duplicated()]
    if len(doubled):
        raise UserError(f"{where}: two columns are called '{doubled[0]}'; rename one")
    return table
