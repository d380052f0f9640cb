"""Groups of people: how a column becomes the strata of a sample and the subgroups of an evaluation.

One definition serves sampling, description, evaluation and the card, so that "over 70" is the same people everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from curate.errors import UserError, nearest

if TYPE_CHECKING:
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


def group_order(table: pd.DataFrame, attribute: str, bins: Mapping[str, Sequence[float]]) -> list[str]:
    """List an attribute's groups in the order in which they are shown, `UNKNOWN` last and only where it occurs.

    Bins come lowest first, empty ones included; categories by number of rows, most first, then by name.
    """
    groups = group_of(table, attribute, bins)
    present = groups.value_counts()
    if attribute in bins:
        order = bin_labels(bins[attribute], whole=attribute == "age")
    else:
        order = sorted((g for g in present.index if g != UNKNOWN), key=lambda g: (-int(present[g]), str(g)))
    return [*order, *([UNKNOWN] if UNKNOWN in present.index else [])]


def group_of(table: pd.DataFrame, attribute: str, bins: Mapping[str, Sequence[float]]) -> pd.Series:
    """Give each row's group.

    Args:
        table: a cohort's table.
        attribute: one of its columns.
        bins: edges by column; ages are compared in completed years.

    Returns:
        Strings, with `UNKNOWN` where the value is missing; the index is the table's.

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
        text = column.astype("string").str.strip()
        return text.mask(text == "").fillna(UNKNOWN).astype(object)
    if not pd.api.types.is_numeric_dtype(column):
        raise UserError(f"--bins {attribute}: '{attribute}' is text, not a number")
    edges = list(bins[attribute])
    values = column.to_numpy(dtype=float, na_value=np.nan)
    if attribute == "age":
        values = np.floor(values)
    index = (values >= edges[0]).astype(int) + sum((values > e).astype(int) for e in edges[1:])
    labels = np.array(bin_labels(edges, whole=attribute == "age"), dtype=object)[index]
    labels[np.isnan(values)] = UNKNOWN
    return pd.Series(labels, index=table.index, dtype=object)
