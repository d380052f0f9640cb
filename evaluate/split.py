"""Which patients are learned from, chosen with, and tested on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from curate import UserError, link, nearest
from evaluate.task import ColumnSplit, FractionSplit, HoldoutSplit, Task

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")


def split_images(task: Task, table: pd.DataFrame, label: str, *, seed: int, shards: Path, unit: pd.Series | None = None) -> pd.Series:
    """Put each labelled image into a split, whole patients at a time, and with them whoever is linked to them.

    Args:
        task: the task; its ``split`` says how.
        table: labelled images: the cohort's columns and `label`. An image without a patient is a patient of its own.
        label: the column of integers that are divided evenly, as class indices.
        seed: of the division by fractions.
        shards: shard set whose held-out patients are the test set, for ``test: holdout``.
        unit: who stays together with each image's patient, from `linked_patients`; None: nobody. A given split column
            is followed all the same.

    Returns:
        ``train``, ``val``, ``test``, or null where a split column is empty; the index is the table's.

    Raises:
        UserError: where a patient would be in two splits, or a split stays empty.
    """
    who = patient_names(table)
    unit = who if unit is None else unit
    if isinstance(task.split, ColumnSplit):
        split = _from_column(task, table, task.split.column)
    elif isinstance(task.split, FractionSplit):
        rule = task.split
        split = unit.map(_by_fractions(unit, table[label], {"train": rule.train, "val": rule.val, "test": rule.test}, seed))
    else:
        split = _with_holdout(task, table, label, who, unit, task.split, seed, shards)
    refuse_shared_patients(f"task {task.name}", who, split)
    for name in SPLITS:
        if not (split == name).any():
            raise UserError(f"task {task.name}: no labelled image falls into the split '{name}'; give another split or more patients")
    return split


def patient_names(table: pd.DataFrame) -> pd.Series:
    """Name each image's patient; an image without one is a patient of its own."""
    return ("patient " + table["patient_id"].astype("string")).fillna("image " + table["image_id"].astype("string"))


def linked_patients(who: pd.Series, image_id: pd.Series, pairs: pd.DataFrame) -> pd.Series:
    """Join patients who share a photograph, directly or through others: the two may be one person under two ids.

    Args:
        who: (n,) each image's patient.
        image_id: (n,) the images.
        pairs: columns image_a and image_b, see `curate.Cohort.duplicates`.

    Returns:
        The first name, in sorted order, of everyone linked to each image's patient; the index is that of `who`.
    """
    import numpy as np
    import pandas as pd

    codes, names = pd.factorize(who, sort=True)
    patient = pd.Series(codes, index=image_id.to_numpy(dtype=object))
    ends = [patient.reindex(pairs[c].to_numpy(dtype=object)).to_numpy(dtype=float) for c in ("image_a", "image_b")]
    here = ~np.isnan(ends[0]) & ~np.isnan(ends[1])
    first, second = (e[here].astype(np.int64) for e in ends)
    least = link(len(names), first, second)
    return pd.Series(np.asarray(names, dtype=object)[least[codes]], index=who.index)


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


def _with_holdout(
    task: Task, table: pd.DataFrame, label: str, who: pd.Series, unit: pd.Series, rule: HoldoutSplit, seed: int, shards: Path
) -> pd.Series:
    known = who.isin(set(patient_names(read_holdout(shards))))
    if not known.any():
        raise UserError(
            f"task {task.name}: none of the patients held out in {shards} has a labelled image in this cohort; is it the same cohort?"
        )
    held_out = unit.isin(set(unit[known]))
    rest = ~held_out
    # Who isn't used stands between the two: any training share is a part of every larger one, beside the same validation split.
    train = 1 - rule.val if rule.train is None else min(rule.train, 1 - rule.val)
    shares = {"train": train, "": 1 - rule.val - train, "val": rule.val}
    split = unit.map(_by_fractions(unit[rest], table.loc[rest, label], shares, seed)).astype(object)
    return split.where(split.notna() & (split != ""), None).where(rest, "test")


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


def _by_fractions(unit: pd.Series, labels: pd.Series, fractions: dict[str, float], seed: int) -> dict[str, str]:
    """Divide patients, or sets of linked ones, within strata of their highest label, in the order of a hash.

    Ranking the hashes (instead of comparing each with a threshold) keeps every stratum's shares exact to one patient,
    and the order of a patient among the others never depends on the table's order.
    """
    worst = labels.astype("int64").groupby(unit).max()
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
