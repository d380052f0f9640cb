"""Power: what groups could show, held against published formulas, brute force and simulation."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from typer.testing import CliRunner

from curate import UserError
from evaluate.influence import auroc, difference_interval
from evaluate.planning import planned_power
from evaluate.power import (
    Sample,
    auroc_variance,
    design_effect,
    detectable_gap,
    found_design_effect,
    found_sample,
    patients_for,
    planned_pair,
    planned_sample,
    power_of,
)


def test_hanley_and_mcneils_variance_is_their_equation_1() -> None:
    a, m, q = 0.893, 51, 58
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    expected = (a * (1 - a) + (m - 1) * (q1 - a * a) + (q - 1) * (q2 - a * a)) / (m * q)
    assert auroc_variance(a, m, q, method="hanley-mcneil") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("a", [0.6, 0.85, 0.97])
def test_the_binormal_variance_has_the_bivariate_normal_integral(a: float) -> None:
    z = norm.ppf(a)
    both = multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]]).cdf([z, z])
    expected = (a * (1 - a) + (30 - 1 + 200 - 1) * (both - a * a)) / (30 * 200)
    assert auroc_variance(a, 30, 200) == pytest.approx(expected, rel=1e-4)


def normal_scores(rng: np.random.Generator, a: float, m: int, q: int) -> tuple[np.ndarray, np.ndarray]:
    positive = np.arange(m + q) < m
    return rng.normal(size=m + q) + positive * norm.ppf(a) * math.sqrt(2), positive


def test_the_binormal_variance_is_that_of_simulated_studies() -> None:
    rng = np.random.default_rng(0)
    found = [auroc(*normal_scores(rng, 0.85, 40, 300)).value for _ in range(3000)]
    assert np.std(found) == pytest.approx(math.sqrt(auroc_variance(0.85, 40, 300)), rel=0.04)


def test_a_gap_that_can_be_shown_is_shown_in_80_of_100_simulated_studies() -> None:
    group, rest = planned_sample(60, 240, 0.85), planned_sample(200, 800, 0.85)
    gap = detectable_gap(group, rest)
    rng, shown, studies = np.random.default_rng(1), 0, 600
    for _ in range(studies):
        here = auroc(*normal_scores(rng, 0.85 - gap, 60, 240))
        there = auroc(*normal_scores(rng, 0.85, 200, 800))
        error = math.hypot(here.standard_error(), there.standard_error())
        shown += difference_interval(here.value - there.value, error, freedom=59)[2] < 0.05
    assert shown / studies == pytest.approx(0.8, abs=0.05)


def test_images_of_one_patient_stretch_the_variance_as_simulated() -> None:
    rng, icc, found = np.random.default_rng(2), 0.6, []
    truth = np.repeat(np.arange(150) < 40, 2)
    for _ in range(1500):
        noise = math.sqrt(icc) * np.repeat(rng.normal(size=150), 2) + math.sqrt(1 - icc) * rng.normal(size=300)
        found.append(auroc(noise + truth * norm.ppf(0.85) * math.sqrt(2), truth).value)
    planned = planned_sample(80, 220, 0.85, icc=icc, images_per_patient=2)
    assert planned.patients == 150
    assert np.std(found) == pytest.approx(math.sqrt(planned.variance(0)), rel=0.07)


def test_patients_for_a_gap_and_the_gap_of_these_patients_are_inverse() -> None:
    rest = planned_sample(500, 4000, 0.85)
    needed = patients_for(0.1, planned_sample(40, 300, 0.85), rest)
    grown = needed / 340
    larger = planned_sample(40 * grown, 300 * grown, 0.85)
    assert detectable_gap(larger, rest) == pytest.approx(0.1, abs=0.001)
    assert power_of(0.1, larger, rest) == pytest.approx(0.8, abs=0.01)


def test_a_rest_that_is_too_small_can_never_show_the_gap_unless_it_grows() -> None:
    group = planned_sample(40, 300, 0.85)
    assert patients_for(0.05, group, group) == math.inf
    assert patients_for(0.05, group, group, grow_rest=True) < math.inf


def test_one_patient_on_a_side_shows_nothing() -> None:
    group = planned_sample(2, 300, 0.85, images_per_patient=2)
    assert detectable_gap(group) == math.inf
    assert power_of(0.3, group) == 0


def test_more_correlated_models_differ_with_less_error() -> None:
    group = planned_sample(40, 300, 0.85)
    assert detectable_gap(planned_pair(group, 0.9)) < detectable_gap(planned_pair(group, 0.5))


def test_an_error_that_was_found_is_kept_and_grows_with_the_gap() -> None:
    found = found_sample(200, 40, 0.03, 0.9)
    assert found.variance(0) == pytest.approx(0.03**2)
    assert found.variance(0.1) > found.variance(0)
    assert found_sample(200, 40, 0.03).variance(0.1) == pytest.approx(0.03**2)
    assert found_design_effect(math.sqrt(auroc_variance(0.9, 40, 160) * 2), 0.9, 40, 160) == pytest.approx(2)
    assert design_effect(2, 0.5) == 1.5


def test_with_a_constant_error_the_gap_is_the_textbook_formula() -> None:
    many = Sample(1e9, 1e9, lambda gap: 0.01**2)
    assert detectable_gap(many) == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) * 0.01, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auroc": 0.4}, "--auroc 0.4: expected a number between 0.5 and 1"),
        ({"positives": 1}, "--positives 1: expected 2 or more"),
        ({"gap": 0.6}, "--gap 0.6"),
        ({"icc": 1.5}, "--icc 1.5"),
        ({"variance": "delong"}, "--variance delong: expected hanley-mcneil or obuchowski"),
        ({"images_per_patient": 0.5}, "--images-per-patient 0.5"),
    ],
)
def test_a_number_out_of_range_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned_power(**{"positives": 40, "negatives": 300, "auroc": 0.85, **change})


def test_the_command_plans_a_study(tmp_path: Path) -> None:
    from curate.console import mode
    from evaluate.cli import app

    done = CliRunner().invoke(app, ["power", "--positives", "40", "--negatives", "300", "--auroc", "0.85", "--icc", "0.5", "--json"])
    mode.json = False
    result = json.loads(done.stdout)
    assert result["groups"]["detectable"] > result["models"]["detectable"] > 0
    assert result["groups"]["patients_needed"] is None


def test_the_command_reads_an_evaluation(tmp_path: Path) -> None:
    from test_score import binary, save

    from evaluate.planning import evaluation_power
    from evaluate.score import score_file

    table = binary(400)
    score_file(save(table, tmp_path / "x.csv"), score="score", out=tmp_path / "evaluation", replicates=100)
    result = evaluation_power(tmp_path / "evaluation", gap=0.1)
    groups = {row["group"]: row for row in result["groups"]}
    assert set(groups) == {"under 40", "40 to 70", "over 70", "F", "M"}
    assert groups["F"]["se"] > 0
    assert groups["F"]["patients_now"] == table.loc[table["sex"] == "F", "patient_id"].nunique()
    assert 0 < groups["F"]["detectable"] < 0.5
    with pytest.raises(UserError, match="no estimates of 'aurok'; did you mean 'auroc'"):
        evaluation_power(tmp_path / "evaluation", metric="aurok")


def test_planning_needs_all_three_numbers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evaluate", "power", "--positives", "40"],
        cwd=tmp_path, env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: a planned study needs --positives, --negatives and --auroc\n")
