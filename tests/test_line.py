"""The whole line, archive to card, with the real commands: on a small phantom, and on real photographs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

QUICK = ["--samples", "256", "--set", "model.arguments.depth=2", "--set", "optim.batch=32", "--set", "optim.warmup_samples=64"]


def run(room: str, *arguments: object, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-m", room, *map(str, arguments)], cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{room} {' '.join(map(str, arguments))}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    run("curate", "simulate", "phantom", "--patients", 90, "--seed", 1, cwd=folder)
    run("curate", "ingest", "phantom/manifest.csv", "--images", "phantom/images", cwd=folder)
    run("curate", "measure", "--resolution", 256, cwd=folder)
    run("curate", "sample", "--balance", "age", "--holdout", "0.4", "--images", 60, cwd=folder)
    run("pretrain", "run", "shards/", *QUICK, cwd=folder)
    run("evaluate", "run", "--model", "trained=runs/mae-tiny", "--task", "phantom/task.yaml", cwd=folder)
    run("cards", "build", cwd=folder)
    return folder


@pytest.mark.xdist_group("phantom")
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


@pytest.mark.xdist_group("phantom")
def test_no_held_out_patient_was_trained_on_and_only_they_are_tested(phantom: Path) -> None:
    keys = pd.read_parquet(phantom / "shards/private/keys.parquet")
    held = pd.read_parquet(phantom / "shards/private/holdout.parquet")
    predictions = pd.read_parquet(phantom / "evaluation/predictions.parquet")
    tested = set(predictions.loc[predictions["split"] == "test", "patient_id"])
    assert tested
    assert tested <= set(held["patient_id"])
    assert not tested & set(keys["patient_id"])


@pytest.mark.xdist_group("phantom")
def test_estimates_come_by_subgroup_with_intervals(phantom: Path) -> None:
    estimates = pd.read_parquet(phantom / "evaluation/estimates.parquet")
    assert {"all", "age", "sex", "ethnicity"} <= set(estimates["attribute"])
    assert {"auroc", "auprc"} <= set(estimates["metric"])
    overall = estimates[(estimates["attribute"] == "all") & (estimates["metric"] == "auroc") & (estimates["class"] == "macro")].iloc[0]
    assert overall["low"] <= overall["value"] <= overall["high"]


@pytest.mark.xdist_group("phantom")
def test_nothing_that_identifies_a_person_is_on_the_card(phantom: Path) -> None:
    cohort = pd.read_parquet(phantom / "cohort/cohort.parquet")
    for name in ("card.html", "card.json"):
        text = (phantom / "card" / name).read_text(encoding="utf-8")
        assert not [i for i in cohort["image_id"] if i in text]
        assert not [f for f in cohort["sha256"] if f in text]


@pytest.mark.xdist_group("phantom")
def test_asking_for_the_same_again_changes_nothing(phantom: Path) -> None:
    def state() -> dict[str, int]:
        folders = ("cohort", "shards", "runs", "evaluation")
        return {str(p): p.stat().st_mtime_ns for f in folders for p in (phantom / f).rglob("*") if p.is_file()}

    before = state()
    run("curate", "simulate", "phantom", "--patients", 90, "--seed", 1, cwd=phantom)
    run("curate", "ingest", "phantom/manifest.csv", "--images", "phantom/images", cwd=phantom)
    run("curate", "measure", "--resolution", 256, cwd=phantom)
    run("curate", "sample", "--balance", "age", "--holdout", "0.4", "--images", 60, cwd=phantom)
    run("pretrain", "run", "shards/", *QUICK, cwd=phantom)
    run("evaluate", "run", "--model", "trained=runs/mae-tiny", "--task", "phantom/task.yaml", cwd=phantom)
    assert state() == before
    card = (phantom / "card" / "card.html").read_bytes()
    run("cards", "build", cwd=phantom)
    assert (phantom / "card" / "card.html").read_bytes() == card


def test_the_line_on_real_photographs(odir: Path, tmp_path: Path) -> None:
    table = pd.read_csv(odir / "full_df.csv", dtype=str)
    table = table[table["filename"].map(lambda f: (odir / "images-256" / f).is_file())]
    # A tenth of the patients, and all of those under 40, so that there is something to balance.
    keep = table["ID"].astype(int).mod(8).eq(0) | table["Patient Age"].astype(int).lt(40)
    table[keep].to_csv(tmp_path / "odir.csv", index=False)
    run("curate", "ingest", "odir.csv", "--images", odir / "images-256", "--profile", "odir5k", cwd=tmp_path)
    run("curate", "measure", "--resolution", 256, cwd=tmp_path)
    run("curate", "sample", "--balance", "age", "--holdout", "0.3", "--images", 90, cwd=tmp_path)
    assert "every checksum and count right" in run("curate", "verify", "shards/", "--cohort", "cohort", cwd=tmp_path)
    run("pretrain", "run", "shards/", *QUICK, cwd=tmp_path)
    (tmp_path / "dr.yaml").write_text(
        "name: diabetic-retinopathy\ntitle: Diabetic retinopathy against a normal fundus\nlabel: labels\n"
        "classes: {normal: [N], diabetic: [D]}\nsplit: {test: holdout, val: 0.25}\nsubgroups: [age, sex]\n"
    )
    run("evaluate", "run", "--model", "trained=runs/mae-tiny", "--task", "dr.yaml", cwd=tmp_path)
    run("cards", "build", cwd=tmp_path)
    ledger = pd.read_parquet(tmp_path / "cohort/ledger.parquet")
    assert "coding" in set(ledger["rule"])
    page = (tmp_path / "card/card.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in page
    assert len(page) < 600_000
