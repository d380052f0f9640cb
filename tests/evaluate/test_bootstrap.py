"""Average precision and the bootstrap of patients, against scikit-learn and repeated rows."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from evaluate.bootstrap import Draws, bootstrap, bootstrap_error
from evaluate.precision import average_precision, rank, weighted_metrics


@st.composite
def weighted_data(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int32]]:
    n = draw(st.integers(2, 30))
    levels = draw(st.sampled_from([3, 8, 1000]))
    scores = np.array(draw(st.lists(st.integers(0, levels), min_size=n, max_size=n)), dtype=np.float64) / 7
    positive = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    positive[0], positive[1] = True, False
    weights = np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=np.int32)
    return scores, positive, weights


@given(weighted_data())
def test_average_precision_is_scikit_learns(data: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int32]]) -> None:
    scores, positive, _ = data
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


@given(weighted_data())
def test_weights_are_repeated_rows(data: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int32]]) -> None:
    scores, positive, weights = data
    again_scores, again = np.repeat(scores, weights), np.repeat(positive, weights)
    auroc, average, _ = (values[0] for values in weighted_metrics(rank(scores, positive), weights[None]))
    if not again.any():
        assert math.isnan(average)
    else:
        assert average == pytest.approx(average_precision_score(again, again_scores), abs=1e-12)
    if not again.any() or again.all():
        assert math.isnan(auroc)
    else:
        assert auroc == pytest.approx(roc_auc_score(again, again_scores), abs=1e-12)


def test_units_spread_a_patients_weight_over_its_images() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 2)
    scores, positive = rng.normal(size=40), rng.random(40) < 0.5
    weights = rng.integers(0, 3, (5, 20)).astype(np.int32)
    by_patient = weighted_metrics(rank(scores, positive, patients), weights)
    by_image = weighted_metrics(rank(scores, positive), weights[:, patients])
    np.testing.assert_array_equal(by_patient, by_image)


def test_no_positives_have_no_average_precision() -> None:
    assert math.isnan(average_precision(np.arange(3.0), np.zeros(3, dtype=bool)))


def test_perfect_scores_have_average_precision_1_and_constant_ones_the_prevalence() -> None:
    positive = np.array([False, False, True, True, False])
    assert average_precision(positive.astype(float), positive) == 1.0
    assert average_precision(np.zeros(5), positive) == pytest.approx(0.4)


def test_a_replicate_draws_as_many_patients_as_there_are() -> None:
    blocks = list(Draws(30, 100, seed=0).blocks(30))
    counts = np.concatenate(blocks)
    assert counts.shape == (100, 30)
    assert (counts.sum(axis=1) == 30).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(30), abs=0.5)


def test_the_draws_do_not_depend_on_the_blocks() -> None:
    draws = Draws(50, 64, seed=3, name="age:over 70")
    np.testing.assert_array_equal(np.concatenate(list(draws.blocks(50))), np.concatenate(list(draws.blocks(60_000))))


def test_seed_and_name_decide_the_draws() -> None:
    first = [np.concatenate(list(Draws(20, 5, seed, name).blocks(20))) for seed, name in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))]
    np.testing.assert_array_equal(first[0], first[1])
    assert not (first[0] == first[2]).all()
    assert not (first[0] == first[3]).all()


def test_rankings_share_their_draws() -> None:
    rng = np.random.default_rng(0)
    scores, positive, patients = rng.normal(size=60), rng.random(60) < 0.4, np.repeat(np.arange(30), 2)
    ranking = rank(scores, positive, patients)
    auroc, average, _ = bootstrap([ranking, rank(2 * scores, positive, patients)], Draws(30, 50, seed=0))
    np.testing.assert_array_equal(auroc[0], auroc[1])
    np.testing.assert_array_equal(average[0], average[1])


def test_bootstrap_error_of_an_auroc_agrees_with_the_influence_function() -> None:
    from evaluate.influence import auroc

    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(300), 2)
    positive = np.repeat(rng.random(300) < 0.4, 2)
    scores = np.repeat(rng.normal(size=300), 2) + 0.7 * rng.normal(size=600) + positive
    replicates = bootstrap([rank(scores, positive, patients)], Draws(300, 2000, seed=0))[0][0]
    assert bootstrap_error(replicates) == pytest.approx(auroc(scores, positive, patients).standard_error(patients), rel=0.06)


def test_bootstrap_error_leaves_out_replicates_that_cannot_be_judged() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_error(np.array([0.5, math.nan, 0.7])) == pytest.approx(np.std([0.5, 0.7], ddof=1))
        assert math.isnan(bootstrap_error(np.array([math.nan, 0.4])))


def test_intervals_of_average_precision_cover_the_truth() -> None:
    """Binormal scores, prevalence 0.3: the population's average precision is an integral over the threshold."""
    from scipy.stats import norm

    from evaluate.influence import interval

    threshold = np.linspace(-6, 8, 8001)
    recall, false = norm.sf(threshold - 1.2), norm.sf(threshold)
    precision = 0.3 * recall / (0.3 * recall + 0.7 * false)
    truth = float(np.sum(-np.diff(recall) * (precision[1:] + precision[:-1]) / 2))
    rng = np.random.default_rng(6)
    covered = 0
    for study in range(300):
        patients = np.repeat(np.arange(60), 2)
        positive = np.repeat(rng.random(60) < 0.3, 2)
        scores = np.repeat(rng.normal(size=60), 2) * math.sqrt(0.5) + rng.normal(size=120) * math.sqrt(0.5) + 1.2 * positive
        error = bootstrap_error(bootstrap([rank(scores, positive, patients)], Draws(60, 200, seed=study))[1][0])
        scarcer = len(np.unique(patients[positive]))
        low, high = interval(average_precision(scores, positive), error, patients=scarcer)
        covered += low <= truth <= high
    assert 0.91 <= covered / 300 <= 0.985
