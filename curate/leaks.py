"""Leaks: whether anyone who is held out is in the shards too, by name, by photograph, or by way of others.

Nothing here is shared with the code that drew the sample: the cohort's own records are compared afresh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate.artefacts import sha256_file
from curate.cohort import Cohort
from curate.errors import UserError
from curate.shard_check import first_lines


@dataclass(frozen=True)
class Sides:
    """Who is on which side.

    Attributes:
        drawn: ``key``, ``image_id``, ``patient_id`` of what is in the shards.
        held: ``image_id``, ``patient_id`` of what is held out.
        shard_of: says in which tar a key is.
    """

    drawn: pd.DataFrame
    held: pd.DataFrame
    shard_of: Callable[[str], str]

    def sample(self, row: Any) -> str:
        """Name a row of `drawn`."""
        return f"sample {row.key} ({self.shard_of(row.key)}, image {row.image_id}, patient {row.patient_id})"


def leaks_by_name(sides: Sides, about: dict[str, Any]) -> list[str]:
    """Compare patients and counts; needs no cohort.

    Args:
        sides: who is where.
        about: ``sample.json``.

    Returns:
        One line a problem.
    """
    drawn, held = sides.drawn, sides.held
    images = set(held["image_id"])
    both = drawn[drawn["patient_id"].isin(set(held["patient_id"]))]
    problems = [
        f"{sides.sample(r)}: its {'image' if r.image_id in images else 'patient'} is held out and in the shards"
        for r in both.itertuples(index=False)
    ]
    problems = first_lines(problems)
    specification = about["made_by"]["specification"]
    cap = specification.get("per_patient") or 0
    counts = drawn["patient_id"].value_counts()
    problems += first_lines(
        [f"patient {p} has {n:,} images in the shards, --per-patient allowed {cap}" for p, n in counts.items() if 0 < cap < n]
    )
    told = {
        "images": (about["images"], len(drawn)),
        "patients": (about["patients"], len(counts)),
        "images held out": (about["heldout"]["images"], len(held)),
        "patients held out": (about["heldout"]["patients"], held["patient_id"].nunique()),
    }
    problems += [f"sample.json says {said:,} {what}, private/ lists {found:,}" for what, (said, found) in told.items() if said != found]
    return problems + _excluded(sides, about)


def _excluded(sides: Sides, about: dict[str, Any]) -> list[str]:
    """Compare with the files of patients that were to stay out, where they are still there as they were."""
    problems: list[str] = []
    for name, digest in about["made_by"]["inputs"].items():
        file = Path(name.removeprefix("excluded "))
        if name.startswith("excluded ") and file.is_file() and sha256_file(file) == digest:
            frame = pd.read_csv(file, dtype=str) if file.suffix.lower() == ".csv" else pd.read_parquet(file)
            among = sides.drawn[sides.drawn["patient_id"].isin(set(frame["patient_id"].astype(str)))]
            problems += first_lines(
                [f"{sides.sample(r)}: its patient is in {file}, whose patients were to stay out" for r in among.itertuples(index=False)]
            )
    return problems


def leaks_by_photograph(sides: Sides, cohort: Cohort) -> tuple[list[str], list[str]]:
    """Compare photographs, and people linked by photographs, with what the cohort records.

    Args:
        sides: who is where.
        cohort: that the sample was drawn from.

    Returns:
        The problems, and what could not be checked; one line each.
    """
    table = cohort.table.set_index("image_id")[["patient_id", "sha256"]]
    problems = _agree(sides, table, cohort)
    known = sides.drawn["image_id"].isin(table.index)
    drawn = sides.drawn[known].set_index("image_id", drop=False)
    held = sides.held[sides.held["image_id"].isin(table.index)].set_index("image_id", drop=False)
    said = {image: sides.sample(row) for image, row in zip(drawn.index, drawn.itertuples(index=False), strict=True)}
    people = dict(zip(sides.held["image_id"], sides.held["patient_id"], strict=True))

    digest = table["sha256"]
    files = pd.DataFrame({"image": drawn.index, "sha256": digest.loc[drawn.index].to_numpy()})
    first = dict(zip(files["sha256"][::-1], files["image"][::-1], strict=True))
    again = files[files["sha256"].duplicated()]
    problems += first_lines(
        [f"{said[i]}: is the same photograph as {said[first[s]]}" for i, s in zip(again["image"], again["sha256"], strict=True)]
    )
    same = [(i, first[s]) for i, s in zip(held.index, digest.loc[held.index], strict=True) if s in first and i not in said]
    problems += first_lines([f"held-out image {i} of patient {people[i]} is the same photograph as {said[d]}" for i, d in same])

    unchecked = []
    pairs = pd.DataFrame({"image_a": [], "image_b": [], "similarity": []}, dtype=object)
    try:
        pairs = cohort.duplicates()
    except UserError:
        unchecked.append(f"near-duplicates ({cohort.folder}/duplicates.parquet is missing)")
    told = {frozenset(p) for p in same}
    close = []
    for a, b, similarity in zip(pairs["image_a"], pairs["image_b"], pairs["similarity"], strict=True):
        for image, other in ((a, b), (b, a)):
            if image in people and other in said and image not in said and frozenset((image, other)) not in told:
                close.append(f"held-out image {image} of patient {people[image]} shows nearly what {said[other]} shows ({similarity:.2f})")
    problems += first_lines(close)
    if not same and not close:
        problems += first_lines(_linked(sides, table, pairs))
    return problems, unchecked


def _agree(sides: Sides, table: pd.DataFrame, cohort: Cohort) -> list[str]:
    patient = table["patient_id"].to_dict()
    drawn = sides.drawn[["key", "image_id", "patient_id"]]
    absent = int((~drawn["image_id"].isin(table.index)).sum() + (~sides.held["image_id"].isin(table.index)).sum())
    problems = [f"{cohort.folder}: does not hold {absent:,} image(s) of this shard set; it was drawn from another cohort"] if absent else []
    recorded = drawn["image_id"].map(patient)
    wrong = drawn[recorded.notna() & (recorded.astype(str) != drawn["patient_id"].astype(str))]
    lines = [f"{sides.sample(r)}: the cohort gives the image to patient {patient[r.image_id]}" for r in wrong.itertuples(index=False)]
    recorded = sides.held["image_id"].map(patient)
    wrong = sides.held[recorded.notna() & (recorded.astype(str) != sides.held["patient_id"].astype(str))]
    lines += [
        f"held-out image {r.image_id} of patient {r.patient_id}: the cohort gives it to patient {patient[r.image_id]}"
        for r in wrong.itertuples(index=False)
    ]
    return problems + first_lines(lines)


def _linked(sides: Sides, table: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """Find people on both sides who are linked only by way of others: connected components of patients over photographs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    patients, of_image = np.unique(table["patient_id"].to_numpy(dtype=str), return_inverse=True)
    _, file = np.unique(table["sha256"].to_numpy(dtype=str), return_inverse=True)
    position = pd.Series(np.arange(len(table)), index=table.index)
    # An edge from every image's patient to the patient of the first image with the same file, and one for every pair.
    least = np.full(file.max() + 1 if len(file) else 0, len(table))
    np.minimum.at(least, file, np.arange(len(table)))
    pairs = pairs[pairs["image_a"].isin(table.index) & pairs["image_b"].isin(table.index)]
    a, b = (position.loc[pairs[c]].to_numpy(dtype=np.int64) for c in ("image_a", "image_b"))
    start, end = np.concatenate([of_image, of_image[a]]), np.concatenate([of_image[least[file]], of_image[b]])
    edges = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(len(patients), len(patients)))
    _, component = connected_components(edges, directed=False)
    component_of = dict(zip(patients.tolist(), component.tolist(), strict=True))
    held = {component_of[p]: p for p in sides.held["patient_id"].astype(str) if p in component_of}
    both = set(sides.held["patient_id"].astype(str))
    linked = [(r, held.get(component_of.get(str(r.patient_id), -1))) for r in sides.drawn.itertuples(index=False)]
    return [
        f"{sides.sample(r)}: its patient is linked by photographs, by way of others, to held-out patient {other}"
        for r, other in linked
        if other is not None and str(r.patient_id) not in both
    ]
