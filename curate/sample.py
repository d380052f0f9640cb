"""Sampling: from a cohort to a balanced draw without leaks, gate by gate in a fixed order.

clean -> quality -> copies -> hold-out -> cap a patient -> draw. Each gate's counts are kept, per subgroup, because a
gate that costs one group more than the others is itself a finding.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate.allocation import balance_measures, link_patients, stable_rank, water_fill
from curate.artefacts import begin, provenance, read_json, sha256_file
from curate.cohort import Cohort, read_cohort
from curate.errors import UserError, nearest
from curate.groups import DEFAULT_ATTRIBUTES, UNKNOWN, group_of, group_order, parse_bins
from curate.shard_writer import write_shards
from curate.target import target_digest, target_weights

_ACCEPTED = {"good": ("good",), "usable": ("good", "usable"), "any": ()}


@dataclass(frozen=True)
class SampleRequest:
    """What is asked of a sample.

    Attributes:
        balance: columns whose joint groups are made equal; none draws at random.
        images: how many to draw; None: as many as keep the balance exact.
        per_patient: at most so many images a patient; 0: no limit.
        holdout: share of patients kept out.
        quality: least quality where it was measured: "good", "usable" or "any".
        target: what share of the draw each group should have, as in `curate.target.target_weights`.
        exclude: files with a column patient_id (as another sample's ``private/holdout.parquet``) whose patients stay out.
        unknown: "exclude" or "include" images whose group is unknown.
        size: pixels along the shorter side; 0 keeps each photograph's own.
        jpeg_quality: of photographs that are encoded anew.
        crop: cut every photograph to the modality's field of view before it is resized.
        modality: what the images are, as ``curate measure`` names it; decides what a field of view is.
        shard_images: at most so many images a shard.
        embed_metadata: columns written into the shards.
        bins: texts ``COLUMN=EDGE,EDGE``.
        name: of the shard set.
        seed: of every random choice.
    """

    balance: tuple[str, ...] = ("age",)
    images: int | None = None
    per_patient: int = 0
    holdout: float = 0.1
    quality: str = "usable"
    target: str = "uniform"
    exclude: tuple[str, ...] = ()
    unknown: str = "exclude"
    size: int = 256
    jpeg_quality: int = 92
    crop: bool = False
    modality: str = "retina"
    shard_images: int = 8192
    embed_metadata: tuple[str, ...] = ()
    bins: tuple[str, ...] = ()
    name: str | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: with the option's name.
        """
        if self.quality not in _ACCEPTED:
            raise UserError(f"--quality {self.quality}: expected good, usable or any")
        if self.unknown not in ("exclude", "include"):
            raise UserError(f"--unknown {self.unknown}: expected exclude or include")
        if not 0 <= self.holdout < 1:
            raise UserError(f"--holdout {self.holdout}: expected a share from 0 up to below 1")
        if len(set(self.balance)) != len(self.balance):
            raise UserError(f"--balance {','.join(self.balance)}: names a column twice")
        if self.target != "uniform" and not self.balance:
            raise UserError(f"--target {self.target}: a target needs groups; name their columns with --balance")


@dataclass
class Plan:
    """A draw that has been decided and not yet written.

    Attributes:
        drawn: the cohort's rows that were drawn.
        held_out: the rows of held-out patients, past the same gates.
        gates: counts after every gate.
        allocation: a row a stratum.
        measures: balance before and after.
    """

    drawn: pd.DataFrame
    held_out: pd.DataFrame
    gates: list[dict[str, Any]] = field(default_factory=list)
    allocation: list[dict[str, Any]] = field(default_factory=list)
    measures: dict[str, dict[str, float | None]] = field(default_factory=dict)


def sample_cohort(
    cohort_folder: Path,
    request: SampleRequest,
    *,
    out: Path = Path("shards"),
    salt: Path | None = None,
    dry_run: bool = False,
    workers: int = 0,
) -> dict[str, Any]:
    """Draw a sample and write it as a shard set.

    Args:
        cohort_folder: made by ``curate ingest``.
        request: what is asked.
        out: the shard set folder to make.
        salt: file with the secret from which keys are made; by default it is derived from the seed and the cohort's
            digest, so that only who holds the cohort can compute it.
        dry_run: plan, write nothing.
        workers: processes, 0 for one a core.

    Returns:
        The contents of ``sample.json``.

    Raises:
        UserError: where the cohort, the request or the folder doesn't allow it.
    """
    request.check()
    cohort = read_cohort(cohort_folder)
    measurements = cohort.measurements() if request.quality != "any" else None
    if measurements is not None and "quality" not in measurements.columns:
        measurements = None  # this modality doesn't grade quality
    secret = _secret(salt, request.seed, cohort.digest)
    inputs = {"cohort.parquet": cohort.digest, "salt": hashlib.sha256(secret).hexdigest()}
    if measurements is not None:
        inputs["measurements.parquet"] = sha256_file(cohort.folder / "measurements.parquet")
    inputs |= target_digest(request.target)
    inputs |= {f"excluded {file}": sha256_file(Path(file)) for file in request.exclude if Path(file).is_file()}
    made_by = provenance({**asdict(request), "bins": _plain_bins(request)}, inputs, request.seed)
    if not dry_run and (out / "sample.json").exists():
        begin(out, "sample.json", made_by)  # refuses where it is another sample
        return {**read_json(out / "sample.json", "a shard set"), "done_before": True}
    plan = make_plan(cohort, request, measurements)
    about = _describe(cohort, request, plan, made_by)
    if dry_run:
        return about
    partial = begin(out, "sample.json", made_by)
    if partial is None:
        return {**read_json(out / "sample.json", "a shard set"), "done_before": True}
    return write_shards(plan, cohort, request, about=about, secret=secret, partial=partial, out=out, workers=workers)


def _secret(salt: Path | None, seed: int, digest: str) -> bytes:
    if salt is None:
        return hashlib.blake2b(f"{seed}|{digest}".encode(), digest_size=32).digest()
    if not salt.is_file() or not salt.stat().st_size:
        raise UserError(f"--salt {salt}: no such file, or an empty one")
    return salt.read_bytes()


def _plain_bins(request: SampleRequest) -> dict[str, list[float]]:
    return {column: [float(e) for e in edges] for column, edges in parse_bins(request.bins).items()}


def make_plan(cohort: Cohort, request: SampleRequest, measurements: pd.DataFrame | None) -> Plan:
    """Take a cohort through the gates and decide the draw; writes nothing.

    Raises:
        UserError: where a column is missing or nothing is left to draw.
    """
    bins = parse_bins(request.bins)
    table = cohort.table
    for column in (*request.balance, *request.embed_metadata):
        if column not in table.columns:
            raise UserError(f"the cohort has no column '{column}'{nearest(column, map(str, table.columns))}")
    shown = [a for a in dict.fromkeys((*request.balance, *DEFAULT_ATTRIBUTES)) if table[a].notna().any()]
    groups = pd.DataFrame({a: group_of(table, a, bins) for a in shown}, index=table.index)
    orders = {a: group_order(table, a, bins) for a in shown}
    record = _GateLog(groups, orders, cohort.about["counts"]["rows"])
    component = link_patients(table["patient_id"], table["sha256"])
    held = _held_out(component, request)

    record.note("clean", "Rows with a readable image and no contradiction", table)
    if measurements is not None:
        accepted = measurements["image_id"][measurements["quality"].isin(_ACCEPTED[request.quality])]
        table = table[table["image_id"].isin(accepted)]
        record.note("quality", f"Quality {request.quality} or better", table)
    table = table[~table["sha256"].duplicated(keep="first")]
    record.note("duplicates", "One of every set of identical files", table)
    if request.exclude:
        excluded = _excluded(request.exclude)
        # Whoever shares a photograph with an excluded patient stays out as well.
        out_of_bounds = component.isin(component[cohort.table["patient_id"].isin(excluded)])
        table = table[~out_of_bounds.loc[table.index]]
        record.note("exclude", "Patients of no excluded file", table)
    held_out = table[held.loc[table.index]]
    table = table[~held.loc[table.index]]
    record.note("holdout", f"Patients not held out (share held out {request.holdout:g})", table)
    if request.per_patient:
        rank = pd.Series(stable_rank(table["image_id"], request.seed, "per-patient"), index=table.index)
        table = table[rank.groupby(table["patient_id"]).rank(method="first") <= request.per_patient]
        record.note("per-patient", f"At most {request.per_patient} images a patient", table)
    drawn, allocation, measures = _draw(table, groups, orders, request, bins)
    how = "balanced by" if request.target == "uniform" else f"target {request.target} by"
    record.note("draw", f"Drawn, {how} {' and '.join(request.balance)}" if request.balance else "Drawn at random", drawn)
    if drawn.empty:
        raise UserError("nothing is left to draw; see the counts after every gate with --dry-run --quality any --holdout 0")
    return Plan(drawn=drawn, held_out=held_out, gates=record.gates, allocation=allocation, measures=measures)


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
        patients |= set(frame["patient_id"].astype(str))
    return patients


def _held_out(component: pd.Series, request: SampleRequest) -> pd.Series:
    """Hold a component of linked patients out by its hash alone, so that a cohort that grows never moves anyone."""
    rank = stable_rank(component, request.seed, "hold-out")
    return pd.Series(rank < np.uint64(int(request.holdout * 2**64)), index=component.index)


class _GateLog:
    """Counts images and patients after each gate, overall and per group."""

    def __init__(self, groups: pd.DataFrame, orders: dict[str, list[str]], rows: int) -> None:
        self.groups, self.orders = groups, orders
        self.gates: list[dict[str, Any]] = [
            {
                "gate": "archive",
                "title": "Rows of the archive's table",
                "images": rows,
                "patients": None,
                "removed_images": 0,
                "removed_patients": 0,
            }
        ]

    def note(self, gate: str, title: str, table: pd.DataFrame) -> None:
        before = self.gates[-1]
        images, patients = len(table), int(table["patient_id"].nunique())
        by: dict[str, Any] = {}
        for attribute, order in self.orders.items():
            counts = table.groupby(self.groups.loc[table.index, attribute])["patient_id"].agg(["size", "nunique"])
            by[attribute] = {g: {"images": int(counts["size"].get(g, 0)), "patients": int(counts["nunique"].get(g, 0))} for g in order}
        self.gates.append(
            {
                "gate": gate,
                "title": title,
                "images": images,
                "patients": patients,
                "removed_images": before["images"] - images,
                "removed_patients": (before["patients"] - patients) if before["patients"] is not None else 0,
                "by": by,
            }
        )


def _draw(
    table: pd.DataFrame, groups: pd.DataFrame, orders: dict[str, list[str]], request: SampleRequest, bins: dict[str, tuple[float, ...]]
) -> tuple[pd.DataFrame, list[dict[str, Any]], dict[str, dict[str, float | None]]]:
    """Allocate images to strata and take the lowest ranks of each."""
    rank = pd.Series(stable_rank(table["image_id"], request.seed, "draw"), index=table.index)
    if not request.balance:
        drawn = table.loc[rank.sort_values().index[: request.images or len(table)]].sort_index()
        return drawn, [], {}
    own = groups.loc[table.index, list(request.balance)]
    stratum = own.apply(tuple, axis=1) if len(own) else pd.Series(dtype=object)
    strata = _strata(stratum, own, orders, request)
    sizes = stratum.value_counts()
    capacity = np.array([int(sizes.get(s, 0)) for s in strata], dtype=np.int64)
    known = np.array([not (request.unknown == "exclude" and UNKNOWN in s) for s in strata])
    if not (known & (capacity > 0)).any():
        raise UserError(f"no image has a known group in {', '.join(request.balance)}: there is nothing to balance")
    weight = np.where(known, target_weights(request.target, strata, np.where(known, capacity, 0), request.balance, bins), 0.0)
    fillable = (weight > 0) & (capacity > 0)
    # Without a number: as many as every stratum that has any image at all can give its share of.
    level = float((capacity[fillable] / weight[fillable]).min())
    total = request.images or int(level * weight[fillable].sum() + 1e-6)
    allocated = water_fill(capacity, weight, total)
    # What each stratum would get if none were short.
    wanted = water_fill(np.full(len(strata), max(total, 1)), weight, total) if request.images else np.rint(level * weight).astype(np.int64)
    order = pd.DataFrame({"stratum": stratum, "rank": rank}).sort_values("rank", kind="stable")
    place = order.groupby("stratum", sort=False).cumcount()
    allowed = order["stratum"].map(dict(zip(strata, allocated.tolist(), strict=True))).astype("int64")
    drawn = table.loc[order.index[(place < allowed).to_numpy()]].sort_index()
    patients = table.groupby(stratum)["patient_id"].nunique()
    allocation = [
        {
            "stratum": dict(zip(request.balance, s, strict=True)),
            "available": int(c),
            "available_patients": int(patients.get(s, 0)),
            "target": int(t),
            "allocated": int(a),
            "shortfall": int(t - min(a, t)),
        }
        for s, c, t, a in zip(strata, capacity, wanted, allocated, strict=True)
    ]
    counted = weight > 0
    before = table.index[stratum.isin([s for s, w in zip(strata, weight, strict=True) if w > 0])]
    measures = {
        "before": balance_measures(capacity[counted], weight[counted], int(table.loc[before, "patient_id"].nunique())),
        "after": balance_measures(allocated[counted], weight[counted], int(drawn["patient_id"].nunique())),
    }
    return drawn, allocation, measures


def _strata(stratum: pd.Series, own: pd.DataFrame, orders: dict[str, list[str]], request: SampleRequest) -> list[tuple[str, ...]]:
    """List strata in order: every group of a single attribute, empty ones too; of several, the combinations that occur."""
    if len(request.balance) == 1:
        return [(g,) for g in orders[request.balance[0]]]
    place = {a: {g: i for i, g in enumerate(orders[a])} for a in request.balance}
    present = list(dict.fromkeys(stratum))
    return sorted(present, key=lambda s: tuple(place[a][g] for a, g in zip(request.balance, s, strict=True)))


def _describe(cohort: Cohort, request: SampleRequest, plan: Plan, made_by: dict[str, Any]) -> dict[str, Any]:
    by = " and ".join(request.balance)
    # Only equal shares are called balanced: the name heads the card.
    how = "random sample" if not by else f"balanced by {by}" if request.target == "uniform" else f"drawn by {by}"
    return {
        "made_by": made_by,
        "name": request.name or f"{cohort.name}, {how}",
        "cohort": {
            "name": cohort.name,
            "digest": cohort.digest,
            "images": len(cohort.table),
            "patients": int(cohort.table["patient_id"].nunique()),
        },
        "balance": list(request.balance),
        "bins": _plain_bins(request),
        "target": request.target,
        "size": request.size,
        "holdout": request.holdout,
        "images": len(plan.drawn),
        "patients": int(plan.drawn["patient_id"].nunique()),
        "heldout": {"images": len(plan.held_out), "patients": int(plan.held_out["patient_id"].nunique())},
        "gates": plan.gates,
        "allocation": plan.allocation,
        "measures": plan.measures,
    }
