"""Text tables: comma, semicolon, tab or bar between the values, in any encoding, compressed or not."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from curate.errors import UserError
from curate.manifest.text_table import CHUNK, TextTable, header_names

if TYPE_CHECKING:
    import pandas as pd

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def open_text(path: Path, encoding: str) -> IO[str]:
    """Open a text file: unpacks ``.gz``, drops a byte order mark, and believes one that says UTF-16.

    Raises:
        UserError: where there is no such encoding.
    """
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise UserError(f"--encoding {encoding}: no such encoding") from None
    file: IO[bytes] = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")  # type: ignore[assignment]  # noqa: SIM115
    if encoding.lower() in ("utf-8", "utf8"):
        try:
            start = file.read(2)
            file.seek(0)
        except (OSError, EOFError, zlib.error) as error:
            file.close()
            raise UserError(f"{path}: cannot be unpacked ({error})") from None
        encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return io.TextIOWrapper(file, encoding=encoding, newline="")


def read_delimited(path: Path, *, encoding: str, skip_rows: int) -> pd.DataFrame:
    """Read a text table.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.txt`` file, also with ``.gz`` behind.
        encoding: its encoding; a byte order mark goes before "utf-8".
        skip_rows: rows above the header.

    Returns:
        All columns as text; the index counts rows as a spreadsheet does. Blank rows are left out.

    Raises:
        UserError: where it is empty, ragged, damaged or not in that encoding.
    """
    table = TextTable(path)
    number = 0
    try:
        with open_text(path, encoding) as file:
            lines = _without_nul(file, path)
            first, delimiter, told = _look(lines, path, skip_rows)
            rows = csv.reader(itertools.chain(first, lines), delimiter=delimiter, strict=True)
            above = list(itertools.islice(rows, skip_rows + 1 + told))[told:]
            if len(above) <= skip_rows or not any(above[-1]):
                raise UserError(f"{path}: is empty" if len(above) <= 1 else f"{path}: row {skip_rows + 1} is no header: it is empty")
            names = header_names(above)
            width = len(names)
            held: list[list[str]] = []
            numbers: list[int] = []
            for number, row in enumerate(rows, skip_rows + 2 + told):
                if len(row) != width:
                    if not row:
                        continue
                    raise UserError(f"{path}: row {number} has {len(row)} fields, the header has {width}")
                if any(row):
                    held.append(row)
                    numbers.append(number)
                    if len(held) == CHUNK:
                        table.add(dict(enumerate(zip(*held, strict=True))), numbers)
                        held, numbers = [], []
            if held:
                table.add(dict(enumerate(zip(*held, strict=True))), numbers)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not {encoding} (shortly after row {max(number, 1)}); name the encoding, as --encoding cp1252") from None
    except UnicodeError:
        raise UserError(f"{path}: not {encoding}; name the encoding, as --encoding cp1252") from None
    except csv.Error as error:
        raise UserError(f"{path}: row {number + 1}: not a table ({error})") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be unpacked ({error})") from None
    return table.frame(names)


def _without_nul(file: IO[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if "\0" in line:
            raise UserError(
                f"{path}: line {number} holds NUL characters: not a text file, or UTF-16 without its mark, as --encoding utf-16-le reads"
            )
        yield line


def _look(lines: Iterator[str], path: Path, skip_rows: int) -> tuple[list[str], str, int]:
    """Read up to the header line and find what separates its values; 1 where a first line ``sep=;`` says so."""
    from curate.console import warn

    first = list(itertools.islice(lines, 1))
    told = int(bool(first) and first[0].lower().startswith("sep=") and len(first[0].strip("\r\n")) == 5)
    first += itertools.islice(lines, skip_rows + told)
    while first and "".join(first[told + skip_rows :]).count('"') % 2:  # a line end within quotes
        more = next(lines, None)
        if more is None:
            break
        first.append(more)
    usual = "\t" if ".tsv" in path.name.lower() else ","
    if told:
        return first, first[0][4], 1
    header = "".join("".join(first[skip_rows:]).split('"')[::2])
    delimiter = max(_DELIMITERS, key=lambda d: (header.count(d), d == usual))
    if not header.count(delimiter):
        delimiter = usual
    if delimiter != usual:
        warn(f"{path}: columns are separated by {_DELIMITERS[delimiter]}")
    return first, delimiter, 0
