"""The study's report: what it computes from the evaluations' files, and that it can be read."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from commands_of_docs import Command, parse

STUDY = Path(__file__).resolve().parents[1] / "study"
SETS = ("old", "young", "old-balanced", "both-balanced")
GROUPS = {"age": ("under 40", "40 to 70", "over 70"), "sex": ("female", "male"), "ethnicity": ("Asian", "White")}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    if not STUDY.is_dir():
        pytest.skip("the study is not at hand: no study/")
    monkeypatch.syspath_prepend(str(STUDY))
    yield importlib.import_module("report")
    sys.modules.pop("report", None)


def write_evaluation(folder: Path, values: dict[tuple[str, str], float], models: tuple[str, ...] = SETS, error: float = 0.01) -> None:
    """Write the files of an evaluation in which the AUROC of (model, age group) is as given, and 0.8 elsewhere."""
    folder.mkdir(parents=True)
    cells = [("all", "all"), *((a, g) for a, names in GROUPS.items() for g in names)]
    tasks, adaptations = ("northgate", "pujiang", "both"), ("probe-cached", "finetune")
    auroc = lambda model, group: values.get((model, group), 0.8)  # noqa: E731
    estimates, comparisons = [], []
    for task in tasks:
        for adaptation in adaptations:
            common = {"task": task, "adaptation": adaptation, "metric": "auroc"}
            for attribute, group in cells:
                where = {**common, "attribute": attribute, "group": group, "n_patients": 100}
                estimates += [{**where, "model": m, "class": "macro", "value": auroc(m, group), "se": 0.02} for m in models]
                for i, a in enumerate(models):
                    for b in models[i + 1 :]:
                        d = auroc(b, group) - auroc(a, group)
                        row = {
                            **where,
                            "model_a": a,
                            "model_b": b,
                            "difference": d,
                            "low": d - 1.96 * error,
                            "high": d + 1.96 * error,
                            "se": error,
                        }
                        p = math.erfc(abs(d) / error / math.sqrt(2))
                        comparisons += [{**row, "method": "DeLong", "p": p}, {**row, "method": "paper: t-test over seeds", "p": p / 2}]
    pd.DataFrame(estimates).to_parquet(folder / "estimates.parquet")
    pd.DataFrame(comparisons).to_parquet(folder / "comparisons.parquet")


def write_study(out: Path, values: dict[tuple[str, str], float]) -> None:
    """Write what the report reads of a study on phantoms."""
    for method in ("mae", "dinov2"):
        write_evaluation(out / "phantom" / f"evaluation-{method}", values, (*SETS, "again", "untrained"))
        write_evaluation(out / "phantom" / f"hospitals-{method}", values, ("old", "young"))
    for name in SETS:
        folder = out / "phantom" / "sets" / name
        folder.mkdir(parents=True)
        by = {"age": {g: {"images": 10, "patients": 8} for g in sorted(GROUPS["age"])}}
        (folder / "sample.json").write_text(json.dumps({"gates": [{"images": 30, "patients": 24, "by": by}]}))


def test_a_difference_of_differences_adds_the_errors_of_two_groups(report: Any) -> None:
    first = report.Difference(0.02, 0.0, 0.04, 0.03, 0.5, 50)
    second = report.Difference(0.10, 0.0, 0.20, 0.04, 0.1, 70)
    found = report.difference_of(first, second)
    assert found.value == pytest.approx(0.08)
    assert found.error == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((0.08 - 1.959964 * 0.05, 0.08 + 1.959964 * 0.05))
    assert found.patients == 120
    assert report.difference_of(first, None) is None


def test_power_is_that_of_a_normal_test(report: Any) -> None:
    rng = np.random.default_rng(0)
    found = report.Difference(0.0, 0.0, 0.0, 0.03, 1.0, 200)
    drawn = rng.normal(found.showable, 0.03, 200_000)
    assert (np.abs(drawn) > 1.959964 * 0.03).mean() == pytest.approx(0.8, abs=0.01)
    fewer = report.Difference(0.0, 0.0, 0.0, 0.03 * math.sqrt(200 / found.patients_needed), 1.0, found.patients_needed)
    assert fewer.showable == pytest.approx(report.GAP, rel=0.01)


def test_holm_is_that_of_the_textbook(report: Any) -> None:
    rows: list[dict[str, Any]] = [{"found": report.Difference(0, 0, 0, 1, p, 1)} for p in (0.01, 0.04, 0.03, 0.005)]
    report.holm(rows)
    assert [row["p_holm"] for row in rows] == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_an_effect_that_is_there_is_found_and_one_that_is_not_is_left_open(report: Any, tmp_path: Path) -> None:
    # The young set's model is better for the young by 0.1, the old one's for the old; balanced sets serve all alike.
    values = {("old", "under 40"): 0.7, ("young", "over 70"): 0.7}
    write_study(tmp_path, values)
    page = report.write_report(tmp_path, ["phantom"]).read_text(encoding="utf-8")
    part = json.loads((tmp_path / "report.json").read_text())["phantom"]
    age = [row["found"] for row in part["shifts"] if row["attribute"] == "age"]
    assert [row["value"] for row in age] == pytest.approx([0.2] * 4)
    closed = {(block["from"], block["to"]): block["rows"] for block in part["closed"]}
    assert list(closed) == [("old", "old-balanced"), ("old", "both-balanced"), ("young", "both-balanced")]
    for rows in closed.values():
        assert [row["found"]["value"] for row in rows] == pytest.approx([0.1] * 4)
        assert [row["share"][0] for row in rows] == pytest.approx([1.0] * 4)  # all of a gap of 0.1
    said = part["findings"]
    assert "Chance alone" in said[0]
    assert "Home against away: none of 8" in said[1]
    assert "The gap between ages followed the ages in the set in 4 of 4 comparisons" in said[2]
    assert "none of 8 comparisons is clear of 0" in said[3]
    assert "as expected" in said[3]
    assert "clear of 0 in 4 of 4; of those, balancing closed 100%, 100%, 100%, 100%" in said[4]
    assert page.count("<svg") == 2
    assert "With chance between models of one set (deviation 0.099) in the error, 4 of these 4 remain." in said[2]
    assert "(deviation 0.099) in the error, 0 of these 4 remain." in said[4]  # what balancing closed is no larger than chance
    assert "nan" not in page
    assert "moves with the ages in the set was shown in 4 of 4 comparisons" in part["answer"]
    assert "sex and ethnicity stayed where they were" in part["answer"]
    assert "balancing closes the gap could not be shown" in part["answer"]
    assert "one set differed by up to 0.100, models of two sets by up to 0.200" in part["answer"]
    assert page.count("under 40: 10, 40 to 70: 10, over 70: 10") == 4


def test_an_effect_the_other_way_round_is_said_so(report: Any, tmp_path: Path) -> None:
    write_study(tmp_path, {("young", "under 40"): 0.7, ("both-balanced", "over 70"): 0.6})
    report.write_report(tmp_path, ["phantom"])
    part = json.loads((tmp_path / "report.json").read_text())["phantom"]
    assert "moved the other way in 4" in part["findings"][2]
    assert "larger in 4" in part["findings"][5]
    assert "clear of 0 in 0 of 4." in part["findings"][5]
    assert all(row["share"] is None for row in part["closed"][1]["rows"])


def test_what_chance_alone_does_is_told_beside_what_the_sets_do(report: Any, tmp_path: Path) -> None:
    write_study(tmp_path, {("again", "over 70"): 0.87, ("untrained", "all"): 0.55})
    page = report.write_report(tmp_path, ["phantom"]).read_text(encoding="utf-8")
    part = json.loads((tmp_path / "report.json").read_text())["phantom"]
    assert [row["found"]["value"] for row in part["controls"]["again"]] == pytest.approx([0, 0.07] * 4)
    assert [row["found"]["value"] for row in part["controls"]["untrained"]] == pytest.approx([0.25] * 4)
    assert "differed by up to 0.000 for everyone and by up to 0.070 between the ends of age" in part["findings"][0]
    assert part["controls"]["chance"]["everyone"] == {"largest": 0, "spread": 0, "runs": 1}
    between = part["controls"]["chance"]["between"]
    spread = math.sqrt(0.07**2 - 2 * 0.01**2)  # what the patients' error leaves
    assert (between["largest"], between["spread"]) == pytest.approx((0.07, spread))
    assert between["runs"] == math.ceil((2.801586 * spread / 0.05) ** 2) == 15
    assert "The pre-trained model did better in 4 of 4" in part["findings"][7]
    assert "reach AUROCs of 0.80 to 0.80" in part["findings"][7]
    assert '<td class="n">0.550</td><td class="n">0.800</td>' in page


def test_every_command_of_the_study_is_understood(report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = importlib.import_module("run")
    issued: list[list[str]] = []

    def note(command: list[str], **_: Any) -> SimpleNamespace:
        issued.append(command[2:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(run.subprocess, "run", note)
    (tmp_path / "odir5k" / "images-256").mkdir(parents=True)
    run.phantom(tmp_path / "out", run.Size.at(1), workers=2)
    run.odir(tmp_path / "out", tmp_path / "odir5k", run.Size.at(1), workers=2)
    sys.modules.pop("run")
    assert {words[0] for words in issued} == {"curate", "pretrain", "evaluate", "cards"}
    for words in issued:
        parse(Command(STUDY / "run.py", 1, tuple(words)))
