"""Rows of a description: one number a row, with what it estimates and by which method."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from curate.describe.attributes import Attribute
from curate.describe.means import Mean, difference, patient_mean, standardised_difference
from curate.describe.shares import multinomial_difference, rao_scott, share_difference, share_interval
from curate.describe.sides import Side, Sides
from curate.groups import UNKNOWN

CLUSTER_T = "cluster-robust t (CR2, Satterthwaite df), patients as clusters"
PATIENT_T = "t over patients' means"
WILSON = "Wilson with the effective number of images, patients as clusters"
NEWCOMBE = "Newcombe's hybrid of the two shares' intervals"
WELCH = "Welch-type t on cluster-robust standard errors, patients as clusters"
COHEN = "Cohen's d, standard deviation pooled over images; delta method, patients as clusters"
YANG = "multinomial standardised difference (Yang and Dalton 2012)"
RAO_SCOTT = "Rao-Scott second-order corrected chi-squared over images (F form), patients as clusters"

# Column -> type, in the order in which they stand in description.parquet.
COLUMNS = {
    "side": "string", "against": "string", "kind": "string", "variable": "string", "attribute": "string", "group": "string",
    "statistic": "string", "value": "float64", "low": "float64", "high": "float64", "se": "float64", "df": "float64",
    "images": "Int64", "patients": "Int64", "estimand": "string", "method": "string", "remark": "string",
}  # fmt: skip


@dataclass(frozen=True)
class About:
    """What a row is about: the side, the kind of variable ("attribute" or "measure"), its name, and the groups it is broken down by.

    Attributes:
        side: the side's name; against: the other side's, of a comparison.
        kind, variable: what is described.
        attribute, group: the group of images that it is described in; none: all images of the side.
    """

    side: str
    kind: str
    variable: str
    attribute: str | None = None
    group: str | None = None
    against: str | None = None

    def row(self, statistic: str, value: float, estimand: str, **more: Any) -> dict[str, Any]:
        """Make a row; NaN becomes a null."""
        return {**vars(self), "statistic": statistic, "value": value, "estimand": estimand, **more}


def describe(sides: Sides, attributes: list[Attribute], measures: list[str]) -> pd.DataFrame:
    """Describe every side and compare the first with each other.

    Args:
        sides: what is described.
        attributes: its attributes.
        measures: columns of its measures.

    Returns:
        One number a row; columns as in `COLUMNS`. Where ``value`` or its interval is null,
        ``remark`` says why.
    """
    rows: list[dict[str, Any]] = []
    for number, side in enumerate(sides.sides):
        for attribute in attributes:
            rows += _attribute(side, number, attribute, sides.people)
        for measure in measures:
            rows += _measure(side, number, measure, attributes, sides.people)
    for number in range(1, len(sides.sides)):
        rows += _compared(sides, number, attributes, measures)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    adjust(frame)
    return frame.astype(COLUMNS)


def adjust(frame: pd.DataFrame) -> None:
    """Adjust the p-values of each comparison for their number, in place (Benjamini and Hochberg 1995)."""
    for _, rows in frame[frame["statistic"] == "p"].groupby("against"):
        tested = rows[rows["value"].notna()]
        if len(tested):
            values = false_discovery_control(tested["value"].to_numpy(dtype=float))
            for place, value in zip(tested.index, values, strict=True):
                frame.loc[place + 1, "value"] = value  # each p is followed by its adjusted form


def _attribute(side: Side, number: int, attribute: Attribute, people: int) -> Iterable[dict[str, Any]]:
    about = About(side.name, "attribute", attribute.name)
    n, patients = len(side.patient), side.patients
    if attribute.absent[number]:
        yield about.row("images", n, "images", images=n, patients=patients, remark="no such column")
        return
    codes = attribute.codes[number] if attribute.groups else None
    unknown = 0
    if codes is not None and UNKNOWN in attribute.groups:
        unknown = int((codes == attribute.groups.index(UNKNOWN)).sum()) - attribute.missing[number]
    yield about.row("images", n, "images", images=n, patients=patients)
    yield about.row("patients", patients, "patients", images=n, patients=patients)
    yield about.row("missing", attribute.missing[number], "images without a value", images=n, patients=patients)
    yield about.row("unknown", unknown, "images whose value says that it is unknown", images=n, patients=patients)
    if attribute.numbers is not None:
        yield from _number(about, attribute.numbers[number], side.patient, people)
    for code, group in enumerate(attribute.groups):
        assert codes is not None
        there = codes == code
        mean = patient_mean(there.astype(float), side.patient, people)
        low, high = share_interval(mean)
        inside = len(np.unique(side.patient[there]))
        one = About(side.name, "attribute", attribute.name, attribute.name, group)
        counted = {"images": int(there.sum()), "patients": inside}
        yield one.row("images", int(there.sum()), "images in the group", **counted)
        yield one.row("patients", inside, "patients with an image in the group", **counted)
        remark = "one patient: no interval" if mean.patients == 1 else None
        yield one.row("share", mean.value, "share of all images", low=low, high=high, se=mean.se, **counted, method=WILSON, remark=remark)


def _number(about: About, values: np.ndarray, patient: np.ndarray, people: int) -> Iterable[dict[str, Any]]:
    """Describe a number's distribution over images, and its mean over patients."""
    kept = np.isfinite(values)
    x, who = values[kept], patient[kept]
    mean = patient_mean(x, who, people)
    counted = {"images": mean.images, "patients": mean.patients}
    remark = why_no_interval(mean)
    if mean.images == 0:
        yield about.row("mean", math.nan, "mean over images", **counted, method=CLUSTER_T, remark=remark)
        return
    low, high = (math.nan, math.nan) if remark else mean.interval()
    yield about.row(
        "mean", mean.value, "mean over images", low=low, high=high, se=mean.se, df=mean.df, **counted, method=CLUSTER_T, remark=remark
    )
    per = np.bincount(who, minlength=people)
    present = np.flatnonzero(per)
    own = np.bincount(who, x, minlength=people)[present] / per[present]
    each = patient_mean(own, np.arange(len(own)), len(own))
    none = why_no_interval(each)
    low, high = (math.nan, math.nan) if none else each.interval()
    yield about.row(
        "mean of patients", each.value, "mean over patients of each patient's mean",
        low=low, high=high, se=each.se, df=each.df, **counted, method=PATIENT_T, remark=none,
    )  # fmt: skip
    sd = float(x.std(ddof=1)) if len(x) > 1 else math.nan
    sd = 0.0 if mean.se == 0 and bool((x == x[0]).all()) else sd
    yield about.row("sd", sd, "standard deviation over images (n - 1)", **counted, remark="one image" if len(x) == 1 else None)
    for name, value in zip(("q25", "median", "q75"), np.quantile(x, (0.25, 0.5, 0.75)).tolist(), strict=True):
        yield about.row(name, value, f"{ {'q25': 'lower quartile', 'q75': 'upper quartile'}.get(name, name) } over images", **counted)


def why_no_interval(mean: Mean) -> str | None:
    """Say in words why a mean has no interval; None where it has one."""
    if mean.images == 0:
        return "no known value"
    if mean.patients == 1:
        return "one image: no interval" if mean.images == 1 else "one patient: no interval"
    if mean.se == 0:
        return "does not vary between patients: no interval"
    return None


def _measure(side: Side, number: int, measure: str, attributes: list[Attribute], people: int) -> Iterable[dict[str, Any]]:
    about = About(side.name, "measure", measure)
    n, patients = len(side.patient), side.patients
    if measure not in side.measures.columns:
        yield about.row("images", n, "images", images=n, patients=patients, remark="not measured")
        return
    values = side.measures[measure].to_numpy(dtype=float, na_value=np.nan)
    yield about.row("images", n, "images", images=n, patients=patients)
    yield about.row("patients", patients, "patients", images=n, patients=patients)
    yield about.row("missing", int((~np.isfinite(values)).sum()), "images without a value", images=n, patients=patients)
    yield from _number(about, values, side.patient, people)
    for attribute in attributes:
        if attribute.absent[number]:
            continue
        for code, group in enumerate(attribute.groups):
            there = attribute.codes[number] == code
            if there.any():
                one = About(side.name, "measure", measure, attribute.name, group)
                yield from _number(one, values[there], side.patient[there], people)


def _compared(sides: Sides, number: int, attributes: list[Attribute], measures: list[str]) -> Iterable[dict[str, Any]]:
    first, second = sides.sides[0], sides.sides[number]
    for attribute in attributes:
        about = About(first.name, "attribute", attribute.name, against=second.name)
        if attribute.absent[0] or attribute.absent[number]:
            where = first.name if attribute.absent[0] else second.name
            yield about.row("smd", math.nan, "standardised difference", remark=f"{where} has no such column: not compared")
            continue
        if attribute.numbers is not None:
            yield from _number_compared(about, (attribute.numbers[0], first), (attribute.numbers[number], second), sides.people)
            known = _known(attribute, number, first, second)
            if attribute.known and all(len(g) for g, _ in known):
                yield from _share_differences(about, known, attribute.known, sides.people)
        else:
            yield from _groups_compared(about, attribute, number, first, second, sides.people)
    for measure in measures:
        about = About(first.name, "measure", measure, against=second.name)
        lacking = [s.name for s in (first, second) if measure not in s.measures.columns]
        if lacking:
            yield about.row("smd", math.nan, "standardised difference", remark=f"not measured in {lacking[0]}: not compared")
            continue
        a, b = (s.measures[measure].to_numpy(dtype=float, na_value=np.nan) for s in (first, second))
        yield from _number_compared(about, (a, first), (b, second), sides.people)


def _number_compared(about: About, a: tuple[np.ndarray, Side], b: tuple[np.ndarray, Side], people: int) -> Iterable[dict[str, Any]]:
    known = [(v[np.isfinite(v)], s.patient[np.isfinite(v)]) for v, s in (a, b)]
    means = [patient_mean(v, p, people) for v, p in known]
    counted = {"images": sum(m.images for m in means), "patients": len(np.unique(np.concatenate([p for _, p in known])))}
    empty = [s.name for m, (_, s) in zip(means, (a, b), strict=True) if m.images == 0]
    if empty:
        yield about.row(
            "smd", math.nan, "standardised difference", **counted, remark=f"no known value in {' and '.join(empty)}: not compared"
        )
        return
    d = standardised_difference(known[0], known[1], people)
    remark = "nothing varies within the sides: no standardised difference" if d is None else None
    value, low, high = d or (math.nan, math.nan, math.nan)
    yield about.row(
        "smd",
        value,
        "standardised difference of means over images, first minus second",
        low=low,
        high=high,
        **counted,
        method=COHEN,
        remark=remark,
    )
    found = difference(means[0], means[1])
    lone = [s.name for m, (_, s) in zip(means, (a, b), strict=True) if m.patients == 1]
    remark = (
        f"one patient in {' and '.join(lone)}: no interval, no test"
        if lone
        else ("no variation: no interval, no test" if found.se == 0 else None)
    )
    yield about.row(
        "difference", found.value, "difference of means over images, first minus second",
        low=found.low, high=found.high, se=found.se, df=found.df, **counted, method=WELCH, remark=remark,
    )  # fmt: skip
    yield from _tested(about, found.p, "p-value of no difference of means over images", found.df, counted, WELCH, remark)


def _tested(
    about: About, p: float, estimand: str, df: float, counted: dict[str, int], method: str, remark: str | None
) -> Iterable[dict[str, Any]]:
    yield about.row("p", p, estimand, df=df, **counted, method=method, remark=remark)
    adjusted = f"{estimand}, adjusted over the tests of this comparison"
    yield about.row("p adjusted", math.nan, adjusted, **counted, method="Benjamini and Hochberg 1995", remark=remark)


def _groups_compared(about: About, attribute: Attribute, number: int, first: Side, second: Side, people: int) -> Iterable[dict[str, Any]]:
    names = attribute.known
    known = _known(attribute, number, first, second)
    counted = {"images": sum(len(g) for g, _ in known), "patients": len(np.unique(np.concatenate([p for _, p in known])))}
    empty = [s.name for s, (g, _) in zip((first, second), known, strict=True) if not len(g)]
    if empty:
        yield about.row(
            "smd", math.nan, "standardised difference", **counted, remark=f"no known value in {' and '.join(empty)}: not compared"
        )
        return
    shares = [np.bincount(g, minlength=len(names)) / len(g) for g, _ in known]
    smd = multinomial_difference(shares[0], shares[1])
    remark = None
    if math.isinf(smd):
        smd, remark = math.nan, "groups with everyone of one side and nobody of the other: the standardised difference has no bound"
    elif (np.maximum(shares[0], shares[1]) > 0).sum() < 2:
        remark = "one group alone: nothing to compare"
    yield about.row(
        "smd", smd, "standardised difference of the shares of known groups, without sign", **counted, method=YANG, remark=remark
    )
    yield from _share_differences(about, known, names, people)
    test = rao_scott(known[0], known[1], len(names), people)
    if test is None:
        why = "one patient on a side: no test" if min(len(np.unique(p)) for _, p in known) == 1 else "no variation: no test"
        yield from _tested(about, math.nan, "p-value of equal shares of known groups", math.nan, counted, RAO_SCOTT, remark or why)
        return
    yield about.row("chi-squared", test.chi_squared, "Pearson's statistic over images, uncorrected", **counted, method="Pearson")
    yield about.row("design effect", test.design_effect, "mean generalised design effect", **counted, method=RAO_SCOTT)
    yield from _tested(about, test.p, "p-value of equal shares of known groups", test.df, counted, RAO_SCOTT, None)


def _known(attribute: Attribute, number: int, first: Side, second: Side) -> list[tuple[np.ndarray, np.ndarray]]:
    """Give group and patient of the images of both sides whose group is known."""
    sides = []
    for codes, side in ((attribute.codes[0], first), (attribute.codes[number], second)):
        kept = codes < len(attribute.known)
        sides.append((codes[kept], side.patient[kept]))
    return sides


def _share_differences(about: About, known: list[tuple[np.ndarray, np.ndarray]], names: list[str], people: int) -> Iterable[dict[str, Any]]:
    for code, group in enumerate(names):
        a, b = (patient_mean((g == code).astype(float), p, people) for g, p in known)
        value, low, high = share_difference(a, b)
        lone = "one patient on a side: no interval" if min(a.patients, b.patients) == 1 else None
        one = About(about.side, "attribute", about.variable, about.variable, group, about.against)
        here = [p[g == code] for g, p in known]
        inside = {"images": sum(map(len, here)), "patients": len(np.unique(np.concatenate(here)))}
        yield one.row(
            "difference", value, "difference of shares of known images, first minus second",
            low=low, high=high, **inside, method=NEWCOMBE, remark=lone,
        )  # fmt: skip
