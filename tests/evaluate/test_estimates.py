"""Rows of estimates and comparisons: what they hold, what they flag, what they refuse to invent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind
from sklearn.metrics import average_precision_score, roc_auc_score

from curate import UserError
from evaluate.comparisons import PAPER, comparison_rows, comparisons_table, holm
from evaluate.estimates import estimate_rows, estimates_table
from evaluate.measuring import panels
from evaluate.panel import Sizes
from evaluate.predictions import ScoredImages, patient_codes, scored_images

METRICS = ("auroc", "auprc")


def make_scored(
    *, n: int = 240, classes: int = 3, models: int = 2, seeds: int = 5, seed: int = 0, groups: Any = None, labels: Any = None
) -> ScoredImages:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n) if labels is None else np.asarray(labels)
    base = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[truth]
    scores = {}
    for model in range(models):
        logits = base + rng.normal(size=(n, classes)) * (0.3 + 0.3 * model) + rng.normal(size=(seeds, n, classes)) * 0.1
        scores[f"m{model}"] = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    group = np.where(np.arange(n) % 3 == 0, "x", "y").astype(object) if groups is None else np.asarray(groups, dtype=object)
    return ScoredImages(
        task="t",
        adaptation="probe-cached",
        classes=tuple(f"c{k}" for k in range(classes)),
        labels=truth.astype(np.int64),
        truth=truth[:, None] == np.arange(classes),
        known=np.ones((n, classes), dtype=bool),
        patients=np.arange(n, dtype=np.int64) // 2,
        scores=scores,
        groups={"sex": group},
        order={"sex": sorted(set(group))},
    )


def tables(scored: ScoredImages, replicates: int = 100) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = list(panels(scored, METRICS, replicates=replicates, seed=0))
    estimates = estimates_table([row for p in found for row in estimate_rows(scored, p, replicates=replicates)])
    comparisons = comparisons_table([row for p in found for row in comparison_rows(scored, p, replicates=replicates)])
    return estimates, comparisons


def only(table: pd.DataFrame, **where: Any) -> pd.Series:
    for column, value in where.items():
        table = table[table[column.rstrip("_")] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_values_are_scikit_learns_averaged_over_seeds() -> None:
    scored = make_scored()
    estimates, _ = tables(scored)
    mask = scored.groups["sex"] == "x"
    truth = np.eye(3)[scored.labels[mask]]
    for metric, function in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
        expected = np.mean([function(truth, s[mask], average="macro") for s in scored.scores["m1"]])
        row = only(estimates, model="m1", attribute="sex", group="x", metric=metric, class_="macro")
        assert row["value"] == pytest.approx(expected, abs=1e-12)
        assert row["low"] < row["value"] < row["high"]
        assert row["seeds"] == 5


def test_every_row_says_what_it_estimates_and_how() -> None:
    estimates, comparisons = tables(make_scored())
    assert set(estimates["estimand"]) == {"the mean of these 5 trained heads, on new patients like those tested"}
    assert set(estimates["method"]) == {
        "DeLong, clustered by patient, logit-t interval",
        "influence function, clustered by patient, logit-t interval",
    }
    assert set(comparisons.loc[comparisons["method"] == PAPER, "estimand"]) == {
        "new seeds of the adaptation of the same two models, on these same test images"
    }


def test_counts_of_a_macro_row_are_the_smallest_over_its_classes() -> None:
    scored = make_scored()
    estimates, _ = tables(scored)
    everyone = estimates[(estimates["attribute"] == "all") & (estimates["model"] == "m0") & (estimates["metric"] == "auroc")]
    macro, classes = everyone[everyone["class"] == "macro"].iloc[0], everyone[everyone["class"] != "macro"]
    assert list(classes["n_pos"]) == np.bincount(scored.labels).tolist()
    for count in ("n", "n_pos", "n_neg", "n_patients", "n_pos_patients", "n_neg_patients"):
        assert macro[count] == classes[count].min()


def test_two_classes_are_judged_by_the_second() -> None:
    scored = make_scored(classes=2)
    estimates, _ = tables(scored)
    assert set(estimates["class"]) == {"macro", "c1"}
    row = only(estimates, model="m0", attribute="all", metric="auprc", class_="macro")
    assert row["value"] == only(estimates, model="m0", attribute="all", metric="auprc", class_="c1")["value"]
    assert row["n_pos"] == (scored.labels == 1).sum()


def test_a_class_absent_from_a_group_is_left_out_of_the_average_and_named() -> None:
    labels = np.arange(240) % 3
    groups = np.where(np.arange(240) < 60, "x", "y")
    labels[:60] = np.arange(60) % 2  # no c2 in group x
    estimates, _ = tables(make_scored(labels=labels, groups=groups))
    macro = only(estimates, model="m0", attribute="sex", group="x", metric="auroc", class_="macro")
    parts = [only(estimates, model="m0", attribute="sex", group="x", metric="auroc", class_=c)["value"] for c in ("c0", "c1")]
    assert macro["value"] == pytest.approx(np.mean(parts))
    assert "averaged without c2" in macro["note"]
    absent = only(estimates, model="m0", attribute="sex", group="x", metric="auroc", class_="c2")
    assert math.isnan(absent["value"])
    assert (absent["n_pos"], absent["flag"], absent["note"]) == (0, "too few", "no positives")


def test_a_group_of_one_label_is_shown_without_values() -> None:
    groups = np.where(np.arange(240) < 40, "x", "y")
    labels = np.where(np.arange(240) < 40, 0, np.arange(240) % 2)
    estimates, comparisons = tables(make_scored(classes=2, labels=labels, groups=groups))
    row = only(estimates, model="m0", attribute="sex", group="x", metric="auroc", class_="macro")
    assert math.isnan(row["value"])
    assert row["n"] == 40
    assert row["note"] == "no positives"
    assert comparisons[comparisons["group"] == "x"]["p"].isna().all()
    assert set(comparisons[comparisons["group"] == "x"]["note"]) == {"no value in this group: see estimates.parquet"}


def test_an_empty_group_is_a_row() -> None:
    scored = make_scored()
    scored = ScoredImages(**{**scored.__dict__, "order": {"sex": ["x", "y", "z"]}})
    estimates, comparisons = tables(scored)
    row = only(estimates, model="m0", attribute="sex", group="z", metric="auprc", class_="macro")
    assert (row["n"], row["flag"], row["note"]) == (0, "too few", "no images")
    assert (comparisons["group"] == "z").any()


def test_one_patient_has_values_and_no_intervals() -> None:
    labels = np.arange(240) % 2
    groups = np.where(np.arange(240) < 2, "x", "y")  # the two eyes of one patient, one of each label
    estimates, comparisons = tables(make_scored(classes=2, labels=labels, groups=groups))
    for metric in METRICS:
        row = only(estimates, model="m0", attribute="sex", group="x", metric=metric, class_="macro")
        assert not math.isnan(row["value"])
        assert math.isnan(row["low"])
        assert math.isnan(row["se"])
        assert row["note"].startswith("no interval: one patient")
        assert row["flag"] == "too few"
    assert comparisons[(comparisons["group"] == "x")]["p"].isna().all()


@pytest.mark.parametrize(("positives", "flag"), [(150, ""), (100, ""), (99, "few"), (10, "few"), (9, "too few")])
def test_flags_count_the_scarcer_side(positives: int, flag: str) -> None:
    assert Sizes(400, positives, 400 - positives, 200, 50, 150).flag == flag
    assert Sizes(400, 400 - positives, positives, 200, 150, 50).flag == flag


def test_a_group_too_small_to_test_keeps_its_difference_and_interval() -> None:
    labels = np.arange(240) % 2
    groups = np.where(np.arange(240) < 16, "x", "y")
    _, comparisons = tables(make_scored(classes=2, labels=labels, groups=groups))
    row = only(comparisons[comparisons["method"] != PAPER], attribute="sex", group="x", metric="auroc")
    assert row["flag"] == "too few"
    assert row["low"] < row["difference"] < row["high"]
    assert math.isnan(row["p"])
    assert math.isnan(row["p_holm"])
    other = only(comparisons[comparisons["method"] != PAPER], attribute="sex", group="y", metric="auroc")
    assert other["p_holm"] == other["p"]  # alone in its family


def test_identical_models_differ_by_0_with_p_1() -> None:
    scored = make_scored(models=1)
    twins = ScoredImages(**{**scored.__dict__, "scores": {"a": scored.scores["m0"], "b": scored.scores["m0"]}})
    _, comparisons = tables(twins)
    ours = comparisons[comparisons["method"] != PAPER]
    assert (ours[["difference", "low", "high", "se"]] == 0).all(axis=None)
    assert (ours["p"] == 1).all()
    assert comparisons["p"].to_numpy() == pytest.approx(1.0)


def test_swapped_models_negate_every_difference() -> None:
    scored = make_scored()
    swapped = ScoredImages(**{**scored.__dict__, "scores": dict(reversed(scored.scores.items()))})
    _, straight = tables(scored)
    _, turned = tables(swapped)
    np.testing.assert_allclose(turned["difference"], -straight["difference"], atol=1e-15)
    np.testing.assert_allclose(turned["low"], -straight["high"], atol=1e-12)
    np.testing.assert_allclose(turned["p"], straight["p"], atol=1e-12)


def test_two_perfect_models_are_not_said_to_be_equal() -> None:
    scored = make_scored(classes=2)
    perfect = np.stack([1 - scored.labels, scored.labels], axis=1)[None].astype(float)
    spread = perfect * np.linspace(0.9, 1.0, 240)[None, :, None]
    estimates, comparisons = tables(ScoredImages(**{**scored.__dict__, "scores": {"a": perfect, "b": spread}}))
    assert (estimates["value"] == 1).all()
    assert estimates["low"].isna().all()
    assert set(estimates["note"]) == {"no interval: perfect separation"}
    assert comparisons["p"].isna().all()


def test_the_papers_line_is_the_t_test_over_seeds() -> None:
    scored = make_scored()
    _, comparisons = tables(scored)
    truth = np.eye(3)[scored.labels]
    a, b = ([roc_auc_score(truth, s, average="macro") for s in scored.scores[m]] for m in ("m0", "m1"))
    row = only(comparisons[comparisons["method"] == PAPER], attribute="all", metric="auroc")
    assert row["p"] == pytest.approx(ttest_ind(b, a).pvalue)
    assert row["difference"] == pytest.approx(np.mean(b) - np.mean(a))
    assert row["low"] == pytest.approx(ttest_ind(b, a).confidence_interval().low)
    assert row["difference"] / row["se"] == pytest.approx(ttest_ind(b, a).statistic)
    assert math.isnan(row["p_holm"])


def test_one_seed_leaves_the_papers_line_without_a_test() -> None:
    _, comparisons = tables(make_scored(seeds=1))
    paper = comparisons[comparisons["method"] == PAPER]
    assert paper["p"].isna().all()
    assert set(paper["note"]) == {"one seed: no variation over seeds to test against"}


def test_holm_corrects_within_an_attribute() -> None:
    _, comparisons = tables(make_scored())
    ours = comparisons[(comparisons["method"] != PAPER) & (comparisons["metric"] == "auroc")]
    assert (ours[ours["attribute"] == "all"]["p_holm"] == ours[ours["attribute"] == "all"]["p"]).all()
    family = ours[ours["attribute"] == "sex"]
    np.testing.assert_array_equal(family["p_holm"], holm(family["p"].tolist()))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_of_its_definition(p: list[float]) -> None:
    adjusted = holm(p)
    for i, value in enumerate(p):
        steps = [(len(p) - sorted(p).index(q)) * q for q in p if q <= value]
        assert adjusted[i] == pytest.approx(min(1.0, max(steps)))


def test_a_subgroup_of_everyone_has_everyones_estimates() -> None:
    scored = make_scored(groups=np.full(240, "x"))
    estimates, _ = tables(scored)
    columns = ["value", "low", "high", "se", "n_pos"]
    pd.testing.assert_frame_equal(
        estimates[estimates["attribute"] == "all"][columns].reset_index(drop=True),
        estimates[estimates["attribute"] == "sex"][columns].reset_index(drop=True),
    )


def predictions(**changes: Any) -> pd.DataFrame:
    rows = [
        {
            "task": "t",
            "model": m,
            "adaptation": "probe",
            "seed": s,
            "split": "test",
            "image_id": f"i{i}",
            "patient_id": f"p{i // 2}",
            "label": i % 2,
        }
        | {"p_0": 0.5 - i / 20, "p_1": 0.5 + i / 20, "sex": "x"}
        for m in ("a", "b")
        for s in (0, 1)
        for i in range(6)
    ]
    return pd.DataFrame(rows).assign(**changes)


def test_predictions_become_arrays_in_the_order_of_images() -> None:
    shuffled = predictions().sample(frac=1, random_state=0)
    (scored,) = scored_images(shuffled, ["no", "yes"], {"sex": ["x"]})
    assert scored.scores["a"].shape == (2, 6, 2)
    assert scored.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert scored.patients.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(scored.scores["b"][1, :, 1], 0.5 + np.arange(6) / 20)


def test_models_must_have_scored_the_same_images() -> None:
    with pytest.raises(UserError, match="model b, seed 1 has no prediction for 1 images that others have, first: i5"):
        scored_images(predictions().iloc[:-1], ["no", "yes"], {"sex": ["x"]})


def test_an_image_has_one_label() -> None:
    table = predictions()
    table.loc[13, "label"] = 0
    with pytest.raises(UserError, match="image i1 has label '1' in one row and '0' in another"):
        scored_images(table, ["no", "yes"], {"sex": ["x"]})


def test_an_image_without_a_patient_is_a_patient_of_its_own() -> None:
    images = pd.DataFrame({"image_id": ["i0", "i1", "i2", "i3"], "patient_id": ["p", None, "p", None]})
    assert patient_codes(images).tolist() == [0, 1, 0, 2]
