"""AUROC, its influence function and its intervals, against publications, brute force and invariances."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from evaluate.influence import auroc, difference, difference_interval, interval, mean_influence

# albumin, total protein, Kinney-Geiger score, popind
OVARIAN = """
    3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1  3.7 6.7 6 1
    3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1
    3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1
    3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
    3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""

Data = tuple[NDArray[np.float64], NDArray[np.bool_]]


@pytest.fixture
def ratings() -> Data:
    """The ratings of Hanley and McNeil 1982, Table I: 58 normal and 51 abnormal images on five steps."""
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    scores = np.repeat([1.0, 2, 3, 4, 5] * 2, normal + abnormal)
    return scores, np.repeat([False] * 5 + [True] * 5, normal + abnormal)


@st.composite
def tied_data(draw: st.DrawFn) -> Data:
    """Scores on few levels, so that ties abound, with both labels."""
    n = draw(st.integers(4, 40))
    scores = np.array(draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), dtype=np.float64) / 3
    positive = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    positive[0], positive[1] = True, False
    return scores, positive


def brute_force(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    wins = [(1.0 if a > b else 0.5 if a == b else 0.0) for a in scores[positive] for b in scores[~positive]]
    return float(np.mean(wins))


def delong_variance(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    psi = (scores[positive][:, None] > scores[~positive]) + 0.5 * (scores[positive][:, None] == scores[~positive])
    return float(psi.mean(axis=1).var(ddof=1) / psi.shape[0] + psi.mean(axis=0).var(ddof=1) / psi.shape[1])


def test_hanley_mcneil_ratings_have_the_published_area_and_error(ratings: Data) -> None:
    result = auroc(*ratings)
    low, high = interval(result.value, result.standard_error(), scale="identity")
    assert result.value == pytest.approx(0.89317, abs=5e-6)
    assert result.standard_error() == pytest.approx(0.03072, abs=5e-6)
    assert (low, high) == (pytest.approx(0.8330, abs=5e-5), pytest.approx(0.9534, abs=5e-5))


def test_delong_1988_ovarian_cancer_scores_have_the_published_areas_errors_and_contrast() -> None:
    """43 patients of DeLong et al. 1988 as listed in the documentation of SAS PROC LOGISTIC: albumin, total protein, K-G score."""
    rows = np.array(OVARIAN.split(), dtype=np.float64).reshape(43, 4)
    positive = rows[:, 3] == 1
    results = [auroc(rows[:, 0], positive), auroc(-rows[:, 2], positive), auroc(rows[:, 1], positive)]
    assert positive.sum() == 31
    assert [r.value for r in results] == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert [r.standard_error() for r in results] == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)
    gaps = [difference(results[0], r) for r in results[1:]]
    values, terms = np.array([g.value for g in gaps]), np.array([g.terms for g in gaps])
    chi_squared = values @ np.linalg.solve(terms @ terms.T, values)
    assert chi_squared == pytest.approx(2.5340, abs=5e-5)
    assert math.exp(-chi_squared / 2) == pytest.approx(0.2817, abs=5e-5)  # two degrees of freedom


@given(tied_data())
def test_auroc_is_the_share_of_pairs_ranked_rightly(data: Data) -> None:
    assert auroc(*data).value == pytest.approx(brute_force(*data), abs=1e-12)
    assert auroc(*data).value == pytest.approx(roc_auc_score(data[1], data[0]), abs=1e-12)


@given(tied_data())
def test_auroc_is_mann_whitney_u_over_pairs(data: Data) -> None:
    from scipy.stats import mannwhitneyu

    scores, positive = data
    u = mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert auroc(scores, positive).value == pytest.approx(u / (positive.sum() * (~positive).sum()), abs=1e-12)


@given(tied_data())
def test_variance_is_delongs_by_brute_force(data: Data) -> None:
    if min(data[1].sum(), (~data[1]).sum()) < 2:
        return
    assert auroc(*data).standard_error() ** 2 == pytest.approx(delong_variance(*data), abs=1e-12)


@given(tied_data())
def test_negated_scores_give_the_complement(data: Data) -> None:
    scores, positive = data
    straight, turned = auroc(scores, positive), auroc(-scores, positive)
    assert turned.value == pytest.approx(1 - straight.value, abs=1e-12)
    np.testing.assert_allclose(turned.terms, -straight.terms, atol=1e-12)


@given(tied_data(), st.randoms(use_true_random=False))
def test_order_of_images_does_not_matter(data: Data, random: object) -> None:
    order = np.random.default_rng(random.randrange(2**32)).permutation(len(data[0]))  # type: ignore[attr-defined]
    there = auroc(data[0][order], data[1][order])
    assert there.value == auroc(*data).value
    np.testing.assert_array_equal(there.terms, auroc(*data).terms[order])


@given(tied_data())
def test_a_rising_transform_changes_nothing(data: Data) -> None:
    np.testing.assert_array_equal(auroc(np.exp(data[0]) - 7, data[1]).terms, auroc(*data).terms)


@given(tied_data())
def test_patients_of_one_image_are_independent_images(data: Data) -> None:
    patients = np.arange(len(data[0]))[::-1].copy()
    clustered = auroc(*data, patients)
    np.testing.assert_array_equal(clustered.terms, auroc(*data).terms)
    if not np.isnan(clustered.terms).any():
        assert clustered.standard_error(patients) == pytest.approx(auroc(*data).standard_error(), abs=1e-12)


def test_clustered_variance_is_obuchowskis() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 3)
    positive = np.repeat(rng.random(40) < 0.5, 3)  # every patient on one side: no covariance between the sides
    scores = np.repeat(rng.normal(size=40), 3) + 0.5 * rng.normal(size=120) + positive
    psi = (scores[positive][:, None] > scores[~positive]).astype(float)
    theta = psi.mean()
    v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
    variance = 0.0
    for placement, side in ((v10, positive), (v01, ~positive)):
        sums = np.bincount(patients[side], weights=placement - theta, minlength=40)[np.unique(patients[side])]
        variance += len(sums) / (len(sums) - 1) * (sums**2).sum() / side.sum() ** 2
    result = auroc(scores, positive, patients)
    assert result.standard_error(patients) == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert result.standard_error(patients) > auroc(scores, positive).standard_error() * 1.3


def test_all_one_label_has_no_auroc() -> None:
    assert math.isnan(auroc(np.arange(4.0), np.ones(4, dtype=bool)).value)
    assert math.isnan(auroc(np.arange(4.0), np.zeros(4, dtype=bool)).value)


def test_one_positive_patient_has_a_value_and_no_error() -> None:
    patients = np.array([0, 0, 1, 2, 3])
    result = auroc(np.array([3.0, 2, 1, 0, 2.5]), np.array([True, True, False, False, False]), patients)
    assert result.value == pytest.approx(5 / 6)
    assert math.isnan(result.standard_error(patients))


def test_a_model_and_itself_differ_by_nothing(ratings: Data) -> None:
    scores, positive = ratings
    nothing = difference(auroc(scores, positive), auroc(2 * scores, positive))
    assert (nothing.value, nothing.standard_error()) == (0.0, 0.0)
    assert difference_interval(0.0, 0.0, freedom=9) == (0.0, 0.0, 1.0)


def test_swapping_two_models_negates_their_difference() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(80) < 0.4
    a, b = auroc(rng.normal(size=80) + positive, positive), auroc(rng.normal(size=80) + positive, positive)
    straight, turned = difference(a, b), difference(b, a)
    assert turned.value == -straight.value
    assert turned.standard_error() == straight.standard_error()
    low, high, p = difference_interval(straight.value, straight.standard_error(), freedom=29)
    assert difference_interval(turned.value, turned.standard_error(), freedom=29) == (-high, -low, p)


def test_paired_error_is_delongs_covariance_by_brute_force() -> None:
    rng = np.random.default_rng(2)
    positive = rng.random(60) < 0.4
    shared = rng.normal(size=60)
    models = [shared + 0.6 * rng.normal(size=60) + positive for _ in range(2)]
    placements = []
    for scores in models:
        psi = (scores[positive][:, None] > scores[~positive]).astype(float)
        placements.append((psi.mean(axis=1), psi.mean(axis=0)))
    variance = sum((placements[1][side] - placements[0][side]).var(ddof=1) / len(placements[0][side]) for side in (0, 1))
    error = difference(auroc(models[0], positive), auroc(models[1], positive)).standard_error()
    assert error == pytest.approx(math.sqrt(variance), rel=1e-12)


def test_mean_over_classes_averages_values_and_terms() -> None:
    rng = np.random.default_rng(3)
    parts = [auroc(rng.normal(size=30), rng.random(30) < 0.5) for _ in range(3)]
    assert mean_influence(parts).value == pytest.approx(np.mean([p.value for p in parts]))
    np.testing.assert_allclose(mean_influence(parts).terms, np.mean([p.terms for p in parts], axis=0))


def test_large_counts_do_not_overflow() -> None:
    n = 200_000
    scores = np.arange(n, dtype=np.float64)
    result = auroc(scores, scores >= n // 2)
    assert result.value == 1.0
    assert auroc(np.zeros(n), scores >= n // 2).value == 0.5


@given(st.floats(0.01, 0.99), st.floats(1e-4, 0.3), st.integers(2, 500))
def test_an_interval_holds_its_value_and_stays_between_0_and_1(value: float, error: float, patients: int) -> None:
    low, high = interval(value, error, patients=patients)
    assert 0 <= low <= value <= high <= 1
    low, high = interval(value, error, scale="identity")
    assert 0 <= low <= value <= high <= 1


@pytest.mark.parametrize(("value", "error"), [(1.0, 0.0), (0.5, 0.0), (0.8, math.nan), (math.nan, 0.1)])
def test_a_sample_that_shows_no_error_has_no_interval(value: float, error: float) -> None:
    assert all(math.isnan(x) for x in interval(value, error))


def test_fewer_patients_make_a_wider_interval() -> None:
    widths = [np.diff(interval(0.8, 0.05, patients=p))[0] for p in (3, 10, 100, math.inf)]
    assert widths == sorted(widths, reverse=True)


def test_a_difference_is_significant_exactly_when_its_interval_leaves_out_0() -> None:
    for value in np.linspace(-0.2, 0.2, 41):
        low, high, p = difference_interval(float(value), 0.05, freedom=11)
        assert (p < 0.05) == (low > 0 or high < 0)


def test_intervals_cover_the_truth_and_the_paired_test_keeps_its_level() -> None:
    """Binormal scores, two correlated eyes a patient, true AUROC 0.85 for both models: 95 % and 5 %, within simulation error."""
    studies = 400
    rng = np.random.default_rng(4)
    covered = rejected = 0
    for _ in range(studies):
        patients = np.repeat(np.arange(100), 2)
        positive = np.repeat(rng.random(100) < 0.3, 2)
        eye = np.repeat(rng.normal(size=100), 2) * math.sqrt(0.5)
        a, b = (eye + rng.normal(size=200) * math.sqrt(0.5) + positive * math.sqrt(2) * 1.0364334 for _ in range(2))
        first, second = auroc(a, positive, patients), auroc(b, positive, patients)
        scarcer = min(len(np.unique(patients[positive])), len(np.unique(patients[~positive])))
        low, high = interval(first.value, first.standard_error(patients), patients=scarcer)
        covered += low <= 0.85 <= high
        gap = difference(first, second)
        rejected += difference_interval(gap.value, gap.standard_error(patients), freedom=scarcer - 1)[2] < 0.05
    assert 0.92 <= covered / studies <= 0.98
    assert 0.02 <= rejected / studies <= 0.085


@pytest.mark.parametrize(
    "module", ["influence", "bootstrap", "precision", "measuring", "estimates", "comparisons", "score", "report", "cli"]
)
def test_statistics_load_no_torch(module: str) -> None:
    code = f"import sys, evaluate.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
