"""Threshold metrics, calibration and adjusted average precision: published values, scikit-learn, brute force, invariances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, roc_curve

from curate import UserError
from evaluate.bootstrap import Draws
from evaluate.calibration import bin_gaps, brier, expected_calibration_error, recalibration, replicate_ece
from evaluate.estimates import interval_of, reference_of
from evaluate.influence import Influence, auroc, effective_patients
from evaluate.measuring import left_out, lines_of, panels
from evaluate.panel import MACRO, Measured, Panel, Sizes, difference_of
from evaluate.precision import average_precision, precision_influence, rank, weighted_metrics
from evaluate.predictions import ScoredImages, scored_images
from evaluate.proportions import PROPORTIONS, net_benefit, proportion, treat_all, wilson_interval
from evaluate.results import TaskPlan, arrange
from evaluate.task import METRICS
from evaluate.thresholds import given_threshold, threshold_of

Data = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]
STATISTICS = {
    "sensitivity": lambda p, y, who: proportion("sensitivity", p >= 0.5, y, who),
    "specificity": lambda p, y, who: proportion("specificity", p >= 0.5, y, who),
    "ppv": lambda p, y, who: proportion("ppv", p >= 0.5, y, who),
    "npv": lambda p, y, who: proportion("npv", p >= 0.5, y, who),
    "net_benefit": lambda p, y, who: net_benefit(p, y, who, 0.3),
    "brier": brier,
    "auroc": auroc,
    "auprc": precision_influence,
    "auprc_adjusted": lambda p, y, who: precision_influence(p, y, who, 0.1),
    "calibration_slope": lambda p, y, who: recalibration(p, y, who)[0],
    "calibration_intercept": lambda p, y, who: recalibration(p, y, who)[1],
}


@st.composite
def graded(draw: st.DrawFn) -> Data:
    """Probabilities on few levels, both labels, patients of one to several images."""
    n = draw(st.integers(6, 40))
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)), dtype=np.float64) / 10
    y = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    y[:2], y[2:4] = True, False
    p[0], p[1], p[2], p[3] = 0.2, 0.8, 0.3, 0.7  # neither separated nor without variation
    return p, y, np.array(draw(st.lists(st.integers(0, 7), min_size=n, max_size=n)))


def repeated(p: NDArray[Any], y: NDArray[Any], weights: NDArray[Any]) -> dict[str, float]:
    """Every metric of repeated rows, from scikit-learn or from its definition."""
    p, y = np.repeat(p, weights), np.repeat(y, weights)
    (tn, fp), (fn, tp) = confusion_matrix(y, p >= 0.5, labels=[False, True])
    treated = p >= 0.3
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "net_benefit": ((treated & y).sum() - (treated & ~y).sum() * 0.3 / 0.7) / len(y),
            "brier": brier_score_loss(y, p),
            "auprc": average_precision_score(y, p),
        }


@given(graded())
def test_values_are_scikit_learns(data: Data) -> None:
    expected = repeated(data[0], data[1], np.ones(len(data[0]), dtype=int))
    for name, value in expected.items():
        assert STATISTICS[name](*data).value == pytest.approx(value, abs=1e-12, nan_ok=True)


@given(graded(), st.sampled_from(sorted(STATISTICS)))
def test_terms_are_the_derivative_by_the_images_weights(data: Data, name: str) -> None:
    """Doubling a share of each image's weight, one at a time, by brute force: repeated rows have integer weights."""
    p, y, _ = data
    alone = np.arange(len(p))
    statistic = STATISTICS[name]
    many = 200
    terms = statistic(np.repeat(p, many), np.repeat(y, many), np.repeat(alone, many))
    if math.isnan(terms.value):
        return
    by_image = np.bincount(np.repeat(alone, many), weights=terms.terms)
    for i in (0, 2, len(p) - 1):
        weights = np.full(len(p), many)
        weights[i] += 1
        less = np.full(len(p), many)
        less[i] -= 1
        up, down = (statistic(np.repeat(p, w), np.repeat(y, w), np.arange(w.sum())).value for w in (weights, less))
        # inflation is at most sqrt(2) here and does not depend on the image's sign: compare after removing it
        if abs(up - down) < 1e-12:
            assert abs(by_image[i]) < 1e-6
        else:
            assert 1 - 1e-3 <= by_image[i] / ((up - down) / 2 * many) <= math.sqrt(2) + 1e-3


@given(graded(), st.sampled_from(sorted(STATISTICS)), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(data: Data, name: str, random: Any) -> None:
    order = np.random.default_rng(random.randrange(2**32)).permutation(len(data[0]))
    here, there = STATISTICS[name](*data), STATISTICS[name](*(part[order] for part in data))
    assert there.value == pytest.approx(here.value, abs=1e-9, nan_ok=True)
    np.testing.assert_allclose(there.terms, here.terms[order], atol=1e-7)


@given(graded(), st.sampled_from(["auroc", "auprc", "auprc_adjusted"]))
def test_a_rising_transform_changes_no_ranking_metric(data: Data, name: str) -> None:
    p, y, who = data
    np.testing.assert_allclose(STATISTICS[name](np.exp(3 * p) - 7, y, who).terms, STATISTICS[name](p, y, who).terms, atol=1e-12)


@given(graded())
def test_turning_labels_and_probabilities_round_exchanges_the_two_sides(data: Data) -> None:
    p, y, who = data
    p = np.where(p == 0.5, 0.45, p)
    for here, there in (("sensitivity", "specificity"), ("ppv", "npv"), ("brier", "brier")):
        assert STATISTICS[there](1 - p, ~y, who).value == pytest.approx(STATISTICS[here](p, y, who).value, nan_ok=True)
    slope, intercept = recalibration(p, y, who)
    turned, other = recalibration(1 - p, ~y, who)
    assert turned.value == pytest.approx(slope.value, rel=1e-6, abs=1e-8)
    assert other.value == pytest.approx(-intercept.value, rel=1e-6, abs=1e-8)
    assert auroc(-p, y).value == pytest.approx(1 - auroc(p, y).value)


@given(graded(), st.sampled_from(sorted(set(STATISTICS) - {"auroc", "auprc_adjusted"})))
def test_terms_add_up_to_nothing(data: Data, name: str) -> None:
    p, y, _ = data
    part = STATISTICS[name](p, y, np.arange(len(p)))
    if not np.isnan(part.terms).any():
        assert part.terms.sum() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_one_patient_has_a_value_and_no_error(name: str) -> None:
    p, y = np.array([0.2, 0.8, 0.3, 0.7, 0.6, 0.4]), np.array([True, True, False, False, True, False])
    part = STATISTICS[name](p, y, np.zeros(6, dtype=np.int64))
    assert not math.isnan(part.value)
    assert math.isnan(part.standard_error(np.zeros(6, dtype=np.int64)))


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_all_one_label_gives_what_it_can(name: str, label: bool) -> None:
    p, who = np.array([0.2, 0.8, 0.3, 0.7]), np.arange(4)
    value = STATISTICS[name](p, np.full(4, label), who).value
    expected = {
        "sensitivity": 0.5 if label else math.nan,
        "specificity": math.nan if label else 0.5,
        "ppv": float(label),
        "npv": float(not label),
        "brier": repeated(p, np.full(4, label), np.ones(4, dtype=int))["brier"] if label else float((p**2).mean()),
        "net_benefit": 0.75 if label else -0.75 * 0.3 / 0.7,
    }
    assert value == pytest.approx(expected.get(name, math.nan), nan_ok=True)


def test_a_proportions_clustered_variance_is_that_of_patients_totals() -> None:
    rng = np.random.default_rng(0)
    who, y = np.repeat(np.arange(30), 2), np.ones(60, dtype=bool)
    called = np.repeat(rng.random(30) < 0.6, 2)  # both eyes alike: thirty independent decisions
    part = proportion("sensitivity", called, y, who)
    assert part.standard_error(who) == pytest.approx(math.sqrt(part.value * (1 - part.value) / 29))
    assert (part.images, part.patients) == (60, 30)
    low, high = wilson_interval(part.value, part.standard_error(who), decisions=60, patients=10**9)
    n, z = 29, 1.959963984540054
    centre, half = part.value + z * z / (2 * n), z * math.sqrt(part.value * (1 - part.value) / n + z * z / (4 * n * n))
    assert (low, high) == (pytest.approx((centre - half) / (1 + z * z / n)), pytest.approx((centre + half) / (1 + z * z / n)))


@given(st.floats(0, 1), st.floats(0, 0.4), st.integers(2, 500))
def test_wilsons_interval_holds_its_value_and_stays_between_0_and_1(value: float, error: float, patients: int) -> None:
    low, high = wilson_interval(value, error, decisions=2 * patients, patients=patients)
    assert 0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1


def test_no_miss_among_few_patients_is_no_certainty() -> None:
    few, many = (wilson_interval(1.0, 0.0, decisions=1000, patients=n)[0] for n in (5, 500))
    assert few < 0.5
    assert 0.98 < many < 1


@given(graded())
def test_youdens_threshold_is_the_best_of_all(data: Data) -> None:
    p, y, who = data
    at = threshold_of("youden", p, y)

    def j(cut: float) -> float:
        return proportion("sensitivity", p >= cut, y, who).value + proportion("specificity", p >= cut, y, who).value

    assert j(at) == pytest.approx(max(j(cut) for cut in (*np.unique(p), math.inf)))
    assert all(j(cut) < j(at) - 1e-12 for cut in np.unique(p) if cut > at)
    false, true, cuts = roc_curve(y, p, drop_intermediate=False)
    assert at == cuts[int(np.argmax((true - false).round(12)))]


@given(graded(), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_a_fixed_specificity_is_reached_at_the_lowest_threshold_that_does(data: Data, wanted: float) -> None:
    p, y, who = data
    for metric, better in (("specificity", min), ("sensitivity", max)):
        at = threshold_of(f"{metric}={wanted}", p, y)
        reached = [cut for cut in (*np.unique(p), math.inf) if proportion(metric, p >= cut, y, who).value >= wanted - 1e-12]
        assert at == better(reached)


def test_one_label_on_validation_fixes_no_threshold() -> None:
    assert math.isnan(threshold_of("youden", np.array([0.1, 0.2]), np.array([True, True])))
    assert threshold_of("0.3", np.array([0.1]), np.array([True])) == 0.3


@pytest.mark.parametrize("rule", ["Youden", "specificity=", "specificity=1.2", "ppv=0.9", "2", "0", "nan", "sensitivity=x"])
def test_a_threshold_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(UserError, match=f"threshold '{rule}': expected youden, specificity=X"):
        given_threshold(rule)


def test_metrics_reloaded_calibration_errors() -> None:
    """Maier-Hein et al. 2024, supplementary note 2.24."""
    p = np.array([0.22, 0.48, 0.49, 0.96, 0.55, 0.64, 0.78, 0.82, 0.34, 0.87])
    y = np.array([0, 1, 0, 0, 1, 1, 1, 1, 1, 0], dtype=bool)
    for bins, expected, largest in ((2, 0.109, 0.12), (5, 0.315, 0.55), (10, 0.359, 0.96)):
        assert expected_calibration_error(p, y, bins=bins) == pytest.approx(expected, abs=5e-4)
        assert expected_calibration_error(p, y, bins=bins, norm="max") == pytest.approx(largest, abs=5e-3)


@given(graded(), st.integers(1, 12))
def test_ece_is_its_definition(data: Data, bins: int) -> None:
    p, y, _ = data
    at = np.array([min(int(q * bins), bins - 1) for q in p])
    expected = sum((at == b).mean() * abs(y[at == b].mean() - p[at == b].mean()) for b in range(bins) if (at == b).any())
    assert expected_calibration_error(p, y, bins=bins) == pytest.approx(expected, abs=1e-12)


def test_replicated_ece_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    p, who = rng.random(60), np.repeat(np.arange(30), 2)
    y = rng.random(60) < p
    draws = Draws(30, 20, seed=1)
    found, noise = replicate_ece([bin_gaps(p, y, who, 30)], [np.bincount(who)], draws)
    counts = np.concatenate(list(draws.blocks(30)))[:, who]
    expected = [expected_calibration_error(np.repeat(p, c), np.repeat(y, c)) for c in counts]
    np.testing.assert_allclose(found[0], expected, atol=1e-12)
    assert (np.abs(found[0] - expected_calibration_error(p, y)) <= noise[0] + 1e-12).all()


def test_more_patients_than_units_are_resampled_in_random_groups_of_one_size() -> None:
    units = Draws(10, 5, seed=0, name="x").units(95)
    assert set(np.bincount(units)) == {9, 10}
    assert not (units == np.arange(95) % 10).all()
    np.testing.assert_array_equal(Draws(10, 5, seed=0).units(10), np.arange(10))


def test_recalibration_is_logistic_regression_with_a_clustered_sandwich() -> None:
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(80), 2)
    p = expit(np.repeat(rng.normal(size=80), 2) + 0.5 * rng.normal(size=160))
    y = rng.random(160) < expit(0.6 * logit(p) - 0.4)
    slope, intercept = recalibration(p, y, who)

    def loss(b: NDArray[Any]) -> float:
        line = b[0] + b[1] * logit(p)
        return float(-(y * line - np.logaddexp(0, line)).sum())

    best = minimize(loss, [0, 1], tol=1e-12).x
    large = minimize(lambda a: loss(np.array([a[0], 1.0])), [0], tol=1e-12).x
    assert slope.value == pytest.approx(best[1], abs=1e-4)
    assert intercept.value == pytest.approx(large[0], abs=1e-4)
    x = np.stack([np.ones(160), logit(p)], axis=1)
    fitted = expit(x @ best)
    bread = np.linalg.inv((x * (fitted * (1 - fitted))[:, None]).T @ x)
    scores = np.stack([np.bincount(who, weights=(y - fitted) * column) for column in x.T])
    sandwich = bread @ (scores @ scores.T) @ bread * 80 / 79
    assert slope.standard_error(who) == pytest.approx(math.sqrt(sandwich[1, 1]), rel=1e-3)


def test_perfectly_separated_probabilities_have_no_slope_and_extreme_ones_have_one() -> None:
    y = np.arange(20) >= 10
    assert math.isnan(recalibration(np.linspace(0.1, 0.9, 20), y, np.arange(20))[0].value)
    assert math.isnan(recalibration(np.full(20, 0.3), y, np.arange(20))[0].value)
    p = np.where(np.arange(20) % 7 == 0, ~y, y).astype(float)  # mostly right, always certain
    slope, intercept = recalibration(p, y, np.arange(20))
    assert 0 < slope.value < 0.2
    assert abs(intercept.value) < 15


@given(graded(), st.floats(0.01, 0.99))
def test_average_precision_at_a_prevalence_is_that_of_weighted_rows(data: Data, prevalence: float) -> None:
    p, y, who = data
    weights = np.where(y, prevalence / y.sum(), (1 - prevalence) / (~y).sum())
    expected = average_precision_score(y, p, sample_weight=weights)
    assert precision_influence(p, y, who, prevalence).value == pytest.approx(expected, abs=1e-9)
    assert average_precision(p, y, prevalence) == pytest.approx(expected, abs=1e-9)
    at_its_own = precision_influence(p, y, who, float(y.mean())).value
    assert at_its_own == pytest.approx(precision_influence(p, y, who).value, abs=1e-12)


def test_weighted_average_precision_at_a_prevalence_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(2)
    p, y = rng.integers(0, 8, 40) / 8, rng.random(40) < 0.4
    weights = rng.integers(0, 3, (10, 40)).astype(np.int32)
    found = weighted_metrics(rank(p, y), weights, 0.2).adjusted
    for value, w in zip(found, weights, strict=True):
        assert value == pytest.approx(average_precision(np.repeat(p, w), np.repeat(y, w), 0.2))


def test_net_benefit_of_treating_everybody_is_the_textbooks() -> None:
    rng = np.random.default_rng(3)
    y = rng.random(500) < 0.2
    everybody = net_benefit(np.ones(500), y, np.arange(500), 0.1).value
    assert everybody == pytest.approx(treat_all(y.mean(), 0.1))
    assert treat_all(0.2, 0.1) == pytest.approx(0.2 - 0.8 / 9)
    assert net_benefit(np.zeros(500), y, np.arange(500), 0.1).value == 0


def test_the_effective_number_is_satterthwaites() -> None:
    rng = np.random.default_rng(4)
    terms = np.concatenate([rng.normal(0, 3, 40_000), rng.normal(0, 1, 400_000)])
    sides = np.array([9 * 40_000, 400_000.0])
    expected = sides.sum() ** 2 / (sides**2 / [40_000, 400_000]).sum()
    assert effective_patients(terms) == pytest.approx(expected, rel=0.03)
    assert effective_patients(np.zeros(4)) == 0


def make(classes: int = 2, seeds: int = 3, validation: bool = True, **changes: Any) -> ScoredImages:
    rng = np.random.default_rng(5)

    def images(n: int) -> dict[str, Any]:
        labels = np.arange(n) % classes
        logits = rng.normal(size=(2, seeds, n, classes)) + 1.5 * np.eye(classes)[labels]
        p = np.exp(logits) / np.exp(logits).sum(axis=3, keepdims=True)
        truth = labels[:, None] == np.arange(classes)
        return {
            "labels": labels,
            "truth": truth,
            "known": np.ones_like(truth),
            "patients": np.arange(n) // 2,
            "scores": {"a": p[0], "b": p[1]},
        }

    common = {"task": "t", "adaptation": "probe", "classes": tuple("xyz"[:classes])}
    held = ScoredImages(**common, **images(120)) if validation else None
    return ScoredImages(**{**common, **images(200), "validation": held, **changes})


def everyone(scored: ScoredImages, metrics: tuple[str, ...] = METRICS, resampled: bool = False) -> Panel:
    rules = ("youden", "specificity=0.9", "0.5")
    return next(panels(scored, metrics, thresholds=rules, net_benefit_at=(0.1,), replicates=200, seed=0, resampled=resampled))


def test_every_metric_has_an_interval_for_every_class_and_the_macro_average() -> None:
    scored = make(classes=3)
    panel = everyone(scored)
    assert [line[0] for line in panel.lines if line[1] in ("", "youden", "0.1")] == list(METRICS)
    assert len(panel.measured) == 2 * 4 * len(panel.lines)
    for (model, metric, threshold, name), measured in panel.measured.items():
        low, high = interval_of(measured)
        assert low <= measured.value <= high, (model, metric, threshold, name)
        if name == MACRO:
            assert measured.value == pytest.approx(np.mean([panel.measured[model, metric, threshold, c].value for c in "xyz"]))


def test_thresholds_are_fixed_on_validation_for_each_model_seed_and_class() -> None:
    scored = make(classes=3)
    panel = everyone(scored)
    held = scored.validation
    assert held is not None
    expected = [threshold_of("youden", s[:, 1], held.truth[:, 1]) for s in held.scores["b"]]
    np.testing.assert_array_equal(panel.cuts["b", "youden", "y"], expected)
    by_seed = [(s[scored.truth[:, 1], 1] >= cut).mean() for s, cut in zip(scored.scores["b"], expected, strict=True)]
    np.testing.assert_allclose(panel.measured["b", "sensitivity", "youden", "y"].by_seed, by_seed)


def test_without_validation_only_given_thresholds_stay() -> None:
    scored = make(validation=False)
    assert {t for m, t in lines_of(scored, METRICS, ("youden", "0.5"), ()) if m in PROPORTIONS} == {"0.5"}
    (note,) = left_out(scored, METRICS, ("youden", "0.5"))
    assert note == "task t, probe: no threshold youden: there are no predictions for a validation split to fix it on"
    assert left_out(make(), METRICS, ("youden",)) == []


def test_scores_that_only_rank_have_no_calibration() -> None:
    scored = make(probabilities=False)
    metrics = {m for m, _ in lines_of(scored, METRICS, ("youden", "0.5"), (0.1,))}
    assert metrics == {"auroc", "auprc", "auprc_adjusted", *PROPORTIONS}
    (note,) = left_out(scored, METRICS, ("youden", "0.5"))
    assert "no brier, ece, calibration_slope, calibration_intercept, net_benefit, threshold 0.5: the scores" in note


def test_a_class_that_nobody_is_called_is_left_out_of_the_average_by_name() -> None:
    scored = make(classes=3)
    scores = {m: s.copy() for m, s in scored.scores.items()}
    scores["a"][:, :, 2] = 0.01
    panel = everyone(make(classes=3, scores=scores))
    assert ("a", "ppv", "0.5", "z") not in panel.measured
    assert panel.reasons["a", "ppv", "0.5", "z"] == "no image is called positive with 3 of 3 seeds"
    assert panel.measured["a", "ppv", "0.5", MACRO].classes == ("x", "y")
    assert panel.measured["b", "ppv", "0.5", MACRO].classes == ("x", "y", "z")


def test_the_bootstrap_comes_to_the_same_as_influence_functions() -> None:
    scored = make(classes=3)
    metrics = ("auroc", "auprc", "auprc_adjusted")
    by_terms, resampled = everyone(scored, metrics), everyone(scored, metrics, resampled=True)
    assert by_terms.measured.keys() == resampled.measured.keys()
    for key, measured in by_terms.measured.items():
        again = resampled.measured[key]
        assert (measured.replicated, again.replicated) == (False, True)
        np.testing.assert_allclose(again.by_seed, measured.by_seed, atol=1e-12)
        assert again.error == pytest.approx(measured.error, rel=0.25)


def test_the_same_model_twice_differs_by_nothing_in_every_metric() -> None:
    scored = make()
    panel = everyone(make(scores={"a": scored.scores["a"], "b": scored.scores["a"]}, validation=None))
    for metric, threshold in panel.lines:
        gap = difference_of(*(panel.measured[m, metric, threshold, MACRO] for m in "ab"))
        assert (gap.value, gap.error) == (0, 0)
        assert gap.freedom >= 1


def test_a_reference_is_what_a_model_that_knows_nothing_has() -> None:
    y = np.arange(1000) % 5 == 0
    sizes, who, nothing = [Sizes(1000, 200, 800, 1000, 200, 800)], np.arange(1000), np.full(1000, 0.2)
    flat: dict[str, Influence] = {name: STATISTICS[name](nothing, y, who) for name in ("auroc", "auprc", "brier")}
    for name, part in flat.items():
        assert part.value == pytest.approx(reference_of(name, "", sizes, [0.2]))
    assert reference_of("net_benefit", "0.1", sizes, [0.2]) == pytest.approx(net_benefit(np.ones(1000), y, who, 0.1).value)
    assert math.isnan(reference_of("sensitivity", "youden", sizes, [0.2]))
    assert precision_influence(nothing, y, who, 0.4).value == pytest.approx(reference_of("auprc_adjusted", "", sizes, [0.4]))


def test_an_ece_of_a_calibrated_model_may_be_0() -> None:
    measured = Measured("ece", np.array([0.05]), np.linspace(0.04, 0.1, 100), True, 200, 100, ("x",), np.linspace(0.03, 0.08, 100))
    low, high = interval_of(measured)
    assert low == 0
    assert high >= 0.05


def rows_of(split: str, count: int, **columns: Any) -> pd.DataFrame:
    base = {"task": "t", "model": "m", "adaptation": "probe", "seed": 0, "split": split, "patient_id": None}
    return pd.DataFrame({**base, "image_id": [f"{split}{i}" for i in range(count)], **columns})


def test_a_multilabel_task_knows_each_label_on_its_own() -> None:
    table = rows_of(
        "test", 4, label=None, label_0=[1, 0, None, 1], label_1=[0, 0, 1, 1], p_0=[0.9, 0.2, 0.5, 0.6], p_1=[0.1, 0.3, 0.8, 0.9]
    )
    plan = TaskPlan("t", ("glaucoma", "oedema"), {}, METRICS, {}, kind="multilabel")
    arranged = arrange(table, [plan], heads=True)
    assert str(arranged.table["label_0"].dtype) == "Int8"
    ((_, scored),) = arranged.sets
    assert scored.judged == (0, 1)
    assert scored.known.tolist() == [[True, True], [True, True], [False, True], [True, True]]
    assert scored.truth[:, 1].tolist() == [False, False, True, True]
    panel = everyone(scored)
    assert (panel.sizes["glaucoma"].n, panel.sizes["oedema"].n, panel.sizes[MACRO].n) == (3, 4, 3)
    assert panel.measured["m", "auroc", "", "glaucoma"].value == 1
    assert panel.measured["m", "brier", "", "glaucoma"].value == pytest.approx((0.01 + 0.04 + 0.16) / 3)


def test_an_intersection_is_made_from_its_attributes() -> None:
    table = rows_of("test", 4, label=[0, 1, 0, 1], p_0=0.5, p_1=0.5, age=["young", "old"] * 2, sex=["f", "f", "m", "m"])
    plan = TaskPlan("t", ("no", "yes"), {"age x sex": ["young x f", "old x f", "young x m", "old x m"]}, METRICS, {})
    arranged = arrange(table, [plan], heads=True)
    assert [c for c in arranged.table.columns if c in ("age", "sex", "age x sex")] == ["age", "sex"]
    ((_, scored),) = arranged.sets
    assert scored.groups["age x sex"].tolist() == ["young x f", "old x f", "young x m", "old x m"]


def test_validation_rows_come_with_the_test_rows() -> None:
    table = pd.concat([rows_of(s, 4, label=[0, 1, 0, 1], p_0=0.5, p_1=0.5) for s in ("test", "val", "train")])
    (scored,) = scored_images(table, ["no", "yes"], {})
    assert scored.validation is not None
    assert len(scored.patients) == len(scored.validation.patients) == 4
    with pytest.raises(UserError, match="model m has 2 seeds on the test split and 1 on the validation split"):
        scored_images(pd.concat([table, rows_of("test", 4, label=[0, 1, 0, 1], p_0=0.5, p_1=0.5).assign(seed=1)]), ["no", "yes"], {})


def test_missing_first_scores_say_that_scores_only_rank() -> None:
    (scored,) = scored_images(rows_of("test", 2, label=[0, 1], p_0=np.nan, p_1=[3.0, -2.0]), ["no", "yes"], {})
    assert not scored.probabilities
