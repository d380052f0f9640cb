"""Groups of one attribute held against each other: nominal when they are equal, found when they are not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm
from sklearn.metrics import roc_auc_score

from evaluate.comparisons import holm
from evaluate.contrasts import GroupEstimates, cochran_q
from evaluate.heterogeneity import (
    BNSP,
    BPSN,
    HETEROGENEITY,
    PAIR,
    REST,
    WORST,
    _worst_row,
    group_rows,
    groups_table,
)
from evaluate.influence import auroc, effective_patients
from evaluate.measuring import panels
from evaluate.panel import Sizes
from evaluate.predictions import ScoredImages


def estimates(
    values: Sequence[float], errors: Sequence[float], *, freedom: float = 1e9, patients: Sequence[int] = (), logit: bool = False
) -> GroupEstimates:
    k = len(values)
    sizes = tuple(Sizes(n, 0, 0, n, 0, 0) for n in (patients or [100] * k))
    names = tuple(map(str, range(k)))
    return GroupEstimates(names, sizes, np.array(values), np.diag(np.square(errors)), np.full(k, freedom), logit)


def make_scored(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, patients: np.ndarray | None = None) -> ScoredImages:
    n, k = scores.shape
    truth = labels[:, None] == np.arange(k)
    return ScoredImages(
        task="t",
        adaptation="probe-cached",
        classes=tuple(f"c{i}" for i in range(k)),
        labels=labels.astype(np.int64),
        truth=truth,
        known=np.ones_like(truth),
        patients=np.arange(n, dtype=np.int64) if patients is None else patients,
        scores={"m": scores[None]},
        groups={"sex": groups.astype(object)},
        order={"sex": sorted(set(groups))},
    )


def binary(rng: np.random.Generator, n: int, *, groups: int = 2, worse: float = 0.0) -> ScoredImages:
    labels = (rng.random(n) < 0.4).astype(int)
    group = rng.integers(0, groups, n)
    logit = rng.normal(size=n) + labels * np.where(group == 0, 1.5 - worse, 1.5)
    p = 1 / (1 + np.exp(-logit))
    return make_scored(labels, np.column_stack([1 - p, p]), np.array(list("abcdefgh"))[group])


def table_of(scored: ScoredImages, metrics: Sequence[str] = ("auroc",), **options: Any) -> pd.DataFrame:
    found = list(panels(scored, metrics, replicates=100, seed=0, **options))
    return groups_table(list(group_rows(scored, found, replicates=100)))


def test_q_is_cochrans_formula_where_errors_are_known() -> None:
    values, errors = np.array([0.8, 0.85, 0.9]), np.array([0.02, 0.03, 0.01])
    w = 1 / errors**2
    expected = (w * (values - (w * values).sum() / w.sum()) ** 2).sum()
    q, freedom, p = cochran_q(estimates(values, errors))
    assert (q, freedom) == (pytest.approx(expected), 2)
    assert p == pytest.approx(chi2.sf(expected, 2), rel=1e-4)


def test_two_groups_are_tested_by_q_as_by_their_difference() -> None:
    groups = estimates([0.8, 0.9], [0.03, 0.04])
    assert cochran_q(groups)[2] == pytest.approx(groups.p_value(np.array([1.0, -1.0])), rel=1e-3)
    assert groups.p_value(np.array([1.0, -1.0])) == pytest.approx(2 * norm.sf(0.1 / 0.05), rel=1e-3)


def test_patients_in_two_groups_are_allowed_for() -> None:
    apart = estimates([0.8, 0.9], [0.03, 0.03])
    covariance = apart.covariance + np.array([[0, 0.8], [0.8, 0]]) * 0.03**2
    together = GroupEstimates(apart.names, apart.sizes, apart.values, covariance, apart.freedom)
    low, high = together.limits(np.array([1.0, -1.0]))
    assert (high - low) / 2 == pytest.approx(1.959964 * 0.03 * math.sqrt(2 - 1.6), rel=1e-4)
    assert cochran_q(together)[0] > cochran_q(apart)[0]


@given(st.lists(st.floats(0.55, 0.97), min_size=2, max_size=5), st.floats(0.005, 0.05), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_an_interval_leaves_0_out_where_p_is_below_the_level(values: list[float], error: float, random: Any) -> None:
    groups = estimates(values, [error * random.uniform(0.5, 2) for _ in values], freedom=30, logit=True)
    weights = groups.against_others(0)
    low, high = groups.limits(weights)
    p = groups.p_value(weights)
    if abs(p - 0.05) > 1e-4:
        assert (low > 0 or high < 0) == (p < 0.05)
    assert groups.limits(-weights) == (pytest.approx(-high), pytest.approx(-low))
    assert groups.p_value(-weights) == pytest.approx(p, rel=1e-4)


@pytest.mark.parametrize(("sizes", "prevalence"), [((200,) * 5, 0.5), ((60, 200, 600), 0.3)])
def test_equal_groups_look_unequal_in_5_of_100_and_the_worst_gap_holds_0_in_95(sizes: tuple[int, ...], prevalence: float) -> None:
    rng = np.random.default_rng(0)
    studies, rejected, held, extremes = 1500, 0, 0, []
    for _ in range(studies):
        found, freedom = [], []
        for n in sizes:
            positive = rng.random(n) < prevalence
            found.append(auroc(rng.normal(size=n) + 1.2 * positive, positive))
            freedom.append(effective_patients(found[-1].terms) - 1)
        values = np.array([f.value for f in found])
        covariance = np.diag([f.standard_error() ** 2 for f in found])
        counts = tuple(Sizes(n, 0, 0, n, 0, 0) for n in sizes)
        groups = GroupEstimates(tuple(map(str, sizes)), counts, values, covariance, np.array(freedom, dtype=float), True)
        rejected += cochran_q(groups)[2] < 0.05
        row = _worst_row({"metric": "auroc", "method": ""}, groups)
        held += row["low"] <= 0 <= row["high"]
        assert (row["p"] < 0.05) == (row["high"] < 0)
        extremes.append(np.ptp(values))
    assert 0.03 <= rejected / studies <= 0.065
    assert 0.935 <= held / studies <= 0.98
    assert min(extremes) > 0  # what a bootstrapped gap between best and worst would have to hold 0 against


def test_a_group_that_is_worse_is_found() -> None:
    table = table_of(binary(np.random.default_rng(3), 3000, groups=3, worse=0.8))
    assert table.loc[table["kind"] == HETEROGENEITY, "p"].item() < 0.001
    worst = table[table["kind"] == WORST].iloc[0]
    assert worst["group_a"] == "a"
    assert worst["high"] < 0
    rest = table[table["kind"] == REST].set_index("group_a")
    assert rest.loc["a", "p_holm"] < 0.01
    np.testing.assert_allclose(rest["p_holm"], holm(rest["p"].tolist()))
    pairs = table[table["kind"] == PAIR]
    assert list(zip(pairs["group_a"], pairs["group_b"], strict=True)) == list(itertools.combinations("abc", 2))


def test_every_row_names_its_method_and_estimand() -> None:
    table = table_of(binary(np.random.default_rng(0), 600))
    assert (table["estimand"] == "this trained head, on new patients like those tested").all()
    assert table["method"].str.len().gt(0).all()
    assert set(table["kind"]) == {HETEROGENEITY, REST, PAIR, WORST, BPSN, BNSP}


def test_against_the_rest_is_the_mean_of_the_others_by_patients() -> None:
    scored = binary(np.random.default_rng(1), 900, groups=3)
    table = table_of(scored)
    value = {g: roc_auc_score(scored.labels[m], scored.scores["m"][0, m, 1]) for g in "abc" for m in [scored.groups["sex"] == g]}
    n = {g: (scored.groups["sex"] == g).sum() for g in "abc"}
    row = table[(table["kind"] == REST) & (table["group_a"] == "a")].iloc[0]
    assert row["value"] == pytest.approx(value["a"] - (n["b"] * value["b"] + n["c"] * value["c"]) / (n["b"] + n["c"]))
    assert (row["n_a"], row["n_b"]) == (n["a"], n["b"] + n["c"])


def test_cross_group_auroc_pairs_one_sides_negatives_with_the_others_positives() -> None:
    scored = binary(np.random.default_rng(2), 500)
    table = table_of(scored)
    inside, y, s = scored.groups["sex"] == "a", scored.labels == 1, scored.scores["m"][0, :, 1]
    for kind, kept in ((BPSN, (inside & ~y) | (~inside & y)), (BNSP, (inside & y) | (~inside & ~y))):
        row = table[(table["kind"] == kind) & (table["group_a"] == "a")].iloc[0]
        assert row["value"] == pytest.approx(roc_auc_score(y[kept], s[kept]))
        assert row["low"] < row["value"] < row["high"]


def test_a_group_too_small_is_named_and_not_tested() -> None:
    rng = np.random.default_rng(0)
    scored = binary(rng, 400)
    groups = scored.groups["sex"].copy()
    groups[:6] = "tiny"
    scored = make_scored(scored.labels, scored.scores["m"][0], groups)
    table = table_of(scored)
    q = table[table["kind"] == HETEROGENEITY].iloc[0]
    assert "without tiny (too few)" in q["note"]
    assert q["df"] == 1
    tiny = table[(table["kind"] == REST) & (table["group_a"] == "tiny")].iloc[0]
    assert (tiny["flag"], tiny["note"]) == ("too few", "not tested: too few")
    assert math.isnan(tiny["p"])
    assert tiny["n_a"] == 6


def test_a_group_without_a_class_is_not_compared_over_other_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    labels[:200] = np.arange(200) % 2
    scores = np.exp(rng.normal(size=(600, 3)) + 1.5 * np.eye(3)[labels])
    scored = make_scored(labels, scores / scores.sum(axis=1, keepdims=True), np.repeat(["a", "b", "c"], 200))
    q = table_of(scored)
    assert "without a (has no c2)" in q[q["kind"] == HETEROGENEITY].iloc[0]["note"]


def test_a_raw_auprc_gap_says_that_it_follows_prevalence() -> None:
    table = table_of(binary(np.random.default_rng(0), 600), ("auprc", "auprc_adjusted"))
    assert table.loc[(table["metric"] == "auprc") & (table["kind"] == REST), "note"].str.contains("read auprc_adjusted with it").all()
    assert (table["metric"] == "auprc_adjusted").any()


def test_calibration_error_in_bins_is_not_compared_between_groups() -> None:
    table = table_of(binary(np.random.default_rng(0), 600), ("ece", "brier"))
    assert table.loc[table["metric"] == "ece", "p"].isna().all()
    assert table.loc[(table["metric"] == "ece") & (table["kind"] == HETEROGENEITY), "note"].str.contains("bias is larger").all()
    worst = table[(table["kind"] == WORST) & (table["metric"] == "brier")].iloc[0]
    assert worst["value"] > 0  # a higher Brier score is the worse one


def test_equal_opportunity_is_the_row_of_sensitivity() -> None:
    scored = binary(np.random.default_rng(5), 2000)
    table = table_of(scored, ("sensitivity",), thresholds=("0.5",))
    y, hit = scored.labels == 1, scored.scores["m"][0, :, 1] >= 0.5
    a, b = (hit[y & (scored.groups["sex"] == g)].mean() for g in "ab")
    row = table[(table["kind"] == PAIR)].iloc[0]
    assert (row["metric"], row["threshold"]) == ("sensitivity", "0.5")
    assert row["value"] == pytest.approx(a - b)


def test_eyes_of_the_same_patients_are_not_taken_as_independent() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat((rng.random(300) < 0.4).astype(int), 2)
    p = 1 / (1 + np.exp(-(np.repeat(rng.normal(size=300), 2) + 0.1 * rng.normal(size=600) + 1.2 * labels)))
    eyes = np.tile(["left", "right"], 300)
    together = table_of(make_scored(labels, np.column_stack([1 - p, p]), eyes, np.repeat(np.arange(300), 2)))
    apart = table_of(make_scored(labels, np.column_stack([1 - p, p]), eyes))
    errors = [t.loc[t["kind"] == PAIR, "se"].item() for t in (together, apart)]
    assert errors[0] < 0.3 * errors[1]
