"""What is compared: the images of a cohort with their measures, their latent features and their attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate.allocation import link
from curate.artefacts import sha256_file
from curate.cohort import Cohort, read_cohort
from curate.errors import UserError, nearest
from curate.groups import parse_bins
from curate.identify.attributes import DEFAULT_BY, FEWEST, Attribute, read_attributes

MEASURES = "measures"
MOST_DIMENSIONS = 256
_MOST_NAMED = 6  # measures without a value
_LEAST_MEASURED = 0.8  # share of images that must have a measure for it to be a dimension of the space of measures


@dataclass
class Archive:
    """The images that are compared.

    Attributes:
        name: the cohort's.
        image_id: (n,) strings; patient: (n,) int64 from 0, linked patients together; site: (n,) int32, 0 throughout without a column.
        attributes: what is compared.
        measures: column -> (n,) float64, NaN where missing.
        indices: the measures that say something about the body and not about the photograph.
        dimensions: those of them that most images have: the columns of the space of measures.
        spaces: name -> (rows (m,), features (m, d)): the standardised indices, and latent features where there are any.
        notes: sentences about what was left out.
        inputs: file -> SHA-256.
    """

    name: str
    image_id: np.ndarray
    patient: np.ndarray
    site: np.ndarray
    attributes: list[Attribute] = field(default_factory=list)
    measures: dict[str, np.ndarray] = field(default_factory=dict)
    indices: list[str] = field(default_factory=list)
    dimensions: list[str] = field(default_factory=list)
    spaces: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def space(self) -> str:
        """The space that attributes are ranked in: latent features where there are any."""
        return list(self.spaces)[-1]


def read_archive(folder: Path, by: Sequence[str], bins: Sequence[str], features: str | None) -> Archive:
    """Read everything that is compared.

    Args:
        folder: the cohort folder; by: attributes, none for the usual ones that it has; bins: texts ``COLUMN=EDGE,EDGE``.
        features: ``latent-NAME``, ``measures``, or None for the latent features where there is one file of them.

    Raises:
        UserError: where there is nothing to compare, or a column or file isn't there.
    """
    edges = parse_bins(bins)
    cohort = read_cohort(folder, columns=("image_id", "patient_id", "site", *(by or DEFAULT_BY)))
    table = cohort.table
    if missing := [c for c in by if c not in table.columns]:
        import pyarrow.parquet as pq

        there = pq.read_schema(folder / "cohort.parquet").names
        raise UserError(f"--by {','.join(by)}: the cohort has no column '{missing[0]}'{nearest(missing[0], there)}")
    if len(set(by)) < len(by):
        raise UserError(f"--by {','.join(by)}: names a column twice")
    asked = list(by) or [c for c in DEFAULT_BY if c in table.columns and table[c].notna().any()]
    measured = cohort.measurements()
    latent = _latent_file(folder, features, measured is not None)
    kept, notes = np.ones(len(table), dtype=bool), []
    if measured is not None:
        measured = measured.set_index("image_id").reindex(table["image_id"])
        if "quality" in measured.columns:
            rejected = (measured["quality"] == "reject").to_numpy(dtype=bool, na_value=False)
            kept &= ~rejected
            if rejected.any():
                notes.append(f"{int(rejected.sum()):,} of {len(table):,} images are graded reject: left out")
    if not len(table):
        raise UserError(f"{folder}: the cohort has no image: there is nothing to compare")
    if not kept.any():
        raise UserError(f"{folder}: every image is graded reject: there is nothing to compare")
    patient = _people(cohort, table)[kept]
    if (people := len(np.unique(patient))) < 2 * FEWEST:
        who = "one patient" if people == 1 else f"{people} patients"
        raise UserError(f"{folder}: the images that can be compared are of {who}; two groups of {FEWEST} patients at least are needed")
    table = table[kept].reset_index(drop=True)
    site = pd.factorize(table["site"])[0] + 1 if "site" in table.columns else np.zeros(len(table))
    archive = Archive(
        cohort.name,
        table["image_id"].to_numpy(dtype=object),
        np.unique(patient, return_inverse=True)[1],
        site.astype(np.int32),
        notes=notes,
    )
    archive.attributes, said = read_attributes(table, asked, edges, archive.patient)
    archive.notes += said
    if not archive.attributes:
        raise UserError(f"{folder}: no attribute can be compared ({'; '.join(archive.notes) or 'no column holds anything'})")
    archive.inputs = {"cohort.parquet": cohort.digest, "duplicates.parquet": sha256_file(folder / "duplicates.parquet")}
    if measured is not None:
        archive.inputs["measurements.parquet"] = sha256_file(folder / "measurements.parquet")
        _add_measures(archive, measured[kept], cohort.of_the_photograph())
    if latent is not None:
        archive.inputs[latent.name] = sha256_file(latent)
        archive.spaces[latent.stem] = _latent(latent, archive)
    if not archive.spaces:
        what = _states(measured[kept]) if measured is not None else ""
        raise UserError(f"{folder}: no measure varies; there is nothing to compare{what} ({'; '.join(archive.notes)})")
    return archive


def _states(measured: pd.DataFrame) -> str:
    """Say what became of the images, where none could be measured."""
    numbers = measured.select_dtypes("number")
    if "state" not in measured.columns or not numbers.isna().all(axis=None):
        return ""
    states = measured["state"].fillna("not measured").value_counts()
    return ": no image could be measured, " + ", ".join(f"{n:,} are '{state}'" for state, n in states.items())


def _people(cohort: Cohort, table: pd.DataFrame) -> np.ndarray:
    """Number the patients; those who share a photograph are one."""
    patient, people = pd.factorize(table["patient_id"])
    pairs = cohort.duplicates()
    if not len(pairs):
        return patient.astype(np.int64)
    rows = pd.Index(table["image_id"])
    first, second = (rows.get_indexer(pairs[c]) for c in ("image_a", "image_b"))
    there = (first >= 0) & (second >= 0)
    return link(len(people), patient[first[there]], patient[second[there]])[patient]


def _latent_file(folder: Path, features: str | None, measured: bool) -> Path | None:
    there = {p.stem: p for p in sorted(folder.glob("latent-*.parquet"))}
    if features is None:
        if len(there) > 1:
            raise UserError(
                f"{folder}: latent features of several models ({', '.join(there)}); say which, as --features {next(iter(there))}"
            )
        if not there and not measured:
            raise UserError(f"{folder}: neither measured nor embedded; run curate measure, or evaluate embed, first")
        return next(iter(there.values()), None)
    if features == MEASURES:
        if not measured:
            raise UserError(f"--features {MEASURES}: {folder} has no measurements.parquet; run curate measure first")
        return None
    if features not in there:
        raise UserError(f"--features {features}: no {features}.parquet in {folder}{nearest(features, [*there, MEASURES])}")
    return there[features]


def _add_measures(archive: Archive, measured: pd.DataFrame, of_the_photograph: frozenset[str]) -> None:
    """Sort out which measures vary, and build the space of those that say something about the body."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    empty: list[str] = []
    for column in measured.columns:
        if not pd.api.types.is_numeric_dtype(measured[column]) or pd.api.types.is_bool_dtype(measured[column]):
            continue
        values = measured[column].to_numpy(dtype=float, na_value=np.nan)
        values = np.where(np.isinf(values), np.nan, values)
        known = values[np.isfinite(values)]
        if not len(known):
            empty.append(column)
        elif known.min() == known.max():
            archive.notes.append(f"measure {column} is {known[0]:g} for every image: a constant has nothing to compare")
        else:
            archive.measures[column] = values
    if empty:
        several = f"measures {', '.join(empty[:_MOST_NAMED])}{', ...' if len(empty) > _MOST_NAMED else ''} ({len(empty)}) have"
        archive.notes.append(f"{f'measure {empty[0]} has' if len(empty) == 1 else several} no value: nothing to compare")
    archive.indices = [c for c in archive.measures if c not in of_the_photograph] or list(archive.measures)
    archive.dimensions = [c for c in archive.indices if np.isfinite(archive.measures[c]).mean() >= _LEAST_MEASURED]
    if not archive.dimensions:
        return
    rows = np.flatnonzero(np.all([np.isfinite(archive.measures[c]) for c in archive.dimensions], axis=0))
    # Normal scores: a tortuosity of ten deviations is one image, not half of the variation.
    scores = [ndtri((rankdata(archive.measures[c][rows]) - 0.5) / len(rows)) for c in archive.dimensions]
    archive.spaces[MEASURES] = (rows, np.stack([s / s.std() if s.std() > 0 else s for s in scores], axis=1))


def _latent(file: Path, archive: Archive) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow.parquet as pq

    names = [c for c in pq.read_schema(file).names if c[:1] == "f" and c[1:].isdigit()]
    if not names or "image_id" not in pq.read_schema(file).names:
        raise UserError(f"{file}: expected the columns image_id, f0, f1, ...; make it with evaluate embed")
    names.sort(key=lambda c: int(c[1:]))
    table = pq.read_table(file, columns=["image_id", *names])
    place = pd.Index(table["image_id"].to_pandas()).get_indexer(archive.image_id)
    features = np.stack([table[c].to_numpy() for c in names], axis=1)
    rows = np.flatnonzero(place >= 0)
    rows = rows[np.isfinite(features[place[rows]]).all(axis=1)]
    if len(rows) < 2:
        raise UserError(f"{file}: has no features of the cohort's images; embed this cohort again")
    if len(rows) < len(place):
        archive.notes.append(f"{len(place) - len(rows):,} of {len(place):,} images have no features in {file.name}")
    chosen = features[place[rows]]
    if len(names) > MOST_DIMENSIONS:
        from curate.identify.predictability import principal_components

        whole = float(chosen.var(axis=0, dtype=np.float64).sum())
        chosen = principal_components(chosen, MOST_DIMENSIONS)
        share = float(chosen.var(axis=0).sum()) / whole if whole > 0 else 1.0
        archive.notes.append(
            f"{file.name}: {len(names)} features brought to {MOST_DIMENSIONS} components with {100 * share:.1f} % of their variance"
        )
    if float(chosen.var(axis=0, dtype=np.float64).sum()) == 0:
        raise UserError(f"{file}: every image has the same features; there is nothing to compare")
    return rows, chosen


def describe(archive: Archive) -> dict[str, Any]:
    """Give the counts that go into ``identify.json``."""
    rows, features = archive.spaces[archive.space]
    return {
        "cohort": archive.name,
        "images": len(archive.image_id),
        "patients": int(archive.patient.max()) + 1,
        "space": {"name": archive.space, "images": len(rows), "dimensions": int(features.shape[1])},
        "groups": {
            a.name: {g: int(c) for g, c in zip(a.groups, np.bincount(a.code[a.code >= 0]), strict=True)} for a in archive.attributes
        },
    }
