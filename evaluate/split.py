"""Which patients are learned from, chosen with, and tested on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from curate import UserError, nearest
from evaluate.task import ColumnSplit, FractionSplit, HoldoutSplit, Task

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")


def split_images(task: Task, table: pd.DataFrame, label: str, *, seed: int, shards: Path) -> pd.Series:
    """Put each labelled image into a split, whole patients at a time.

    Args:
        task: the task; its ``split`` says how.
        table: labelled images: the cohort's columns and `label`. An image without a patient is a patient of its own.
        label: the column of class indices.
        seed: of the division by fractions.
        shards: shard set whose held-out patients are the test set, for ``test: holdout``.

    Returns:
        ``train``, ``val``, ``test``, or null where a split column is empty; the index is the table's.

    Raises:
        UserError: where a patient would be in two splits, or a split stays empty.
    """
    who = patient_names(table)
    if isinstance(task.split, ColumnSplit):
        split = _from_column(task, table, task.split.column)
    elif isinstance(task.split, FractionSplit):
        rule = task.split
        split = who.map(_by_fractions(who, table[label], {"train": rule.train, "val": rule.val, "test": rule.test}, seed))
    else:
        split = _with_holdout(task, table, label, who, task.split, seed, shards)
    refuse_shared_patients(f"task {task.name}", who, split)
    for name in SPLITS:
        if not (split == name).any():
            raise UserError(f"task {task.name}: no labelled image falls into the split '{name}'; give another split or more patients")
    return split


def patient_names(table: pd.DataFrame) -> pd.Series:
    """Name each image's patient; an image without one is a patient of its own."""
    return ("patient " + table["patient_id"].astype("string")).fillna("image " + table["image_id"].astype("string"))


def refuse_shared_patients(where: str, who: pd.Series, split: pd.Series) -> None:
    """Refuse patients that are in two splits, and list the first of them."""
    sides = split.groupby(who).nunique()
    shared = sorted(sides[sides > 1].index)
    if shared:
        first = "; ".join(f"{name} in {' and '.join(s for s in SPLITS if (split[who == name] == s).any())}" for name in shared[:5])
        raise UserError(f"{where}: {len(shared)} patients are in two splits ({first}{'; ...' if len(shared) > 5 else ''})")


def _from_column(task: Task, table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table.columns:
        raise UserError(f"task {task.name}: split.column: the cohort has no column '{column}'{nearest(column, map(str, table.columns))}")
    text = table[column].astype("string").str.strip().str.lower()
    text = text.mask(text == "")
    other = text[text.notna() & ~text.isin(SPLITS)]
    if len(other):
        values = ", ".join(f"'{v}'" for v in sorted(other.unique())[:5])
        raise UserError(
            f"task {task.name}: split.column: '{column}' holds {values} in {len(other)} rows; expected train, val, test or nothing"
        )
    return text.astype(object).where(text.notna(), None)


def _with_holdout(task: Task, table: pd.DataFrame, label: str, who: pd.Series, rule: HoldoutSplit, seed: int, shards: Path) -> pd.Series:
    held_out = who.isin(set(patient_names(read_holdout(shards))))
    if not held_out.any():
        raise UserError(
            f"task {task.name}: none of the patients held out in {shards} has a labelled image in this cohort; is it the same cohort?"
        )
    rest = ~held_out
    split = who.map(_by_fractions(who[rest], table.loc[rest, label], {"train": 1 - rule.val, "val": rule.val}, seed))
    return split.where(rest, "test")


def read_holdout(shards: Path) -> pd.DataFrame:
    """Read a shard set's held-out images: columns image_id, patient_id.

    Raises:
        UserError: where the list is not there.
    """
    import pandas as pd

    path = shards / "private" / "holdout.parquet"
    if not path.exists():
        raise UserError(f"{path}: missing; 'test: holdout' needs the shard set's private folder (give it with --shards), or use fractions")
    return pd.read_parquet(path, columns=["image_id", "patient_id"])


def _by_fractions(who: pd.Series, labels: pd.Series, fractions: dict[str, float], seed: int) -> dict[str, str]:
    """Divide patients within strata of their highest label, in the order of a hash.

    Ranking the hashes (instead of comparing each with a threshold) keeps every stratum's shares exact to one patient,
    and the order of a patient among the others never depends on the table's order.
    """
    worst = labels.astype("int64").groupby(who).max()
    chosen: dict[str, str] = {}
    for _, stratum in worst.groupby(worst):
        ranked = sorted(stratum.index, key=lambda name: (hashlib.sha256(f"{seed}:{name}".encode()).digest(), name))
        start, reached = 0, 0.0
        for name, fraction in fractions.items():
            reached += fraction
            stop = round(reached * len(ranked))
            chosen.update(dict.fromkeys(ranked[start:stop], name))
            start = stop
    return chosen
