"""Parquet files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from curate.errors import UserError
from curate.manifest.text_table import frame_of

if TYPE_CHECKING:
    import pandas as pd


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file as text; columns of lists, objects or bytes are left out, which is said.

    Raises:
        UserError: where it can't be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
    # A data frame's own row numbers are no column of the archive; an index that has a name is.
    kept = [c for c in table.column_names if not re.fullmatch(r"__index_level_\d+__", c)]
    doubled = next((c for c in kept if kept.count(c) > 1), None)
    if doubled is not None:
        raise UserError(f"{path}: two columns are called '{doubled}'; rename one")
    return frame_of(table.select(kept), path, leave_out_nested=True)
