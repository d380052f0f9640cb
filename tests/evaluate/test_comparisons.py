"""The paper's own analysis, complete, and the count of significant cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import shapiro, ttest_ind

from evaluate.comparisons import PAPER, comparison_rows, comparisons_table, holm, significant_cells
from evaluate.measuring import panels
from evaluate.predictions import ScoredImages


def two_models(seeds: int = 5, n: int = 300) -> ScoredImages:
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < 0.4).astype(np.int64)
    base = rng.normal(size=n) + 1.3 * labels
    scores = {}
    for m in range(2):
        p = 1 / (1 + np.exp(-(base + rng.normal(size=n) * 0.5 * (m + 1) + rng.normal(size=(seeds, n)) * 0.2)))
        scores[f"m{m}"] = np.stack([1 - p, p], axis=2)
    truth = labels[:, None] == np.arange(2)
    group = np.where(rng.random(n) < 0.5, "x", "y").astype(object)
    patients = np.arange(n, dtype=np.int64) // 2
    return ScoredImages(
        "t", "probe", ("no", "yes"), labels, truth, np.ones_like(truth), patients, scores, {"sex": group}, {"sex": ["x", "y"]}
    )  # fmt: skip


def compared(scored: ScoredImages, metrics: tuple[str, ...] = ("auroc", "brier", "sensitivity")) -> pd.DataFrame:
    found = panels(scored, metrics, thresholds=("0.5",), replicates=100, seed=0)
    return comparisons_table([row for p in found for row in comparison_rows(scored, p, replicates=100)])


def test_every_metric_has_our_line_and_the_papers() -> None:
    table = compared(two_models())
    for (metric, threshold), rows in table.groupby(["metric", "threshold"]):
        assert threshold == ("0.5" if metric == "sensitivity" else "")
        assert (rows["method"] == PAPER).sum() == (rows["method"] != PAPER).sum() == 3
        assert rows["difference"].notna().all()
        assert rows["p"].notna().all()


def test_a_paired_sensitivity_difference_is_the_one_of_its_definition() -> None:
    scored = two_models(seeds=1)
    row = compared(scored).query("metric == 'sensitivity' and attribute == 'all' and method != @PAPER").iloc[0]
    y = scored.labels == 1
    hits = {m: (s[0, :, 1] >= 0.5)[y].astype(float) for m, s in scored.scores.items()}
    delta = hits["m1"] - hits["m0"]
    assert row["difference"] == pytest.approx(delta.mean())
    by_patient = np.bincount(scored.patients[y], weights=delta - delta.mean())
    assert row["se"] == pytest.approx(np.sqrt((by_patient**2).sum()) / y.sum(), rel=0.02)


def test_the_papers_line_holds_its_whole_analysis() -> None:
    scored = two_models()
    row = compared(scored).query("metric == 'brier' and attribute == 'all' and method == @PAPER").iloc[0]
    a, b = (((s[:, :, 1] - scored.labels) ** 2).mean(axis=1) for s in scored.scores.values())
    assert (row["value_a"], row["value_b"]) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
    assert row["seed_sd_a"] == pytest.approx(a.std(ddof=1))
    assert row["half_b"] == pytest.approx(1.96 * b.std(ddof=1) / np.sqrt(5))
    assert row["shapiro_p_a"] == pytest.approx(shapiro(a).pvalue)
    assert row["p"] == pytest.approx(ttest_ind(b, a).pvalue)


def test_scores_that_are_not_normal_are_tested_all_the_same() -> None:
    scored = two_models()
    scores = {m: s.copy() for m, s in scored.scores.items()}
    scores["m0"][0] = 1 - scores["m0"][0]  # one seed far from the others
    table = compared(ScoredImages(**{**scored.__dict__, "scores": scores}))
    row = table.query("metric == 'auroc' and attribute == 'all' and method == @PAPER").iloc[0]
    assert row["shapiro_p_a"] < 0.01
    assert 0 < row["p"] < 1


def test_holms_family_is_the_groups_of_one_attribute_for_one_metric_and_threshold() -> None:
    table = compared(two_models())
    ours = table[(table["method"] != PAPER) & (table["attribute"] == "sex")]
    for _, family in ours.groupby(["metric", "threshold"]):
        np.testing.assert_allclose(family["p_holm"], holm(family["p"].tolist()))


def test_significant_cells_are_counted_over_the_table() -> None:
    table = compared(two_models())
    counts = {(c["metric"], c["of"]): c for c in significant_cells(table)}
    brier = table[(table["metric"] == "brier") & (table["attribute"] == "sex")]
    cell = counts["brier", "subgroups"]
    assert cell["paper"] == {"tested": 2, "significant": int((brier.loc[brier["method"] == PAPER, "p"] < 0.05).sum())}
    assert cell["ours"]["significant"] == int((brier.loc[brier["method"] != PAPER, "p"] < 0.05).sum())
    assert counts["brier", "everyone"]["ours"]["tested"] == 1
    assert cell["favours_b"] <= cell["ours_holm"]["significant"] <= cell["ours"]["significant"]
