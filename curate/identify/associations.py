"""Associations between attributes: what goes with what, and what can't be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.identify.attributes import Attribute
from curate.identify.conditioning import HeldFixed
from curate.identify.permanova import labels_left

LEAST_LEFT = 0.10  # share of an attribute's variation: with less left once others are fixed, nothing is credited to it


@dataclass(frozen=True)
class Association:
    """How two attributes go together, each patient counted once.

    Attributes:
        a, b: their names.
        cramers_v: between their groups, bias-corrected.
        correlation_ratio: eta squared of the number by the other's groups, where one is a number (the first, where both are); else None.
        a_told_by_b: share of patients who have the commonest group of `a` among those with their group of `b`; b_told_by_a likewise.
        a_left: share of the variation of `a` that is left within groups of `b`, 1 - Goodman and Kruskal's tau; b_left likewise.
        n_patients: with both known.
    """

    a: str
    b: str
    cramers_v: float
    correlation_ratio: float | None
    a_told_by_b: float
    b_told_by_a: float
    a_left: float
    b_left: float
    n_patients: int


def associate(a: Attribute, b: Attribute, patient: np.ndarray) -> Association | None:
    """Compare two attributes.

    Args:
        a, b: the attributes; patient: (n,) integers from 0.

    Returns:
        The association, or None where no image has both.
    """
    both = np.flatnonzero((a.code >= 0) & (b.code >= 0))
    if not len(both):
        return None
    weight = 1 / np.bincount(patient[both])[patient[both]]
    cells = np.bincount(a.code[both] * len(b.groups) + b.code[both], weight, minlength=len(a.groups) * len(b.groups))
    cells = cells.reshape(len(a.groups), len(b.groups))
    people = float(cells.sum())
    numbers, groups = (a, b) if a.values is not None else (b, a)
    ratio = None if numbers.values is None else correlation_ratio(numbers.values[both], groups.code[both], weight)
    return Association(
        a.name, b.name, cramers_v(cells), ratio,
        float(cells.max(axis=0).sum() / people), float(cells.max(axis=1).sum() / people),
        _left(cells), _left(cells.T), round(people),
    )  # fmt: skip


def _left(cells: np.ndarray) -> float:
    """Give 1 - tau of the rows by the columns."""
    n, columns = cells.sum(), cells.sum(axis=0)
    within = n - float((cells[:, columns > 0] ** 2 / columns[columns > 0]).sum())
    whole = n - float((cells.sum(axis=1) ** 2).sum() / n)
    return within / whole if whole > 0 else 0.0


def cramers_v(cells: np.ndarray) -> float:
    """Give Cramer's V, corrected for bias (Bergsma 2013).

    Args:
        cells: (r, c) counts.

    Example:
        >>> cramers_v(np.array([[10, 0], [0, 10]]))
        1.0
    """
    cells = cells[cells.sum(axis=1) > 0][:, cells.sum(axis=0) > 0].astype(float)
    n, (r, c) = float(cells.sum()), cells.shape
    if min(r, c) < 2 or n <= 1:
        return 0.0
    expected = np.outer(cells.sum(axis=1), cells.sum(axis=0)) / n
    phi2 = float(((cells - expected) ** 2 / expected).sum()) / n
    corrected = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    return float(min(np.sqrt(corrected / max(min(rows, columns) - 1, 1e-12)), 1.0))


def correlation_ratio(values: np.ndarray, group: np.ndarray, weight: np.ndarray) -> float:
    """Give eta squared: the share of a number's variance that lies between groups (Pearson 1905).

    Args:
        values: (n,); group: (n,) integers from 0; weight: (n,).
    """
    sizes = np.bincount(group, weight)
    grand = float((weight * values).sum() / weight.sum())
    total = float((weight * (values - grand) ** 2).sum())
    means = np.bincount(group, weight * values)[sizes > 0] / sizes[sizes > 0]
    return float((sizes[sizes > 0] * (means - grand) ** 2).sum() / total) if total > 0 else 0.0


@dataclass(frozen=True)
class Overlap:
    """Whether an attribute can be told from the others.

    Attributes:
        left: share of its variation that is left once all others are fixed.
        shared: share of images in strata in which two of its groups or more are met.
        why: in words, why nothing can be credited to it; empty where that can be done.
        with_: the attribute that it can't be told from, where it is one.
    """

    left: float
    shared: float
    why: str = ""
    with_: str = ""


def overlap(tested: Attribute, others: Sequence[Attribute], held: HeldFixed, pairs: Sequence[Association]) -> Overlap:
    """Decide whether anything can be credited to an attribute while the others are fixed.

    Args:
        tested: the attribute; others: those to hold fixed.
        held: the others, made ready by `hold_fixed`.
        pairs: the associations.
    """
    code = tested.code[held.known]
    if not len(code) or code.min() == code.max():
        return Overlap(0.0, 0.0, f"{tested.name} can't be compared while the others are fixed: no image has all of them known")
    left = labels_left(code, None, held.covariates[held.known])
    strata = held.strata[held.known]
    cells = np.bincount(strata * len(tested.groups) + code, minlength=(int(strata.max()) + 1) * len(tested.groups))
    cells = cells.reshape(-1, len(tested.groups))
    shared = float(cells.sum(axis=1)[(cells > 0).sum(axis=1) > 1].sum() / cells.sum())
    if left >= LEAST_LEFT and shared >= LEAST_LEFT:
        return Overlap(left, shared)
    views = [
        (p.a_left, p.a_told_by_b, p.b) if p.a == tested.name else (p.b_left, p.b_told_by_a, p.a) for p in pairs if tested.name in (p.a, p.b)
    ]
    least, told, name = min(views, default=(1.0, 0.0, ""))
    if least < LEAST_LEFT:
        told_by = f"{100 * told:.0f} % of patients have the commonest {tested.name} of their {name}"
        why = f"{tested.name} and {name} can't be told apart here: {told_by}"
        return Overlap(left, shared, why, name)
    among = ", ".join(o.name for o in others)
    if shared < LEAST_LEFT:
        return Overlap(
            left,
            shared,
            f"{tested.name} can't be told from the others: {100 * (1 - shared):.0f} % of images are in strata with one {tested.name} alone",
        )
    return Overlap(
        left, shared, f"{tested.name} can't be told from {among} together: {100 * (1 - left):.0f} % of its variation goes with them"
    )
