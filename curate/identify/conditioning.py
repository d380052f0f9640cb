"""Holding others fixed: the strata within which labels may move, and what a regression takes out besides.

Wide groups hold nothing fixed: between 41 and 70 an eye changes more than between the groups' means, and what differs in age
within the group would be credited to whatever goes with age. Numbers are therefore held fixed twice: by strata between
quantiles, and by a spline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.identify.attributes import Attribute, commonest, usual
from curate.identify.permanova import labels_left

_PATIENTS_A_QUANTILE = 50
_MOST_QUANTILES = 20
_PATIENTS_A_STRATUM = 10
_KNOTS = 6


@dataclass(frozen=True)
class HeldFixed:
    """What is held fixed while one attribute is tested.

    Attributes:
        known: (n,) images on which all others are known.
        strata: (n,) integers, one stratum a patient; covariates: (n, k); NaN-free where known.
        stratified: attributes that the strata hold fixed; the covariates hold all of them.
    """

    known: np.ndarray
    strata: np.ndarray
    covariates: np.ndarray
    stratified: tuple[str, ...]


def hold_fixed(tested: Attribute, others: Sequence[Attribute], patient: np.ndarray) -> HeldFixed:
    """Make strata and covariates of the other attributes.

    Strata cross the quantiles of numbers first, then categories in the order in which they determine the tested attribute, as long as a
    stratum has ten patients on average; a category that would make them thinner is held fixed by regression alone.

    Args:
        tested: the attribute; others: those to hold fixed.
        patient: (n,) integers from 0.
    """
    known = tested.code >= 0
    for other in others:
        known &= (other.code >= 0) if other.values is None else np.isfinite(other.values)
    strata = np.zeros(len(known), dtype=np.int64)
    if not known.any():
        return HeldFixed(known, strata, np.zeros((len(known), 0)), ())
    people = len(np.unique(patient[known]))
    columns: list[np.ndarray] = []
    stratified: list[str] = []
    for other in [o for o in others if o.values is not None]:
        assert other.values is not None
        columns.append(spline(other.values, known))
        cut = _quantiles(usual(other.values, patient), known, people)
        strata, stratified = _cross(strata, cut, known, people, other.name, stratified)
    categories = [o for o in others if o.values is None]
    left = [labels_left(tested.code[known], o.code[known], None) for o in categories]
    for _, other in sorted(zip(left, categories, strict=True), key=lambda pair: pair[0]):
        columns.append(dummies(other.code, known))
        strata, stratified = _cross(strata, commonest(other.code, patient), known, people, other.name, stratified)
    covariates = np.hstack(columns) if columns else np.zeros((len(known), 0))
    return HeldFixed(known, strata, covariates, tuple(stratified))


def _cross(
    strata: np.ndarray, code: np.ndarray, known: np.ndarray, people: int, name: str, names: list[str]
) -> tuple[np.ndarray, list[str]]:
    finer = strata * (int(code.max()) + 2) + code + 1
    _, numbered = np.unique(finer[known], return_inverse=True)
    if people < _PATIENTS_A_STRATUM * (int(numbered.max()) + 1):
        return strata, names
    crossed = np.zeros(len(strata), dtype=np.int64)
    crossed[known] = numbered
    return crossed, [*names, name]


def _quantiles(values: np.ndarray, known: np.ndarray, people: int) -> np.ndarray:
    count = int(np.clip(people // _PATIENTS_A_QUANTILE, 2, _MOST_QUANTILES))
    edges = np.quantile(values[known], np.arange(1, count) / count)
    return np.searchsorted(np.unique(edges), values, side="right")


def spline(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Make a restricted cubic spline of a number.

    Harrell's basis (Regression Modeling Strategies, 2001, section 2.4.5) with knots at quantiles from 0.05 to 0.95: linear beyond
    the outer ones.

    Args:
        values: (n,); known: (n,) rows to use.

    Returns:
        (n, k) float64 with mean 0 and variance 1 over the known rows, 0 elsewhere; k is 5, or less where there are few values.
    """
    x = values[known]
    knots = np.unique(np.quantile(x, np.linspace(0.05, 0.95, _KNOTS)))
    columns = [x]
    if len(knots) > 2:
        last, before = knots[-1], knots[-2]
        bent = lambda knot: np.maximum(x - knot, 0) ** 3  # noqa: E731
        for knot in knots[:-2]:
            tail = bent(before) * (last - knot) / (last - before) - bent(last) * (before - knot) / (last - before)
            columns.append((bent(knot) - tail) / (last - knots[0]) ** 2)
    return _standardised(np.stack(columns, axis=1), known)


def dummies(code: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Make 0/1 columns of a category, all groups but the first, standardised over the known rows: (n, groups - 1)."""
    return _standardised((code[known][:, None] == np.arange(1, int(code.max()) + 1)).astype(np.float64), known)


def _standardised(columns: np.ndarray, known: np.ndarray) -> np.ndarray:
    columns = columns - columns.mean(axis=0)
    deviation = columns.std(axis=0)
    varying = deviation > 1e-12
    whole = np.zeros((len(known), int(varying.sum())))
    whole[known] = columns[:, varying] / deviation[varying]
    return whole
