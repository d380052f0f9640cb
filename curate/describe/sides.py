"""The sides of a description: a cohort; a cohort and another; or the groups of one column of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from curate.artefacts import read_json, sha256_file
from curate.cohort import Cohort, read_cohort
from curate.errors import UserError
from curate.groups import UNKNOWN, group_codes

MOST_SIDES = 6


@dataclass(frozen=True)
class Side:
    """Images that are described together.

    Attributes:
        name: the cohort's, or the group's.
        table: a row an image: the cohort's columns.
        measures: as many rows: the columns of ``measurements.parquet`` without ``image_id``, nulls where an image was not measured;
            no columns where nothing was.
        patient: (rows,) integers, the patient of each; the same person has the same number on every side.
    """

    name: str
    table: pd.DataFrame
    measures: pd.DataFrame
    patient: np.ndarray

    @property
    def patients(self) -> int:
        """How many people are on this side."""
        return len(np.unique(self.patient))


@dataclass(frozen=True)
class Sides:
    """What is described side by side.

    Attributes:
        sides: the first is compared with each of the others.
        people: how many patients the numbers in `Side.patient` may stand for.
        inputs: what was read -> its SHA-256.
        remarks: what a reader should know of how the sides came about.
        of_the_photograph: measures that say how an image was taken and not what it shows.
    """

    sides: list[Side]
    people: int
    inputs: dict[str, str]
    remarks: list[str]
    of_the_photograph: frozenset[str] = frozenset()


def read_sides(cohort: Path, *, against: Path | None, split: str | None, bins: Mapping[str, Sequence[float]]) -> Sides:
    """Read what is to be described.

    Patients of two cohorts are different people, whatever their ids, unless they share a file of the same bytes.

    Args:
        cohort: the cohort's folder.
        against: another cohort's folder, to be compared with.
        split: a column whose groups are to be compared within the cohort.
        bins: edges by column.

    Raises:
        UserError: where a folder is no cohort or holds no image, both ways of comparing are asked for, or the column doesn't make 2 to
            `MOST_SIDES` groups.
    """
    if against is not None and split is not None:
        raise UserError("--against and --split: give one of them; each says what to compare with")
    first, inputs = _read(cohort, "")
    if against is not None:
        second, more = _read(against, "against ")
        both = first.of_the_photograph() | second.of_the_photograph()
        return replace(_two_cohorts(first, second, inputs | more), of_the_photograph=both)
    patient, _ = pd.factorize(first.table["patient_id"])
    whole = Side(first.name, first.table, _measures(first), patient)
    people = int(patient.max()) + 1
    sides = Sides([whole], people, inputs, []) if split is None else _groups(whole, people, split, bins, inputs)
    return replace(sides, of_the_photograph=first.of_the_photograph())


def _read(folder: Path, prefix: str) -> tuple[Cohort, dict[str, str]]:
    cohort = read_cohort(folder)
    if not len(cohort.table):
        raise UserError(f"{folder}: the cohort has no image: there is nothing to describe")
    inputs = {f"{prefix}cohort.parquet": cohort.digest}
    if (folder / "measurements.parquet").exists():
        inputs[f"{prefix}measurements.parquet"] = sha256_file(folder / "measurements.parquet")
    return cohort, inputs


def _measures(cohort: Cohort) -> pd.DataFrame:
    measured = cohort.measurements()
    if measured is None:
        return pd.DataFrame(index=cohort.table.index)
    aligned = measured.set_index("image_id").reindex(cohort.table["image_id"])
    return aligned.set_axis(cohort.table.index, axis=0)


def _two_cohorts(first: Cohort, second: Cohort, inputs: dict[str, str]) -> Sides:
    remarks = _measured_differently(first, second)
    a, ids_a = pd.factorize(first.table["patient_id"])
    b, ids_b = pd.factorize(second.table["patient_id"])
    b = b + len(ids_a)
    if {"sha256"} <= set(first.table.columns) & set(second.table.columns):
        known = pd.Series(a, index=first.table["sha256"].to_numpy())
        known = known[known.index.notna() & ~known.index.duplicated()]
        same = second.table["sha256"].map(known).to_numpy(dtype=float, na_value=np.nan)
        shared = np.flatnonzero(~np.isnan(same))
        if len(shared):
            number = np.arange(len(ids_a) + len(ids_b))
            number[b[shared]] = same[shared].astype(np.int64)
            b = number[b]
            people = len(np.intersect1d(a, b))
            remarks.append(f"{len(shared):,} photographs stand in both cohorts: their {people:,} patients are taken as the same people")
    names = [first.name, second.name] if first.name != second.name else [f"{first.name} (1)", f"{second.name} (2)"]
    sides = [Side(n, c.table, _measures(c), p) for n, c, p in zip(names, (first, second), (a, b), strict=True)]
    return Sides(sides, len(ids_a) + len(ids_b), inputs, remarks)


def _measured_differently(first: Cohort, second: Cohort) -> list[str]:
    """Warn where the measures of two cohorts don't mean the same, though their columns have the same names."""
    files = [cohort.folder / "measurements.json" for cohort in (first, second)]
    if not all(file.exists() for file in files):
        return []
    a, b = (read_json(file, "a table of measures").get("made_by", {}).get("specification", {}) for file in files)
    apart = [f"{key} {a.get(key)} and {b.get(key)}" for key in ("modality", "compatible", "resolution") if a.get(key) != b.get(key)]
    return [f"the cohorts were measured differently ({', '.join(apart)}): measures may differ by that alone"] if apart else []


def _groups(whole: Side, people: int, split: str, bins: Mapping[str, Sequence[float]], inputs: dict[str, str]) -> Sides:
    codes, names = group_codes(whole.table, split, bins)
    kept = [(code, name) for code, name in enumerate(names) if name != UNKNOWN and (codes == code).any()]
    if len(kept) < 2:
        only = f"; every known image is '{kept[0][1]}'" if kept else "; it is unknown of every image"
        raise UserError(f"--split {split}: there are no two groups to compare{only}")
    if len(kept) > MOST_SIDES:
        advice = f"give wider groups with --bins {split}=EDGE,EDGE" if split in bins else "use --by to list it"
        raise UserError(f"--split {split}: has {len(kept):,} groups, and at most {MOST_SIDES} stand side by side; {advice}")
    sides, remarks = [], []
    for code, name in kept:
        rows = codes == code
        sides.append(Side(name, whole.table[rows], whole.measures[rows], whole.patient[rows]))
    if UNKNOWN in names:
        unknown = int((codes == names.index(UNKNOWN)).sum())
        remarks.append(f"{unknown:,} images whose {split} is unknown are left out")
    several = len(np.unique(np.concatenate([np.unique(s.patient) for s in sides])))
    shared = sum(s.patients for s in sides) - several
    if shared:
        remarks.append(f"{shared:,} patients more than once, in several groups of {split}: their differences are taken within the patient")
    return Sides(sides, people, inputs, remarks)
