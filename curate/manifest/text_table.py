"""From typed values to text: what a spreadsheet, a database or a columnar file holds, as a person would have typed it.

Whole numbers have no decimal point, dates are ISO, missing values are empty. Nothing is stripped or interpreted.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.errors import UserError
from curate.manifest.source import FIRST_ROW

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CHUNK = 50_000  # rows that are held as Python objects at a time
_EXACT = 2**53  # whole numbers up to here are exact in a float


class NestedValue(Exception):
    """A value that is a list, an object or bytes, so that it has no text of its own."""


def text_of(value: Any) -> str:
    """Write one value as text.

    Raises:
        NestedValue: where it is a list, an object or bytes.

    Example:
        >>> text_of(63.0), text_of(63.5), text_of(None), text_of(datetime.datetime(2020, 3, 15))
        ('63', '63.5', '', '2020-03-15')
    """
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, decimal.Decimal):
        if value.is_nan():
            return ""
        return str(int(value)) if value == value.to_integral_value() else format(value, "f")
    if isinstance(value, datetime.datetime):
        if value != value:  # pandas' missing time
            return ""
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat()
    if isinstance(value, dict | list | tuple | set | bytes | bytearray | memoryview):
        raise NestedValue("bytes" if isinstance(value, bytes | bytearray | memoryview) else "nested values")
    if hasattr(value, "tolist"):  # a numpy scalar or array
        return text_of(value.tolist())
    return str(value)


def text_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write a typed Arrow column as text.

    Raises:
        NestedValue: where it holds lists, objects or bytes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        return text_column(column.cast(kind.value_type))
    if pa.types.is_nested(kind):
        raise NestedValue("nested values")
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            text = column.cast(pa.large_string())  # text that its writer did not mark as such
        except pa.ArrowInvalid:
            raise NestedValue("bytes") from None
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind) or pa.types.is_date32(kind):
        text = column.cast(pa.large_string())
    elif pa.types.is_boolean(kind):
        text = pc.if_else(column, pa.scalar("True", pa.large_string()), pa.scalar("False", pa.large_string()))
    elif pa.types.is_floating(kind):
        number = column.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.floor(number), number), pc.less(pc.abs(number), float(_EXACT)))
        integers = pc.if_else(whole, number, 0.0).cast(pa.int64()).cast(pa.large_string())
        text = pc.if_else(whole, integers, column.cast(pa.large_string()))
        text = pc.if_else(pc.is_nan(number), pa.scalar("", pa.large_string()), text)
    else:
        text = pa.chunked_array([pa.array([text_of(v) for v in chunk.to_pylist()], pa.large_string()) for chunk in column.chunks])
    return pc.fill_null(text, "")


class TextTable:
    """A table of text that grows by chunks of rows; columns may turn up late.

    Held as Arrow strings, so that ten million rows cost what their text costs.
    """

    def __init__(self, where: object) -> None:
        """Start an empty table.

        Args:
            where: the file or database, for messages.
        """
        self._where = where
        self._columns: dict[Any, list[Any]] = {}
        self._numbers = array("q")

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, columns: Mapping[Any, Sequence[str]], numbers: Sequence[int]) -> None:
        """Append rows.

        Args:
            columns: column -> its values, all of one length; columns that are left out are empty.
            numbers: the rows' numbers.
        """
        import pyarrow as pa

        before = len(self._numbers)
        for name in columns:
            if name not in self._columns:
                self._columns[name] = [pa.repeat(pa.scalar("", pa.large_string()), before)]
        for name, chunks in self._columns.items():
            if name in columns:
                try:
                    chunks.append(pa.array(columns[name], pa.large_string()))
                except UnicodeEncodeError:
                    raise UserError(
                        f"{self._where}: between rows {numbers[0]} and {numbers[-1]} is a character that is not Unicode text"
                    ) from None
            else:
                chunks.append(pa.repeat(pa.scalar("", pa.large_string()), len(numbers)))
        self._numbers.extend(numbers)

    def frame(self, names: Sequence[str] | None = None) -> pd.DataFrame:
        """Give the table as a data frame.

        Args:
            names: the columns' names where they were added by position (0, 1, ...); "" for a column without a name, which
                is left out where it is empty and is called ``column N`` otherwise.
        """
        import pandas as pd
        import pyarrow as pa

        keys = list(self._columns)
        if names is not None:
            keys = [k for k in range(max(len(names), len(keys))) if (k < len(names) and names[k]) or self._filled(k)]
        titles = [str(k) if names is None else (names[k] if k < len(names) else "") or f"column {k + 1}" for k in keys]
        columns = [pa.chunked_array(self._columns.get(k, []), pa.large_string()) for k in keys]
        frame = pd.concat([_series(c) for c in columns], axis=1) if columns else pd.DataFrame()
        frame.columns = pd.Index(titles, dtype=object)
        frame.index = pd.Index(self._numbers, dtype="int64")
        return frame

    def _filled(self, key: int) -> bool:
        import pyarrow.compute as pc

        return any(pc.any(pc.not_equal(chunk, "")).as_py() for chunk in self._columns.get(key, []))


def _series(column: pa.ChunkedArray) -> pd.Series:
    series = column.to_pandas()
    series.index = range(len(series))
    return series


def frame_of(table: pa.Table, where: object, *, leave_out_nested: bool) -> pd.DataFrame:
    """Make a data frame of text from an Arrow table.

    Args:
        table: typed columns.
        where: what it was read from, for messages.
        leave_out_nested: leave out columns of lists, objects or bytes and say so, instead of refusing the table.

    Raises:
        UserError: where a column holds them otherwise.
    """
    import pandas as pd
    import pyarrow as pa

    from curate.console import warn

    names, columns = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns.append(_series(text_column(column)))
            names.append(name)
        except NestedValue as kind:
            if not leave_out_nested:
                raise UserError(f"{where}: column '{name}' holds {kind}; leave it out") from None
            warn(f"{where}: column '{name}' holds {kind} and is left out")
        except pa.ArrowInvalid as error:
            raise UserError(f"{where}: column '{name}' cannot be read ({' '.join(str(error).split())})") from None
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    frame.columns = pd.Index(names, dtype=object)
    return frame.set_axis(pd.RangeIndex(FIRST_ROW, FIRST_ROW + len(frame)), axis=0)


def header_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """Name the columns from the header row and the rows above it.

    Args:
        rows: the rows up to the header, which is the last. A header cell that is empty takes the nearest name above it,
            as in doubled header rows and under merged cells.
    """
    width = len(rows[-1]) if rows else 0
    named = []
    for column in range(width):
        cells = (" ".join(row[column].split()) for row in reversed(rows) if column < len(row))
        named.append(next((cell for cell in cells if cell), ""))
    return named


def digest_of(table: pd.DataFrame) -> str:
    """Give a SHA-256 of a table of text: columns, row numbers and values."""
    import pandas as pd

    digest = hashlib.sha256(repr(list(table.columns)).encode())
    digest.update(pd.util.hash_pandas_object(table, index=True).to_numpy().tobytes())
    return digest.hexdigest()
