"""Thresholds: where a score begins to count as positive, fixed on the validation split and used on the test split."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from curate import UserError

Floats = NDArray[np.float64]
FIXED_ON_VALIDATION = ("youden", "specificity", "sensitivity")


def given_threshold(rule: str) -> float | None:
    """Give the number that a rule is, None where it is to be found on the validation split.

    Args:
        rule: ``youden``, ``specificity=X``, ``sensitivity=X`` or a probability, as ``0.5``.

    Raises:
        UserError: where it is none of these.

    Example:
        >>> given_threshold("0.5"), given_threshold("specificity=0.9")
        (0.5, None)
    """
    name, is_set, text = rule.partition("=")
    if rule == "youden":
        return None
    try:
        number = float(text if is_set else rule)
    except ValueError:
        number = math.nan
    if (is_set and name not in ("specificity", "sensitivity")) or not 0 < number < 1:
        raise UserError(f"threshold '{rule}': expected youden, specificity=X, sensitivity=X or a probability, with X between 0 and 1")
    return None if is_set else number


def threshold_of(rule: str, scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Find the threshold that a rule fixes on these images; a score counts as positive from the threshold upwards.

    ``youden`` maximises sensitivity + specificity - 1 (of several such thresholds the highest). ``specificity=X`` is the
    lowest threshold whose specificity is at least X, ``sensitivity=X`` the highest whose sensitivity is at least X: each
    the best on the other side. The candidates are the scores that occur, and infinity, at which nothing is positive.

    Args:
        rule: see `given_threshold`; a number is given back.
        scores: (n,) of the validation images.
        positive: (n,) their truth.

    Returns:
        The threshold; NaN where the images are all positive or all negative.

    References:
        Youden 1950, Cancer 3:32.

    Example:
        >>> s, y = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
        >>> [threshold_of(rule, s, y) for rule in ("youden", "specificity=0.9", "sensitivity=0.9")]
        [0.8, 0.8, 0.35]
    """
    given = given_threshold(rule)
    if given is not None:
        return given
    m = int(np.count_nonzero(positive))
    q = len(positive) - m
    if m == 0 or q == 0:
        return math.nan
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    candidates = np.append(math.inf, ranked[last])
    found = np.append(0, np.cumsum(positive[order])[last])
    alarms = np.append(0, last + 1) - found
    if rule == "youden":
        return float(candidates[np.argmax(found * q - alarms * m)])  # in whole numbers: equal sums stay equal
    name, _, text = rule.partition("=")
    wanted = float(text) - 1e-12  # 0.9 of 10 images is 9 of them
    if name == "specificity":
        return float(candidates[np.flatnonzero((q - alarms) / q >= wanted)[-1]])
    return float(candidates[np.flatnonzero(found / m >= wanted)[0]])
