"""Groups of people: how a column becomes the strata of a sample and the subgroups of an evaluation.

One definition serves sampling, description, evaluation and the card, so that "over 70" is the same people everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from curate.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

UNKNOWN = "unknown"
DEFAULT_BINS: Mapping[str, tuple[float, ...]] = {"age": (40.0, 70.0)}  # Zhou et al. 2025: under 40, 40 to 70, over 70
DEFAULT_ATTRIBUTES = ("age", "sex", "ethnicity")


def parse_bins(options: Sequence[str] | None) -> dict[str, tuple[float, ...]]:
    """Read ``--bins age=40,70`` (repeatable) on top of the default for age.

    Args:
        options: texts ``COLUMN=EDGE,EDGE,...`` with rising edges.

    Returns:
        Column -> edges.

    Raises:
        UserError: where a text isn't of that form.
    """
    bins = dict(DEFAULT_BINS)
    for option in options or ():
        column, _, edges = option.partition("=")
        try:
            values = tuple(float(e) for e in edges.split(","))
        except ValueError:
            values = ()
        if not column or not values or list(values) != sorted(set(values)):
            raise UserError(f"--bins {option}: expected COLUMN=EDGE,EDGE,... with rising numbers, as age=40,70")
        bins[column.strip()] = values
    return bins


def bin_labels(edges: Sequence[float], *, whole: bool) -> list[str]:
    """Name the groups between edges, lowest first.

    The first edge opens its group and the others close theirs: 40 and 70 give under 40, 40 to 70, over 70.

    Args:
        edges: rising numbers.
        whole: whether values are whole numbers, as ages are, so that the group above 40 to 60 begins at 61.

    Example:
        >>> bin_labels([40, 70], whole=True)
        ['under 40', '40 to 70', 'over 70']
        >>> bin_labels([20, 40, 60], whole=True)
        ['under 20', '20 to 40', '41 to 60', 'over 60']
        >>> bin_labels([50], whole=True)
        ['under 50', '50 and over']
    """
    if len(edges) == 1:
        return [f"under {edges[0]:g}", f"{edges[0]:g} and over"]
    middle = [f"{edges[0]:g} to {edges[1]:g}"]
    for low, high in itertools.pairwise(edges[1:]):
        middle.append(f"{low + 1:g} to {high:g}" if whole else f"over {low:g} to {high:g}")
    return [f"under {edges[0]:g}", *middle, f"over {edges[-1]:g}"]


def group_codes(table: pd.DataFrame, attribute: str, bins: Mapping[str, Sequence[float]]) -> tuple[np.ndarray, list[str]]:
    """Give each row's group as a number, for tables of many rows.

    Args:
        table: a cohort's table.
        attribute: one of its columns.
        bins: edges by column; ages are compared in completed years.

    Returns:
        (n,) int32, and the groups in the order in which they are shown: bins lowest first, empty ones included; categories by
        number of rows, most first, then by name; `UNKNOWN` last and only where it occurs.

    Raises:
        UserError: where there is no such column, or a column to be binned isn't a number.
    """
    import numpy as np
    import pandas as pd

    if attribute not in table.columns:
        raise UserError(f"the cohort has no column '{attribute}'{nearest(attribute, map(str, table.columns))}")
    column = table[attribute]
    if attribute not in bins:
        if pd.api.types.is_float_dtype(column) and column.nunique() > 20:
            raise UserError(f"'{attribute}' is a number with {column.nunique()} values: give its groups with --bins {attribute}=EDGE,EDGE")
        codes, values = pd.factorize(column)
        names = pd.Series(values).astype("string").str.strip().fillna("").to_numpy(dtype=object)
        return _in_order(codes, [UNKNOWN if name == "" else str(name) for name in names])
    if not pd.api.types.is_numeric_dtype(column):
        raise UserError(f"--bins {attribute}: '{attribute}' is text, not a number")
    edges = list(bins[attribute])
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    if attribute == "age":
        numbers = np.floor(numbers)
    index = (numbers >= edges[0]).astype(np.int32)
    for edge in edges[1:]:
        index += numbers > edge
    labels = bin_labels(edges, whole=attribute == "age")
    missing = np.isnan(numbers)
    index[missing] = len(labels)
    return index, [*labels, *([UNKNOWN] if missing.any() else [])]


def _in_order(codes: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Put categories into the order of `group_codes`; -1 is unknown, and so is whatever is called so."""
    import numpy as np

    present = sorted(set(names) - {UNKNOWN})
    place = {name: i for i, name in enumerate(present)}
    first = np.array([place.get(name, len(present)) for name in names] + [len(present)], dtype=np.int32)[codes]
    counts = np.bincount(first, minlength=len(present) + 1)
    order = sorted(range(len(present)), key=lambda i: (-int(counts[i]), present[i]))
    rank = np.empty(len(present) + 1, dtype=np.int32)
    rank[[*order, len(present)]] = np.arange(len(present) + 1)
    return rank[first], [*(present[i] for i in order), *([UNKNOWN] if counts[-1] else [])]


def group_order(table: pd.DataFrame, attribute: str, bins: Mapping[str, Sequence[float]]) -> list[str]:
    """List an attribute's groups in the order in which they are shown, as `group_codes` gives them."""
    return group_codes(table, attribute, bins)[1]


def group_of(table: pd.DataFrame, attribute: str, bins: Mapping[str, Sequence[float]]) -> pd.Series:
    """Give each row's group by name.

    Args:
        table: a cohort's table.
        attribute: one of its columns.
        bins: edges by column; ages are compared in completed years.

    Returns:
        Strings, with `UNKNOWN` where the value is missing; the index is the table's.

    Raises:
        UserError: as `group_codes`.
    """
    import numpy as np
    import pandas as pd

    codes, names = group_codes(table, attribute, bins)
    return pd.Series(np.array(names, dtype=object)[codes] if names else [], index=table.index, dtype=object)
