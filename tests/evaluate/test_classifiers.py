"""Logistic regression and nearest neighbours on cached features, against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from evaluate.classifiers import LogisticSettings, NeighbourSettings, fit_logistic, fit_neighbours, logistic_head, nearest_neighbours
from evaluate.heads import Truth, validation_auroc


def blobs(n: int = 240, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    features = (rng.normal(size=(n, width)) + 1.2 * np.eye(width)[labels]).astype(np.float32)
    part = np.arange(n) % 4
    return features, labels, part < 2, part == 2


def standardised(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return (wide - wide[train].mean(axis=0)) / wide[train].std(axis=0)


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_logistic_regression_is_scikit_learns(strength: float) -> None:
    features, labels, train, val = blobs()
    fitted = fit_logistic(
        features, Truth.of_classes(labels, 3), train, val, settings=LogisticSettings(strengths=(strength,), tolerance=1e-9)
    )
    scaled = standardised(features, train)
    reference = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(scaled[train], labels[train])
    np.testing.assert_allclose(fitted.probabilities[0], reference.predict_proba(scaled), atol=2e-6)


def test_findings_are_separate_binary_problems_over_the_images_of_which_they_are_known() -> None:
    features, labels, train, val = blobs()
    known = np.random.default_rng(1).random((240, 2)) < 0.8
    truth = Truth(labels[:, None] >= [1, 2], known, exclusive=False)
    fitted = fit_logistic(features, truth, train, val, settings=LogisticSettings(strengths=(0.5,), tolerance=1e-9))
    scaled = standardised(features, train)
    for k in range(2):
        rows = train & known[:, k]
        reference = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(scaled[rows], truth.values[rows, k])
        np.testing.assert_allclose(fitted.probabilities[0][:, k], reference.predict_proba(scaled)[:, 1], atol=2e-6)


def test_as_a_layer_the_regression_gives_the_same_on_features_as_they_are() -> None:
    features, labels, train, val = blobs()
    features = np.c_[features * np.float32(0.05) + np.float32(3), np.full(len(features), 7, np.float32)]  # and one that is constant
    truth = Truth.of_classes(labels, 3)
    weight, bias = logistic_head(features, truth, train, val)
    assert weight.dtype == bias.dtype == np.float32
    assert weight.shape == (3, 7)
    assert (weight[:, -1] == 0).all()
    given = truth.probabilities((features @ weight.T + bias).astype(np.float32))
    np.testing.assert_allclose(given, fit_logistic(features, truth, train, val).probabilities[0], atol=1e-4)


def test_the_penalty_with_the_best_validation_auroc_is_chosen() -> None:
    features, labels, train, val = blobs()
    truth = Truth.of_classes(labels, 3)
    strengths = (1e-6, 1e-2, 1e4)
    fitted = fit_logistic(features, truth, train, val, settings=LogisticSettings(strengths=strengths))
    each = {c: fit_logistic(features, truth, train, val, settings=LogisticSettings(strengths=(c,))).chosen[0] for c in strengths}
    best = max(chosen["validation_auroc"] for chosen in each.values())
    assert fitted.chosen[0]["validation_auroc"] == pytest.approx(best, abs=1e-4)
    assert each[fitted.chosen[0]["C"]]["validation_auroc"] == pytest.approx(best, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5), st.integers(0, 10**6))
def test_neighbours_are_those_of_brute_force_whatever_the_blocks(n: int, m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    here, there = rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=(m, 4)).astype(np.float32)
    k = min(k, m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluate.classifiers._ROWS", 7)
        patch.setattr("evaluate.classifiers._COLUMNS", 5)
        similar, places = nearest_neighbours(here, there, k)
    cosine = (here / np.linalg.norm(here, axis=1, keepdims=True)) @ (there / np.linalg.norm(there, axis=1, keepdims=True)).T
    np.testing.assert_allclose(similar, -np.sort(-cosine, axis=1)[:, :k], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosine, places, axis=1), similar, atol=1e-6)


def test_the_vote_is_the_softmax_of_similarity_over_temperature_image_by_image() -> None:
    features, labels, train, val = blobs(n=60)
    fitted = fit_neighbours(features, Truth.of_classes(labels, 3), train, val, settings=NeighbourSettings(neighbours=(4,), temperature=0.1))
    scaled = features / np.linalg.norm(features, axis=1, keepdims=True)
    for i in (2, 30, 59):
        cosine = scaled[train] @ scaled[i]
        nearest = np.argsort(-cosine)[:4]
        weights = np.exp(cosine[nearest] / 0.1)
        wanted = [weights[labels[train][nearest] == k].sum() / weights.sum() for k in range(3)]
        np.testing.assert_allclose(fitted.probabilities[0][i], wanted, atol=1e-5)
    np.testing.assert_allclose(fitted.probabilities.sum(axis=2), 1, atol=1e-12)


def test_unknown_findings_do_not_vote_and_where_none_is_known_the_prevalence_stands() -> None:
    features = np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1], [1, 0.02], [0, 1]], dtype=np.float32)
    values = np.array([[1], [0], [0], [1], [1], [0]], dtype=bool)
    known = np.array([[1], [1], [0], [0], [1], [1]], dtype=bool)
    train = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    fitted = fit_neighbours(features, Truth(values, known, False), train, ~train, settings=NeighbourSettings(neighbours=(2,)))
    assert fitted.probabilities[0][4, 0] == pytest.approx(0.5, abs=0.01)  # one of two
    assert fitted.probabilities[0][5, 0] == 0.5  # nothing known nearby: 1 of 2 known training images


def test_the_number_of_neighbours_with_the_best_validation_auroc_is_chosen_and_never_exceeds_the_training_images() -> None:
    features, labels, train, val = blobs()
    truth = Truth.of_classes(labels, 3)
    fitted = fit_neighbours(features, truth, train, val, settings=NeighbourSettings(neighbours=(1, 15, 10_000)))
    quality = {
        k: validation_auroc(
            fit_neighbours(features, truth, train, val, settings=NeighbourSettings(neighbours=(k,))).probabilities[0][val],
            truth.of(val),
            logits=False,
        )
        for k in (1, 15, int(train.sum()))
    }
    assert quality[fitted.chosen[0]["neighbours"]] == max(quality.values())


@pytest.mark.parametrize("fit", [fit_logistic, fit_neighbours])
def test_features_that_are_not_finite_are_refused(fit: object) -> None:
    features, labels, train, val = blobs()
    features[3, 0] = np.nan
    with pytest.raises(ValueError, match="features that are not finite"):
        fit(features, Truth.of_classes(labels, 3), train, val)  # type: ignore[operator]
