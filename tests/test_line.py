"""The whole line, archive to card, with the real commands, on a small phantom."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from commands import QUICK, run

STEPS = (
    ("curate", "simulate", "phantom", "--patients", 90, "--seed", 1),
    ("curate", "ingest", "phantom/manifest.csv", "--images", "phantom/images"),
    ("curate", "measure", "--resolution", 256),
    ("curate", "sample", "--balance", "age", "--holdout", "0.4", "--images", 60),
    ("pretrain", "run", "shards/", *QUICK),
    ("evaluate", "run", "--model", "trained=runs/mae-tiny", "--task", "phantom/task.yaml"),
)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    for step in STEPS:
        run(*step, cwd=folder)
    run("cards", "build", cwd=folder)
    return folder


def test_every_artefact_is_there_and_says_what_made_it(phantom: Path) -> None:
    made = {
        "phantom": "simulation.json",
        "cohort": "cohort.json",
        "shards": "sample.json",
        "runs/mae-tiny": "run.json",
        "evaluation": "evaluation.json",
        "card": "card.json",
    }
    for folder, name in made.items():
        about = json.loads((phantom / folder / name).read_text())["made_by"]
        assert about["tool"] == "evenfooting"
        assert about["version"]
        assert about["command"].split()[0] in ("curate", "pretrain", "evaluate", "cards")
    assert not list(phantom.glob("*.partial"))


def test_no_held_out_patient_was_trained_on_and_only_they_are_tested(phantom: Path) -> None:
    keys = pd.read_parquet(phantom / "shards/private/keys.parquet")
    held = pd.read_parquet(phantom / "shards/private/holdout.parquet")
    predictions = pd.read_parquet(phantom / "evaluation/predictions.parquet")
    tested = set(predictions.loc[predictions["split"] == "test", "patient_id"])
    assert tested
    assert tested <= set(held["patient_id"])
    assert not tested & set(keys["patient_id"])


def test_estimates_come_by_subgroup_with_intervals(phantom: Path) -> None:
    estimates = pd.read_parquet(phantom / "evaluation/estimates.parquet")
    assert {"all", "age", "sex", "ethnicity"} <= set(estimates["attribute"])
    assert {"auroc", "auprc"} <= set(estimates["metric"])
    overall = estimates[(estimates["attribute"] == "all") & (estimates["metric"] == "auroc")]
    known = overall[overall["low"].notna()]
    assert len(known)
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()
    # Where too few people have a grade there is no interval, and it says so.
    assert overall.loc[overall["low"].isna(), "note"].fillna("").ne("").all()


def test_nothing_that_identifies_a_person_is_on_the_card(phantom: Path) -> None:
    cohort = pd.read_parquet(phantom / "cohort/cohort.parquet")
    for name in ("card.html", "card.json"):
        text = (phantom / "card" / name).read_text(encoding="utf-8")
        assert not [i for i in cohort["image_id"] if i in text]
        assert not [f for f in cohort["sha256"] if f in text]


def test_asking_for_the_same_again_changes_nothing(phantom: Path) -> None:
    def state() -> dict[str, int]:
        folders = ("cohort", "shards", "runs", "evaluation")
        return {str(p): p.stat().st_mtime_ns for f in folders for p in (phantom / f).rglob("*") if p.is_file()}

    before = state()
    for step in STEPS:
        run(*step, cwd=phantom)
    assert state() == before
    card = (phantom / "card" / "card.html").read_bytes()
    run("cards", "build", cwd=phantom)
    assert (phantom / "card" / "card.html").read_bytes() == card


def test_the_card_says_that_a_phantom_is_one(phantom: Path) -> None:
    assert "the people do not exist" in (phantom / "card" / "card.html").read_text(encoding="utf-8")
