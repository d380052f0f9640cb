"""Excel workbooks."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import UserError, nearest
from curate.manifest.text_table import CHUNK, TextTable, header_names, text_of

if TYPE_CHECKING:
    import pandas as pd


def read_spreadsheet(path: Path, *, sheet: str | None, skip_rows: int) -> pd.DataFrame:
    """Read one sheet of a workbook.

    Args:
        path: a ``.xlsx`` or ``.xlsm`` file.
        sheet: the sheet's name; None where only one holds anything.
        skip_rows: rows above the header.

    Returns:
        Values as the program that saved the file computed them, as text: dates as ISO, whole numbers without a decimal
        point, numbers shown with leading zeros (the format ``00000``) with them. The index counts rows as the sheet does;
        blank rows are left out.

    Raises:
        UserError: where it can't be opened, the sheet must be named, or a formula has no result.
    """
    try:
        book = _open(path, computed=True)
        try:
            chosen = _choose(book, path, sheet)
            table, names = _read(book[chosen], path, skip_rows)
        finally:
            book.close()
        if _has_formulas(path):
            _refuse_uncomputed(path, chosen)
    except (UserError, MemoryError):
        raise
    except zipfile.BadZipFile:
        raise UserError(
            f"{path}: cannot be read as an Excel workbook (damaged, protected by a password, or an old .xls); save it as .xlsx or .csv"
        ) from None
    except Exception as error:  # a damaged workbook makes openpyxl raise whatever its XML, zip and style readers raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as an Excel workbook ({reason}); save it as .xlsx or .csv") from None
    return table.frame(names)


def _open(path: Path, *, computed: bool) -> Any:
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and extensions, which don't concern values
        return openpyxl.load_workbook(path, read_only=True, data_only=computed, keep_links=False)


def _choose(book: Any, path: Path, sheet: str | None) -> str:
    names = [s.title for s in book.worksheets]
    if sheet is not None:
        if sheet not in names:
            raise UserError(f"{path}: has no sheet '{sheet}'{nearest(sheet, names)}")
        return sheet
    filled = [s.title for s in book.worksheets if _holds_values(s)]
    if not filled:
        raise UserError(f"{path}: is empty")
    if len(filled) > 1:
        raise UserError(f"{path}: has {len(filled)} sheets; choose one with --sheet NAME: {', '.join(repr(n) for n in filled)}")
    return filled[0]


def _holds_values(sheet: Any) -> bool:
    sheet.reset_dimensions()  # programs write wrong ones
    return any(value is not None for row in sheet.iter_rows(values_only=True) for value in row)


def _read(sheet: Any, path: Path, skip_rows: int) -> tuple[TextTable, list[str]]:
    table = TextTable(path)
    above: list[list[str]] = []
    held: list[list[str]] = []
    numbers: list[int] = []
    sheet.reset_dimensions()
    for number, cells in enumerate(sheet.iter_rows(), 1):
        row = [_text(cell) for cell in cells]
        if number <= skip_rows + 1:
            above.append(row)
        elif any(row):
            held.append(row)
            numbers.append(number)
        if len(held) == CHUNK:
            _add(table, held, numbers)
            held, numbers = [], []
    if held:
        _add(table, held, numbers)
    names = header_names(above) if len(above) > skip_rows else []
    if not any(names):
        raise UserError(f"{path}: row {skip_rows + 1} of sheet '{sheet.title}' is no header: it is empty")
    return table, names


def _add(table: TextTable, rows: list[list[str]], numbers: list[int]) -> None:
    width = max(map(len, rows))
    table.add({i: [row[i] if i < len(row) else "" for row in rows] for i in range(width)}, numbers)


def _text(cell: Any) -> str:
    value = cell.value
    if type(value) is str or value is None:
        return value or ""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.15g}"  # as many digits as the program itself shows
    text = text_of(value)
    if type(value) in (int, float) and len(text) < len(form := cell.number_format or "") and not form.strip("0"):
        return text.zfill(len(form))
    return text


def _has_formulas(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                with archive.open(name) as file:
                    tail = b""
                    while block := file.read(1 << 20):
                        if b"<f>" in tail + block or b"<f " in tail + block:
                            return True
                        tail = block[-3:]
    return False


def _refuse_uncomputed(path: Path, sheet: str) -> None:
    """A formula whose result was never stored reads as empty: refuse, rather than lose a column in silence."""
    plain, computed = _open(path, computed=False), _open(path, computed=True)
    try:
        first, second = plain[sheet], computed[sheet]
        first.reset_dimensions()
        second.reset_dimensions()
        for written, found in zip(first.iter_rows(), second.iter_rows(values_only=True), strict=False):
            for cell, value in zip(written, found, strict=False):
                if value is None and getattr(cell, "data_type", None) == "f":
                    raise UserError(
                        f"{path}: cell {cell.coordinate} of sheet '{sheet}' is a formula without a stored result; "
                        "open the file in a spreadsheet program, save it and try again"
                    )
    finally:
        plain.close()
        computed.close()
