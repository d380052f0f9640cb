"""Whose images predictions are of: patients and groups, from the predictions themselves or from a cohort."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from curate import DEFAULT_ATTRIBUTES, DEFAULT_BINS, Cohort, UserError, group_of, group_order, nearest, parse_bins
from evaluate.given import rows_concerned
from evaluate.predictions import AND, LEADING

if TYPE_CHECKING:
    import pandas as pd


def with_cohort(source: str, table: pd.DataFrame, people: Cohort, subgroups: Sequence[str] | None) -> pd.DataFrame:
    """Add patients and subgroup columns of a cohort to predictions that haven't them.

    Args:
        source: where the predictions are from, for messages.
        table: with ``image_id``.
        people: the cohort.
        subgroups: columns wanted; None: age, sex, ethnicity, as far as the cohort has them.

    Raises:
        UserError: where an image is not in the cohort, or has another patient there.
    """
    import pandas as pd

    if "image_id" not in table.columns:
        raise UserError(f"{source}: no column image_id, by which images are found in the cohort; name it with --map image_id=COLUMN")
    at = pd.Index(people.table["image_id"]).get_indexer(pd.Index(table["image_id"].astype("string")))
    missing = at < 0
    if missing.any():
        shown = rows_concerned(table, missing, lambda i: "not there")
        raise UserError(f"{source}: {int(missing.sum())} rows are of images that are not in the cohort {people.folder}: {shown}")
    added = {}
    if people.about.get("patients_known", True):
        patients = people.table["patient_id"].astype("string").iloc[at].set_axis(table.index)
        if "patient_id" in table.columns:
            other = (table["patient_id"].astype("string") != patients).to_numpy(dtype=bool, na_value=False)
            if other.any():
                shown = rows_concerned(table, other, lambda i: f"{table['patient_id'].iloc[i]} here, {patients.iloc[i]} there")
                raise UserError(f"{source}: {int(other.sum())} rows have another patient than in the cohort {people.folder}: {shown}")
        added["patient_id"] = patients
    wanted = subgroups if subgroups is not None else [a for a in DEFAULT_ATTRIBUTES if a in people.table.columns]
    for attribute in wanted:
        if attribute not in table.columns and attribute in people.table.columns:
            added[attribute] = people.table[attribute].iloc[at].set_axis(table.index)
    return table.assign(**added)


def group_columns(
    source: str, table: pd.DataFrame, subgroups: Sequence[str] | None, crossed: Sequence[Sequence[str]], bins: list[str] | None
) -> tuple[dict[str, pd.Series], dict[str, list[str]]]:
    """Give each row's group in each attribute, and the groups in order; crossed attributes are made from theirs."""
    import pandas as pd

    attributes = subgroups if subgroups is not None else [a for a in DEFAULT_ATTRIBUTES if a in table.columns]
    edges: Mapping[str, Sequence[float]] = parse_bins(bins)
    groups, order = {}, {}
    test = _is_test(table)
    for attribute in attributes:
        if attribute not in table.columns:
            raise UserError(f"{source}: --by {attribute}: no column '{attribute}'{nearest(attribute, map(str, table.columns))}")
        if attribute in LEADING:
            raise UserError(
                f"{source}: --by {attribute}: '{attribute}' is a column of the predictions themselves; choose another attribute"
            )
        # Ages that are groups already, as in predictions.parquet, are taken as they are.
        named = not bins and attribute in DEFAULT_BINS and not pd.api.types.is_numeric_dtype(table[attribute])
        mine = {} if named else edges
        groups[attribute] = group_of(table, attribute, mine)
        order[attribute] = group_order(table[test], attribute, mine)
    for parts in crossed:
        order[AND.join(parts)] = [AND.join(names) for names in itertools.product(*(order[part] for part in parts))]
    return groups, order


def _is_test(table: pd.DataFrame) -> np.ndarray:
    return (table["split"] == "test").to_numpy(dtype=bool, na_value=False) if "split" in table.columns else np.ones(len(table), dtype=bool)
