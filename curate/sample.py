"""Sampling: from what is asked of a draw to the shard set that becomes of it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from curate.artefacts import begin, provenance, read_json, sha256_file
from curate.cohort import Cohort, read_cohort
from curate.errors import UserError
from curate.groups import DEFAULT_ATTRIBUTES, parse_bins
from curate.plan import NEEDED, Plan, make_plan
from curate.plan_picture import draw_plan
from curate.request import SampleRequest
from curate.shard_writer import write_shards
from curate.target import target_digest


def sample_cohort(
    cohort_folder: Path,
    request: SampleRequest,
    *,
    out: Path = Path("shards"),
    salt: Path | None = None,
    dry_run: bool = False,
    picture: Path | None = None,
    workers: int = 0,
) -> dict[str, Any]:
    """Draw a sample and write it as a shard set.

    Args:
        cohort_folder: made by ``curate ingest``.
        request: what is asked.
        out: the shard set folder to make.
        salt: file with the secret from which keys are made; by default it is derived from the seed and the cohort's
            digest, so that only who holds the cohort can compute it.
        dry_run: plan, write no shards.
        picture: an SVG file to draw the plan into, before anything else is written.
        workers: processes, 0 for one a core.

    Returns:
        The contents of ``sample.json``.

    Raises:
        UserError: where the cohort, the request or the folder doesn't allow it.
    """
    request.check()
    if picture is not None and picture.suffix.lower() != ".svg":
        raise UserError(f"--picture {picture}: expected a file name that ends in .svg")
    columns = [comparison.column for comparison in request.rule()]
    cohort = read_cohort(cohort_folder, columns=(*NEEDED, *DEFAULT_ATTRIBUTES, *request.balance, *request.embed_metadata, *columns))
    # Where the modality doesn't grade quality there is nothing to gate by.
    measurements = cohort.measurements(("image_id", "quality")) if request.quality != "any" else None
    if measurements is not None and "quality" not in measurements.columns:
        measurements = None
    secret = _secret(salt, request.seed, cohort.digest)
    inputs = {
        "cohort.parquet": cohort.digest,
        "duplicates.parquet": sha256_file(cohort.folder / "duplicates.parquet"),
        "salt": hashlib.sha256(secret).hexdigest(),
    }
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
    if picture is not None:
        draw_plan(picture, about)
    if dry_run:
        return about
    partial = begin(out, "sample.json", made_by)
    if partial is None:
        return {**read_json(out / "sample.json", "a shard set"), "done_before": True}
    files = cohort.rows(plan.drawn.index.to_numpy(), ("path", "sha256"))
    plan = replace(plan, drawn=plan.drawn.assign(path=files["path"], sha256=files["sha256"]))
    return write_shards(plan, cohort, request, about=about, secret=secret, partial=partial, out=out, workers=workers)


def how_many(text: str | None) -> int | None:
    """Read ``--images``: a number, or the folder of a cohort or a shard set whose number of images is meant.

    Raises:
        UserError: where it is neither.
    """
    if text is None:
        return None
    if text.replace(",", "").replace("_", "").isdigit() and int(text.replace(",", "").replace("_", "")) > 0:
        return int(text.replace(",", "").replace("_", ""))
    for name in ("cohort.json", "sample.json"):
        if (Path(text) / name).is_file():
            about = read_json(Path(text) / name, "a cohort or a shard set")
            return int(about["counts"]["images"] if name == "cohort.json" else about["images"])
    raise UserError(f"--images {text}: expected a number of 1 or more, or the folder of a cohort or a shard set")


def _secret(salt: Path | None, seed: int, digest: str) -> bytes:
    if salt is None:
        return hashlib.blake2b(f"{seed}|{digest}".encode(), digest_size=32).digest()
    if not salt.is_file() or not salt.stat().st_size:
        raise UserError(f"--salt {salt}: no such file, or an empty one")
    return salt.read_bytes()


def _plain_bins(request: SampleRequest) -> dict[str, list[float]]:
    return {column: [float(e) for e in edges] for column, edges in parse_bins(request.bins).items()}


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
        "marginals": plan.draw.marginals,
        "strata": plan.draw.strata,
        "measures": plan.measures,
        "measures_by": plan.draw.measures_by,
    }
