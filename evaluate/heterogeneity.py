"""Whether a model does equally well for every group: the groups of one attribute held against each other.

A difference between the best and the worst group can't be tested by bootstrapping it: picked after the fact, it is never 0. So
heterogeneity is tested over all groups at once (Cochran's Q), each group is held against the others, pairs against each other, and the
worst group's gap gets an interval that accounts for its having been picked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.comparisons import error_method, holm
from evaluate.contrasts import GroupEstimates, cochran_q
from evaluate.estimates import SHARES, sampling_estimand
from evaluate.influence import auroc, count_patients, effective_patients, interval, mean_influence
from evaluate.panel import MACRO, Measured, Panel, Sizes
from evaluate.predictions import ScoredImages
from evaluate.proportions import PROPORTIONS

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

COLUMNS = (
    "task", "model", "adaptation", "attribute", "kind", "group_a", "group_b", "metric", "threshold", "value", "low", "high", "se",
    "statistic", "df", "p", "p_holm", "n_a", "n_b", "n_patients_a", "n_patients_b", "method", "estimand", "flag", "note",
)  # fmt: skip
HETEROGENEITY, REST, PAIR, WORST, BPSN, BNSP = "heterogeneity", "against rest", "pair", "worst", "bpsn", "bnsp"
OTHERS = "all others"
LOWER_IS_BETTER = ("brier", "ece")
NO_WORST = ("calibration_slope", "calibration_intercept")  # the best value is in the middle: neither the lowest nor the highest is worst
NAN = math.nan


def group_rows(scored: ScoredImages, panels: Sequence[Panel], *, replicates: int) -> Iterator[dict[str, Any]]:
    """Give the rows of ``groups.parquet`` for the attributes whose panels are given, by model, metric and threshold.

    Rows are of these kinds, all on the macro average:

    - ``heterogeneity``: Cochran's Q over the groups that can be tested;
    - ``against rest``: each group minus the mean of the others, counted by their patients (Holm over the groups);
    - ``pair``: each pair (Holm over the pairs);
    - ``worst``: the group with the worst estimate, its gap to the others, with an interval that holds 95 % of the time
      although it was picked;
    - ``bpsn``, ``bnsp`` (AUROC alone): the group's negatives against the others' positives, and the other way round
      (Borkan et al. 2019): low where one threshold for everyone would call too many of the group's healthy ill, or
      its ill healthy.

    Args:
        scored: the images that `panels` were measured on.
        panels: every group of one or more attributes; ``all`` is passed over.
        replicates: of the bootstrap, for the method's name.
    """
    attributes = list(dict.fromkeys(p.attribute for p in panels if p.attribute != "all"))
    for attribute in attributes:
        mine = [p for p in panels if p.attribute == attribute]
        lines = list(dict.fromkeys(line for p in mine for line in p.lines))
        for model, (metric, threshold) in itertools.product(scored.scores, lines):
            common = {
                "task": scored.task,
                "model": model,
                "adaptation": scored.adaptation,
                "attribute": attribute,
                "metric": metric,
                "threshold": threshold,
                "estimand": sampling_estimand(scored, len(scored.scores[model])),
            }
            found = {p.group: p.measured.get((model, metric, threshold, MACRO)) for p in mine}
            yield from _metric_rows(common, mine, found, replicates)
        for model in scored.scores:
            if ("auroc", "") in lines:
                yield from _cross_rows(scored, model, attribute, mine)


def _metric_rows(
    common: dict[str, Any],
    panels: Sequence[Panel],
    found: dict[str, Measured | None],
    replicates: int,
) -> Iterator[dict[str, Any]]:
    tested, left_out = [], {}
    classes = max((m.classes for m in found.values() if m is not None), key=len, default=())
    for panel in panels:
        why = _untestable(panel, found[panel.group], classes)
        if why:
            left_out[panel.group] = why
        else:
            tested.append(panel)
    groups = estimates_of(tested, [found[p.group] for p in tested])  # type: ignore[misc]
    some = next((m for m in found.values() if m is not None), None)
    common = {**common, "method": error_method(some, common["metric"], replicates)}
    warning = "follows the group's prevalence: read auprc_adjusted with it" if common["metric"] == "auprc" else ""
    missing = "; ".join(f"without {name} ({why})" for name, why in left_out.items())
    q, freedom, p = cochran_q(groups) if len(tested) > 1 else (NAN, 0, NAN)
    too_few = "fewer than two groups can be tested" if len(tested) < 2 else "no test: a group's error is unknown" if math.isnan(q) else ""
    yield _row(
        common,
        HETEROGENEITY,
        OTHERS if not tested else ", ".join(groups.names),
        "",
        sizes=(groups.sizes, ()),
        statistic=q,
        df=freedom,
        p=p,
        method=f"Cochran's Q, Welch's F; errors: {common['method']}",
        flag=_flag(groups.sizes) if len(tested) > 1 else "too few",
        note=_join(too_few, missing, groups.note, warning),
    )
    sizes = {p.group: p.sizes_over(m.classes if (m := found[p.group]) else ()) for p in panels}
    names = list(groups.names)
    for panel in panels:
        if panel.group in left_out or len(tested) < 2:
            why = left_out.get(panel.group, "no other group can be tested")
            yield _row(
                common,
                REST,
                panel.group,
                OTHERS,
                sizes=((sizes[panel.group],), ()),
                flag=panel.sizes[MACRO].flag,
                note=f"not tested: {why}",
            )
            continue
        i = names.index(panel.group)
        others = tuple(s for j, s in enumerate(groups.sizes) if j != i)
        yield _contrast_row(
            common, REST, groups, groups.against_others(i), (panel.group, OTHERS), ((groups.sizes[i],), others), warning, missing
        )
    for i, j in itertools.combinations(range(len(names)), 2):
        weights = np.eye(len(names))[i] - np.eye(len(names))[j]
        yield _contrast_row(common, PAIR, groups, weights, (names[i], names[j]), ((groups.sizes[i],), (groups.sizes[j],)), warning, "")
    if len(tested) > 1 and common["metric"] not in NO_WORST:
        yield _worst_row(common, groups, warning, missing)


def _untestable(panel: Panel, measured: Measured | None, classes: Sequence[str]) -> str:
    if measured is None:
        return "no images" if panel.sizes[MACRO].n == 0 else "no value"
    if measured.metric == "ece":
        return "its bias is larger in smaller groups: compare calibration slope and intercept"
    if panel.sizes_over(measured.classes).flag == "too few":
        return "too few"
    if measured.classes != classes:  # a difference of averages over other classes would be one of classes
        return f"has no {', '.join(c for c in classes if c not in measured.classes)}"
    limited = measured.metric in (*SHARES, *PROPORTIONS)
    if not measured.error > 0 or measured.patients < 2 or (limited and not 0 < measured.value < 1):
        return "no error can be had"
    return ""


def estimates_of(panels: Sequence[Panel], measured: Sequence[Measured]) -> GroupEstimates:
    """Put groups' estimates together with the covariance of their errors.

    A patient can be in two groups (of eyes, or of ages at two visits). Influence terms say what that patient adds to both; bootstrap
    replicates of groups are drawn apart and say nothing about it: then the groups are taken as independent, which makes
    the error of a difference too large where the two move together, and the note says so.

    Args:
        panels: of the groups.
        measured: the metric in each.
    """
    k = len(panels)
    covariance = np.diag([m.error**2 for m in measured])
    note = ""
    for i, j in itertools.combinations(range(k), 2):
        _, here, there = np.intersect1d(panels[i].patients, panels[j].patients, assume_unique=True, return_indices=True)
        if not len(here):
            continue
        if not (measured[i].replicated or measured[j].replicated):
            covariance[i, j] = covariance[j, i] = float(np.dot(measured[i].spread[here], measured[j].spread[there]))
        else:
            note = "patients who are in two groups are taken as different ones"
    return GroupEstimates(
        tuple(p.group for p in panels),
        tuple(p.sizes_over(m.classes) for p, m in zip(panels, measured, strict=True)),
        np.array([m.value for m in measured]),
        covariance,
        np.array([_freedom(m) for m in measured], dtype=np.float64),
        bool(measured) and measured[0].metric in (*SHARES, *PROPORTIONS),
        note,
    )


def _freedom(measured: Measured) -> float:
    """Give the degrees of freedom of an error: few patients with large terms say less about it than many alike."""
    patients = measured.patients if measured.replicated else min(effective_patients(measured.spread), measured.patients)
    return max(float(patients) - 1, 1.0)


def _contrast_row(
    common: dict[str, Any],
    kind: str,
    groups: GroupEstimates,
    weights: Floats,
    names: tuple[str, str],
    sizes: tuple[tuple[Sizes, ...], tuple[Sizes, ...]],
    *notes: str,
) -> dict[str, Any]:
    value, error = float(weights @ groups.values), groups.error(weights)
    if not error > 0:
        return _row(common, kind, *names, sizes=sizes, value=value, flag=_flag(sum(sizes, ())), note="no error")
    low, high = groups.limits(weights)
    return _row(
        common,
        kind,
        *names,
        sizes=sizes,
        value=value,
        low=low,
        high=high,
        se=error,
        statistic=value / error,
        p=groups.p_value(weights),
        method=f"difference, {_shape(groups)}; errors: {common['method']}",
        flag=_flag(sum(sizes, ())),
        note=_join(*notes, groups.note),
    )


def _shape(groups: GroupEstimates) -> str:
    return "squared and added logit-t intervals" if groups.logit else "squared and added t intervals"


def _worst_row(common: dict[str, Any], groups: GroupEstimates, *notes: str) -> dict[str, Any]:
    """Hold the worst of k groups against the others.

    Whichever group is picked, its gap is one of k. The interval is as wide as it takes for none of the k gaps to fall
    short of 0 by chance in more than 5 % (Bonferroni on the side that the picking pulls to: the quantile is
    1 - 0.05 / k). The gaps add up to about 0, so hardly two of them are extreme at once and little is lost: with equal
    groups the interval contains 0 in 95 % of samples, and where one group is clearly the worst it is wider than need be.
    """
    k = len(groups.values)
    worst = int(np.argmax(groups.values)) if common["metric"] in LOWER_IS_BETTER else int(np.argmin(groups.values))
    weights = groups.against_others(worst)
    value, error = float(weights @ groups.values), groups.error(weights)
    low, high = groups.limits(weights, 1 - 2 * 0.05 / k)
    others = tuple(s for j, s in enumerate(groups.sizes) if j != worst)
    return _row(
        common,
        WORST,
        groups.names[worst],
        OTHERS,
        sizes=((groups.sizes[worst],), others),
        value=value,
        low=low,
        high=high,
        se=error,
        statistic=value / error,
        p=min(1.0, k * groups.p_value(weights) / 2),
        method=f"difference, {_shape(groups)}, adjusted for having been picked of {k}; errors: {common['method']}",
        flag=_flag(groups.sizes),
        note=_join(*notes, groups.note),
    )


def _cross_rows(scored: ScoredImages, model: str, attribute: str, panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """Give the AUROCs across a group's border, mean over classes and seeds."""
    scores = scored.scores[model]
    for kind, panel in itertools.product((BPSN, BNSP), panels):
        inside = scored.groups[attribute] == panel.group
        parts, counts = [], []
        for k in scored.judged:
            positive, known = scored.truth[:, k], scored.known[:, k]
            kept = known & (positive != inside if kind == BPSN else positive == inside)
            truth, patients = positive[kept], scored.patients[kept]
            if not truth.any() or truth.all():
                continue
            by_seed = mean_influence([auroc(scores[s, kept, k], truth, patients) for s in range(len(scores))])
            parts.append((by_seed.value, by_seed.terms, np.flatnonzero(kept)))
            mine, other = (~truth, truth) if kind == BPSN else (truth, ~truth)
            counts.append((int(mine.sum()), int(other.sum()), count_patients(mine, patients), count_patients(other, patients)))
        here = dict(zip(("n_a", "n_b", "n_patients_a", "n_patients_b"), map(min, zip(*counts, strict=True)), strict=True)) if counts else {}
        value, error = NAN, NAN
        if parts:
            value = float(np.mean([v for v, _, _ in parts]))
            terms = np.zeros(len(inside))
            for _, t, at in parts:
                terms[at] += t / len(parts)
            by_patient = np.bincount(scored.patients, weights=terms)
            error = math.sqrt(float(np.dot(by_patient, by_patient)))
        fewest = min((here.get("n_patients_a", 0), here.get("n_patients_b", 0)))
        low, high = interval(value, error, patients=fewest)
        sides = ("negatives", "positives") if kind == BPSN else ("positives", "negatives")
        few = min(here.get("n_a", 0), here.get("n_b", 0))
        yield {
            **dict.fromkeys(COLUMNS, NAN),
            "task": scored.task,
            "model": model,
            "adaptation": scored.adaptation,
            "attribute": attribute,
            "kind": kind,
            "group_a": panel.group,
            "group_b": OTHERS,
            "metric": "auroc",
            "threshold": "",
            "value": value,
            "low": low,
            "high": high,
            "se": NAN if math.isnan(low) else error,
            **{c: here.get(c, 0) for c in ("n_a", "n_b", "n_patients_a", "n_patients_b")},
            "method": "DeLong, clustered by patient, logit-t interval",
            "estimand": sampling_estimand(scored, len(scores)),
            "flag": "too few" if few < 10 or fewest < 2 else "few" if few < 100 else "",
            "note": _join(
                f"AUROC of the group's {sides[0]} and the others' {sides[1]}", "" if parts else f"no {sides[0]} or no {sides[1]}"
            ),
        }


def _flag(sizes: Sequence[Sizes]) -> str:
    flags = {size.flag for size in sizes}
    return next((flag for flag in ("too few", "few") if flag in flags), "")


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _row(
    common: dict[str, Any], kind: str, group_a: str, group_b: str, *, sizes: tuple[Sequence[Sizes], Sequence[Sizes]], **values: Any
) -> dict[str, Any]:
    here, there = sizes
    return {
        **dict.fromkeys(("value", "low", "high", "se", "statistic", "df", "p", "p_holm"), NAN),
        "n_a": sum(s.n for s in here),
        "n_b": sum(s.n for s in there),
        "n_patients_a": sum(s.n_patients for s in here),
        "n_patients_b": sum(s.n_patients for s in there),
        "flag": "",
        "note": "",
        **common,
        "kind": kind,
        "group_a": group_a,
        "group_b": group_b,
        **values,
    }


def groups_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Put rows into the columns and types of ``groups.parquet`` and fill ``p_holm``.

    A family is the groups (or the pairs) of one attribute for one task, model, adaptation, metric and threshold.
    """
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ("value", "low", "high", "se", "statistic", "df", "p", "p_holm")
    table = table.astype({**dict.fromkeys(numbers, "float64"), **dict.fromkeys([c for c in COLUMNS if c.startswith("n_")], "int64")})
    families = table[table["kind"].isin([REST, PAIR])]
    for _, family in families.groupby(["task", "model", "adaptation", "attribute", "kind", "metric", "threshold"], sort=False):
        table.loc[family.index, "p_holm"] = holm(family["p"].tolist())
    return table
