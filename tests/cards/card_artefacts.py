# ruff: noqa: E501, PERF401
"""Synthetic artefacts for the cards' tests, written as the other rooms write them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GROUPS = ["under 40", "40 to 70", "over 70"]
MADE_BY = {
    "tool": "evenfooting",
    "version": "0.1.0",
    "command": "curate ingest manifest.csv --images images",
    "seed": 0,
    "specification": {},
    "inputs": {},
}


def _group(age: float) -> str:
    return "unknown" if age != age else GROUPS[(age >= 40) + (age > 70)]


def cohort_table(people: int = 1200, *, seed: int = 0, devices: int = 3, sites: tuple[str, ...] = ("London", "Shanghai")) -> pd.DataFrame:
    """Make a cohort's table: one or two photographs a person, ages by site, gaps as archives have them."""
    rng = np.random.default_rng(seed)
    site = rng.integers(0, len(sites), people)
    age = np.clip(rng.normal(np.where(site % 2 == 0, 66, 48), 14), 18, 96).round()
    sex = rng.choice(["female", "male", None], people, p=[0.53, 0.465, 0.005])
    ethnicity = np.where(
        site % 2 == 0, rng.choice(["White", "South Asian", "Black", "Mixed", None], people, p=[0.55, 0.2, 0.13, 0.004, 0.116]), "Chinese"
    )
    device = rng.integers(0, devices, people)
    rows = []
    for p in range(people):
        for k in range(1 + int(rng.random() < 0.7)):
            rows.append(
                {
                    "image_id": f"img{p:06d}_{k}", "path": f"{p}/{k}.jpg", "patient_id": f"P{p:06d}", "laterality": ["left", "right"][k],
                    "acquired_on": f"{2008 + int(rng.integers(0, 11))}-0{1 + int(rng.integers(0, 9))}-11" if rng.random() > 0.02 else None,
                    "age": np.nan if p % 97 == 0 else float(age[p]), "sex": sex[p], "ethnicity": ethnicity[p],
                    "device": f"Camera {chr(65 + device[p]) if devices <= 26 else device[p]}", "site": sites[site[p]], "width": 512, "height": 512,
                    "sha256": hashlib.sha256(f"{p}/{k}".encode()).hexdigest(), "phash": f"{p:016x}", "dr_grade": float(rng.integers(0, 5)),
                }
            )  # fmt: skip
    return pd.DataFrame(rows).sort_values("image_id", ignore_index=True)


def write_cohort(folder: Path, table: pd.DataFrame, *, name: str = "Two hospitals", measured: bool = True) -> Path:
    """Write a cohort folder."""
    folder.mkdir(parents=True)
    table.to_parquet(folder / "cohort.parquet", index=False)
    pd.DataFrame(columns=["row", "column", "before", "after", "rule", "image_id"]).to_parquet(folder / "ledger.parquet", index=False)
    if measured:
        rng = np.random.default_rng(1)
        age = table["age"].fillna(55).to_numpy()
        n = len(table)
        pd.DataFrame(
            {
                "image_id": table["image_id"],
                "Fractal_dimension": 1.55 - 0.0021 * age + rng.normal(0, 0.03, n),
                "Vessel_density": 0.115 - 0.0004 * age + rng.normal(0, 0.01, n),
                "Distance_tortuosity": 1.05 + 0.0006 * age + rng.gamma(2, 0.02, n),
                "sharpness": 0.9 - 0.004 * age + rng.normal(0, 0.08, n),
            }
        ).to_parquet(folder / "measurements.parquet", index=False)
    about = {
        "made_by": MADE_BY, "name": name, "images": "../images",
        "counts": {"rows": len(table) + 23, "images": len(table), "patients": table["patient_id"].nunique(), "refused_rows": 23, "repaired_values": 61},
        "rules": {"age-sentinel": 12, "age-top-coded": 31, "missing-word": 140, "image-damaged": 3, "duplicate-row": 20, "spelling": 18},
        "missing": {c: int(table[c].isna().sum()) for c in table}, "ethnicity_scheme": "as-recorded", "patients_known": True,
    }  # fmt: skip
    (folder / "cohort.json").write_text(json.dumps(about))
    return folder


def write_shards(folder: Path, cohort: Path, *, per_group: int = 150, private: bool = True, site: str | None = None) -> Path:
    """Draw evenly by age, as the sampling does, everywhere or at one site, and write what it leaves behind."""
    table = pd.read_parquet(cohort / "cohort.parquet")
    table["group"] = table["age"].map(_group)
    gates: list[dict[str, Any]] = [{"gate": "archive", "title": "Rows of the archive's table", "images": len(table) + 23, "patients": None}]
    left = table

    def note(gate: str, after: pd.DataFrame) -> None:
        by = {}
        for attribute, values in (
            ("age", after["group"]),
            ("sex", after["sex"].fillna("unknown")),
            ("ethnicity", after["ethnicity"].fillna("unknown")),
        ):
            counted = after.groupby(values)["patient_id"].agg(["size", "nunique"])
            names = table["group"].unique() if attribute == "age" else table[attribute].fillna("unknown").unique()
            by[attribute] = {
                str(g): {"images": int(counted["size"].get(g, 0)), "patients": int(counted["nunique"].get(g, 0))} for g in names
            }
        gates.append({"gate": gate, "title": gate, "images": len(after), "patients": int(after["patient_id"].nunique()), "by": by})

    note("clean", left)
    rng = np.random.default_rng(3)
    left = left[rng.random(len(left)) > np.where(left["age"] > 70, 0.16, 0.04)]
    note("quality", left)
    left = left.iloc[3:]
    note("duplicates", left)
    people = left["patient_id"].unique()
    held = set(rng.choice(people, len(people) // 10, replace=False))
    left = left[~left["patient_id"].isin(held)]
    note("holdout", left)
    if site is not None:
        left = left[left["site"] == site]
        note("where", left)
    drawn = left.groupby("group", group_keys=False).head(per_group)
    note("draw", drawn)
    allocation = []
    for g in [*GROUPS, "unknown"]:
        there, got = left[left["group"] == g], drawn[drawn["group"] == g]
        allocation.append(
            {
                "stratum": {"age": g},
                "available": len(there),
                "available_patients": int(there["patient_id"].nunique()),
                "target": per_group,
                "allocated": len(got),
                "shortfall": per_group - len(got),
            }
        )
    folder.mkdir(parents=True)
    (folder / "private").mkdir()
    keys = pd.DataFrame(
        {
            "key": [f"k{i:08x}" for i in range(len(drawn))],
            "image_id": drawn["image_id"].to_numpy(),
            "patient_id": drawn["patient_id"].to_numpy(),
        }
    )
    if private:
        keys.to_parquet(folder / "private" / "keys.parquet", index=False)
    keys[["key"]].to_parquet(folder / "index.parquet", index=False)
    sample = {
        "made_by": {**MADE_BY, "command": "curate sample --balance age"}, "name": "Two hospitals, balanced by age",
        "cohort": {"name": "Two hospitals", "digest": hashlib.sha256((cohort / "cohort.parquet").read_bytes()).hexdigest(), "images": len(table), "patients": int(table["patient_id"].nunique())},
        "balance": ["age"], "bins": {"age": [40, 70]}, "target": "uniform", "size": 256, "holdout": 0.1, "images": len(drawn), "patients": int(drawn["patient_id"].nunique()),
        "gates": gates, "allocation": allocation, "measures": {"before": {}, "after": {}}, "heldout": {"images": 1, "patients": len(held)},
    }  # fmt: skip
    (folder / "sample.json").write_text(json.dumps(sample))
    return folder


def write_runs(folder: Path, shards: Path) -> Path:
    """Write two finished runs, one on this set."""
    digest = hashlib.sha256((shards / "index.parquet").read_bytes()).hexdigest()
    for name, trained in (("natural", "0" * 64), ("balanced", digest)):
        (folder / name).mkdir(parents=True)
        run = {
            "made_by": {**MADE_BY, "command": f"pretrain run shards/ --name {name}"}, "name": name,
            "recipe": {"name": "mae-tiny", "method": "mae", "model": {"architecture": "vit_tiny_patch16_224"}, "data": {"size": 128}, "optim": {"samples": 20000, "batch": 64, "base_lr": 0.004, "lr": None}, "mae": {"mask_ratio": 0.75}},
            "shards": {"name": "Two hospitals, balanced by age" if trained == digest else "Two hospitals, random sample", "digest": trained, "images": 450, "path": "shards"},
            "environment": {"torch": "2.15"}, "status": "finished", "result": {"steps": 312, "samples_seen": 19968, "final_loss": 0.41273, "backbone_sha256": hashlib.sha256(name.encode()).hexdigest()},
        }  # fmt: skip
        (folder / name / "run.json").write_text(json.dumps(run))
    return folder


EVALUATED = [
    ("all", "all", 410, 160, 0.84, 0.851), ("age", "under 40", 70, 22, 0.871, 0.802), ("age", "40 to 70", 230, 90, 0.851, 0.86), ("age", "over 70", 105, 46, 0.802, 0.846),
    ("sex", "female", 210, 78, 0.842, 0.852), ("sex", "male", 196, 80, 0.838, 0.85), ("sex", "unknown", 4, 2, 0.9, 0.7),
    ("ethnicity", "Chinese", 205, 80, 0.86, 0.862), ("ethnicity", "White", 110, 42, 0.83, 0.845), ("ethnicity", "South Asian", 52, 20, 0.81, 0.85), ("ethnicity", "Black", 38, 5, 0.79, 0.83), ("ethnicity", "Mixed", 0, 0, np.nan, np.nan),
]  # fmt: skip


def write_evaluation(folder: Path, *, models: tuple[str, ...] = ("natural", "balanced")) -> Path:
    """Write estimates of models by subgroup, and their comparison where there are two."""
    rows, compared = [], []
    for attribute, group, n, pos, a, b in EVALUATED:
        flag = "" if pos >= 100 else "too few" if pos < 10 else "few"
        counts = {"n": n * 2, "n_pos": pos * 2, "n_neg": 2 * (n - pos), "n_patients": n, "n_pos_patients": pos, "n_neg_patients": n - pos}
        width = 1.9 / np.sqrt(max(pos, 1)) / 4
        for model, value in zip(models, (a, b, 0.8, 0.79, 0.78), strict=False):
            for metric, shift in (("auroc", 0.0), ("auprc", -0.2)):
                for name in ("macro", "referable"):
                    rows.append({"task": "dr", "model": model, "adaptation": "linear probe", "attribute": attribute, "group": group, "metric": metric, "class": name, "value": value + shift, "low": value + shift - width, "high": min(value + shift + width * 0.8, 0.999), "se": width / 2, **counts, "seeds": 5, "method": "DeLong, clustered by patient", "estimand": "the mean of these 5 trained heads, on new patients like those tested", "flag": flag})  # fmt: skip
        for metric in ("auroc", "auprc"):
            for method in ("paired DeLong, clustered by patient, t interval", "paper: t-test over seeds"):
                p = 0.004 if abs(b - a) > 0.05 else 0.31
                compared.append({"task": "dr", "adaptation": "linear probe", "attribute": attribute, "group": group, "metric": metric, "model_a": models[0], "model_b": models[-1], "difference": b - a, "low": b - a - 0.03, "high": b - a + 0.03, "se": 0.015, "p": p, "p_holm": min(1.0, 9 * p), **{k: counts[k] for k in ("n", "n_patients", "n_pos_patients", "n_neg_patients")}, "method": method, "estimand": "these trained heads, on new patients", "flag": flag})  # fmt: skip
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(folder / "estimates.parquet", index=False)
    if len(models) > 1:
        pd.DataFrame(compared).to_parquet(folder / "comparisons.parquet", index=False)
    about = {"made_by": {**MADE_BY, "command": "evaluate run --model natural=runs/natural --model balanced=runs/balanced --task task.yaml"}, "tasks": [{"name": "dr", "title": "Referable diabetic retinopathy"}], "models": [], "adaptation": "linear probe", "notes": []}  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(about))
    return folder


def make_project(folder: Path, table: pd.DataFrame | None = None, **options: Any) -> Path:
    """Write all artefacts into a folder."""
    cohort = write_cohort(folder / "cohort", cohort_table() if table is None else table, **options)
    shards = write_shards(folder / "shards", cohort)
    write_runs(folder / "runs", shards)
    write_evaluation(folder / "evaluation")
    return folder


def build(folder: Path, **options: Any) -> dict[str, Any]:
    """Build the card of a folder of artefacts."""
    from cards import build_card

    where = {name: folder / name for name in ("cohort", "shards", "runs", "evaluation")}
    return build_card(**{**where, "out": folder / "card", **options})
