"""JSON lines, and JSON arrays of objects."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from curate.errors import UserError
from curate.manifest.delimited import open_text
from curate.manifest.source import FIRST_ROW
from curate.manifest.text_table import CHUNK, TextTable

if TYPE_CHECKING:
    import pandas as pd


class _Doubled(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Doubled(next(n for n in names if names.count(n) > 1))
    return made


# Numbers stay as they are written: an id 007.0 or a 64-bit number loses nothing.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=lambda _: None)


def read_json_lines(path: Path, *, encoding: str) -> pd.DataFrame:
    """Read JSON lines (one object a line), or one array of objects; also with ``.gz`` behind.

    Returns:
        One column a key, those that turn up late included; null and absent are empty, true and false are "True" and
        "False". The index counts from 2, as in a table with a header.

    Raises:
        UserError: where a line is not an object of plain values.
    """
    table = TextTable(path)
    held: list[dict[str, str]] = []
    numbers: list[int] = []
    try:
        with open_text(path, encoding) as file:
            for number, value in _values(file, path):
                if not isinstance(value, dict):
                    raise UserError(f'{path}: line {number}: not an object; expected one image a line, as {{"file": "a.jpg", ...}}')
                held.append(_plain(value, path, number))
                numbers.append(number + FIRST_ROW - 1)
                if len(held) == CHUNK:
                    _add(table, held, numbers)
                    held, numbers = [], []
        if held:
            _add(table, held, numbers)
    except UnicodeError:
        raise UserError(f"{path}: not {encoding}; name the encoding, as --encoding cp1252") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be unpacked ({error})") from None
    except RecursionError:
        raise UserError(f"{path}: values are nested too deeply") from None
    return table.frame()


def _values(file: IO[str], path: Path) -> Iterator[tuple[int, Any]]:
    lines: Iterable[str] = file
    start = file.read(1)
    while start and start.isspace():
        start = file.read(1)
    file.seek(0)
    if start == "[":
        values = _decode(file.read(), path, None)
        yield from enumerate(values, 1)
        return
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text:
            yield number, _decode(text, path, number)


def _decode(text: str, path: Path, number: int | None) -> Any:
    where = f"{path}: line {number}" if number else str(path)
    try:
        return _DECODER.decode(text.strip())
    except _Doubled as name:
        raise UserError(f"{where}: has '{name}' twice") from None
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if number else f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{where}: not JSON ({error.msg}, {place})") from None


def _plain(value: dict[str, Any], path: Path, number: int) -> dict[str, str]:
    for name, item in value.items():
        if type(item) is not str:
            if item is None:
                value[name] = ""
            elif isinstance(item, bool):
                value[name] = str(item)
            else:
                raise UserError(f"{path}: line {number}: '{name}' holds nested values; give every value a key of its own")
    return value


def _add(table: TextTable, rows: list[dict[str, str]], numbers: list[int]) -> None:
    names = dict.fromkeys(name for row in rows for name in row)
    table.add({name: [row.get(name, "") for row in rows] for name in names}, numbers)
