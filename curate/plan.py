"""The plan of a sample: from a cohort to a balanced draw without leaks, gate by gate in a fixed order.

clean -> quality -> near-duplicates -> hold-out -> rule -> cap a patient -> draw. Each gate's counts are kept, per subgroup,
because a gate that costs one group more than the others is itself a finding. Rows are numbers here and groups are codes:
ten million rows fit into a few gigabytes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate.allocation import count_patients, link, place_within, rank_for, stable_hash
from curate.cohort import Cohort
from curate.errors import UserError, nearest
from curate.groups import DEFAULT_ATTRIBUTES, group_codes, parse_bins
from curate.near_duplicates import LINKED, SAME
from curate.request import ACCEPTED, SampleRequest
from curate.rules import fitting
from curate.strata import Draw, allocate

# What a plan reads of a cohort, besides the columns that it is balanced by and shown by.
NEEDED = ("image_id", "patient_id", "acquired_on", "width", "height")


@dataclass
class Plan:
    """A draw that has been decided and not yet written.

    Attributes:
        drawn: the cohort's rows that were drawn.
        held_out: the rows of held-out patients, past the same gates.
        gates: counts after every gate.
        draw: the strata, what each was asked for and gave; empty where nothing is balanced.
    """

    drawn: pd.DataFrame
    held_out: pd.DataFrame
    gates: list[dict[str, Any]] = field(default_factory=list)
    draw: Draw = field(default_factory=Draw)

    @property
    def allocation(self) -> list[dict[str, Any]]:
        """A row a stratum."""
        return self.draw.allocation

    @property
    def measures(self) -> dict[str, dict[str, float | None]]:
        """Balance before and after."""
        return self.draw.measures


def make_plan(cohort: Cohort, request: SampleRequest, measurements: pd.DataFrame | None) -> Plan:
    """Take a cohort through the gates and decide the draw; writes nothing.

    Args:
        cohort: its table needs the columns of `NEEDED`, those of the request, and age, sex and ethnicity where there are any.
        request: what is asked.
        measurements: columns image_id and quality, where images were graded.

    Raises:
        UserError: where a column is missing or nothing is left to draw.
    """
    bins = parse_bins(request.bins)
    table = cohort.table
    for column in (*request.balance, *request.embed_metadata):
        if column not in table.columns:
            raise UserError(f"the cohort has no column '{column}'{nearest(column, map(str, table.columns))}")
    defaults = [a for a in DEFAULT_ATTRIBUTES if a in table.columns and table[a].notna().any()]
    shown = dict.fromkeys((*request.balance, *defaults))
    with ThreadPoolExecutor(2) as pool:  # long columns of text, read outside Python's lock
        factorized = pool.submit(pd.factorize, table["patient_id"])
        hashed = pool.submit(stable_hash, table["image_id"], request.seed)
        groups = {a: group_codes(table, a, bins) for a in shown}
        (patient, people), identity = factorized.result(), hashed.result()
    patient = patient.astype(np.int32)
    pairs = _Pairs(cohort, table)
    component = link(len(people), patient[pairs.first], patient[pairs.second])
    log = _GateLog(groups, patient, len(people), cohort.about["counts"]["rows"])

    alive = np.ones(len(table), dtype=bool)
    log.note("clean", "Rows with a readable image and no contradiction", alive)
    if measurements is not None:
        accepted = measurements["image_id"][measurements["quality"].isin(ACCEPTED[request.quality])]
        alive &= _is_in(table["image_id"], accepted)
        log.note("quality", f"Quality {request.quality} or better", alive)
    alive[pairs.to_drop(alive, table, patient)] = False
    log.note("duplicates", "One file of each photograph", alive)
    if request.exclude:
        excluded = component[np.flatnonzero(_is_in(pd.Series(people), pd.Series(sorted(_excluded(request.exclude)), dtype=str)))]
        # Whoever shares a photograph with an excluded patient stays out as well.
        alive &= ~np.isin(component, excluded)[patient]
        log.note("exclude", "Patients of no excluded file", alive)
    held = _held_out(component, stable_hash(pd.Series(people), request.seed), request.holdout)[patient]
    held_out = np.flatnonzero(alive & held)
    alive &= ~held
    log.note("holdout", f"Patients not held out (share held out {request.holdout:g})", alive)
    rule = request.rule()
    if rule:
        alive &= fitting(rule, table, "--where").to_numpy()
        if not alive.any():
            raise UserError(f"--where {request.where.strip()}: of the images that passed the gates before it none fits")
        log.note("where", f"Images where {request.where.strip()}", alive)
    rows = np.flatnonzero(alive)
    identity = identity[rows]
    if request.per_patient:
        few = place_within(patient[rows], rank_for(identity, "per-patient")) < request.per_patient
        alive[rows[~few]] = False
        rows, identity = rows[few], identity[few]
        log.note("per-patient", f"At most {request.per_patient} images a patient", alive)
    draw = allocate(rows, rank_for(identity, "draw"), patient, groups, request, bins)
    alive[:] = False
    alive[draw.rows] = True
    how = "balanced by" if request.target == "uniform" else f"target {request.target} by"
    log.note("draw", f"Drawn, {how} {' and '.join(request.balance)}" if request.balance else "Drawn at random", alive)
    if not len(draw.rows):
        raise UserError("nothing is left to draw; see the counts after every gate with --dry-run --quality any --holdout 0")
    return Plan(drawn=table.iloc[draw.rows], held_out=table.iloc[held_out], gates=log.gates, draw=draw)


def _is_in(column: pd.Series, values: pd.Series) -> np.ndarray:
    """Say of each text whether it is among others, in compact memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(pa.array(column, type=pa.large_string()), value_set=pa.array(values, type=pa.large_string()))
    return np.asarray(found)


class _Pairs:
    """Pairs of near-duplicates, by row.

    Attributes:
        first, second: (m,) int64, rows of the table; similarity (m,) float64.
    """

    def __init__(self, cohort: Cohort, table: pd.DataFrame) -> None:
        pairs = cohort.duplicates()
        involved = np.flatnonzero(_is_in(table["image_id"], pd.concat([pairs["image_a"], pairs["image_b"]])))
        place = pd.Series(involved, index=table["image_id"].iloc[involved].to_numpy(dtype=object))
        first, second = (place.reindex(pairs[c].to_numpy(dtype=object)).to_numpy(dtype=float) for c in ("image_a", "image_b"))
        here = ~(np.isnan(first) | np.isnan(second)) & (pairs["similarity"] >= LINKED).to_numpy()
        self.first, self.second = first[here].astype(np.int64), second[here].astype(np.int64)
        self.similarity = pairs["similarity"].to_numpy()[here]

    def to_drop(self, alive: np.ndarray, table: pd.DataFrame, patient: np.ndarray) -> np.ndarray:
        """Give the rows of which another shows the same photograph; the largest of a set stays, of equal ones the first by id.

        Photographs of one patient that were taken on different days are different photographs, however alike.
        """
        both = (self.similarity >= SAME) & alive[self.first] & alive[self.second]
        first, second = self.first[both], self.second[both]
        days = table["acquired_on"] if "acquired_on" in table.columns else pd.Series(None, index=table.index, dtype=object)
        one, other = days.iloc[first].to_numpy(dtype=object), days.iloc[second].to_numpy(dtype=object)
        known = ~(pd.isna(one) | pd.isna(other))
        apart = known & (one != other) & (patient[first] == patient[second]) & (self.similarity[both] < 1)
        first, second = first[~apart], second[~apart]
        members, ends = np.unique(np.concatenate([first, second]), return_inverse=True)
        if not len(members):
            return members
        sets = link(len(members), *np.split(ends, 2))
        some = table.iloc[members]
        pixels = (some["width"] * some["height"]).to_numpy() if "width" in some.columns else np.zeros(len(some))
        order = np.lexsort((some["image_id"].to_numpy(dtype=str), -pixels, sets))
        later = np.r_[False, sets[order][1:] == sets[order][:-1]]
        return members[order[later]]


def _excluded(files: tuple[str, ...]) -> set[str]:
    """Read the patients that stay out.

    Raises:
        UserError: where a file is missing or has no column patient_id.
    """
    patients: set[str] = set()
    for file in files:
        path = Path(file)
        if not path.is_file():
            raise UserError(f"--exclude {file}: no such file")
        try:
            frame = pd.read_csv(path, dtype=str) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise UserError(f"--exclude {file}: cannot be read ({' '.join(str(error).split())})") from None
        if "patient_id" not in frame.columns:
            raise UserError(f"--exclude {file}: has no column 'patient_id'{nearest('patient_id', map(str, frame.columns))}")
        patients |= set(frame["patient_id"].dropna().astype(str))
    return patients


def _held_out(component: np.ndarray, hashes: np.ndarray, share: float) -> np.ndarray:
    """Hold patients out by their hashes alone, so that a cohort that grows never moves anyone.

    Linked patients follow the one with the lowest rank: whoever was held out stays so, whomever the cohort links to them later.
    """
    rank = rank_for(hashes, "hold-out")
    least = rank.copy()
    linked = np.flatnonzero(component != np.arange(len(component)))
    np.minimum.at(least, component[linked], rank[linked])
    return (least < np.uint64(min(int(share * 2**64), 2**64 - 1)))[component]


class _GateLog:
    """Counts images and patients after each gate, overall and per group."""

    def __init__(self, groups: dict[str, tuple[np.ndarray, list[str]]], patient: np.ndarray, people: int, rows: int) -> None:
        self.groups, self.patient, self.people = groups, patient, people
        first = {"gate": "archive", "title": "Rows of the archive's table", "images": rows, "patients": None}
        self.gates: list[dict[str, Any]] = [{**first, "removed_images": 0, "removed_patients": 0}]

    def note(self, gate: str, title: str, alive: np.ndarray) -> None:
        before = self.gates[-1]
        rows = int(np.count_nonzero(alive))
        if len(self.gates) > 1 and rows == before["images"]:  # a gate only ever closes: nobody was lost
            self.gates.append({**before, "gate": gate, "title": title, "removed_images": 0, "removed_patients": 0})
            return
        patient = self.patient if rows == len(alive) else self.patient[alive]
        patients = int(np.count_nonzero(np.bincount(patient, minlength=1)))
        by: dict[str, Any] = {}
        for attribute, (codes, names) in self.groups.items():
            own = codes if rows == len(alive) else codes[alive]
            counts, persons = np.bincount(own, minlength=len(names)), count_patients(patient, own, len(names), self.people)
            by[attribute] = {g: {"images": int(i), "patients": int(p)} for g, i, p in zip(names, counts, persons, strict=True)}
        self.gates.append(
            {
                "gate": gate,
                "title": title,
                "images": rows,
                "patients": patients,
                "removed_images": before["images"] - rows,
                "removed_patients": (before["patients"] - patients) if before["patients"] is not None else 0,
                "by": by,
            }
        )
