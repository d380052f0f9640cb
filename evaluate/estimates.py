"""Estimates: each number with its interval, how many stand behind it, and what it is an estimate of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.calibration import BINS
from evaluate.influence import difference_interval, interval
from evaluate.panel import MACRO, Key, Measured, Panel, Sizes
from evaluate.predictions import ScoredImages
from evaluate.proportions import PROPORTIONS, treat_all, wilson_interval
from evaluate.thresholds import given_threshold

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "task", "model", "adaptation", "attribute", "group", "metric", "threshold", "class", "value", "low", "high", "se", "reference",
    "n", "n_pos", "n_neg", "n_patients", "n_pos_patients", "n_neg_patients", "seeds", "seed_sd", "method", "estimand", "flag", "note",
)  # fmt: skip
COUNTS = ("n", "n_pos", "n_neg", "n_patients", "n_pos_patients", "n_neg_patients")
TWO_SIDED = ("auroc", "auprc", "auprc_adjusted", "calibration_slope", "calibration_intercept")
SHARES = ("auroc", "auprc", "auprc_adjusted", "brier")  # between 0 and 1, with an interval on the logit scale


def method_of(metric: str, replicates: int, *, replicated: bool) -> str:
    """Name how a metric's sampling error is had.

    Args:
        metric: which.
        replicates: of the bootstrap.
        replicated: whether it is used, see `panel.Measured`.
    """
    if replicated:
        return f"bootstrap of patients, {replicates} replicates"
    if metric == "auroc":
        return "DeLong, clustered by patient"
    if metric.startswith("calibration"):
        return "sandwich, clustered by patient"
    return "influence function, clustered by patient"


def interval_of(measured: Measured) -> tuple[float, float]:
    """Give a metric's 95 % interval.

    Sensitivity, specificity and predictive values: Wilson, on the effective number of images. AUROC, AUPRC and Brier
    score: logit-t. ECE: down by the noise that a calibrated model would show (`calibration.replicate_ece`), since noise
    can only add to it, and up as the basic bootstrap goes; wider than need be where it is large. Net benefit, calibration
    slope and intercept: symmetric, t.

    Returns:
        (low, high); NaN where the sample can't give them.

    References:
        See `influence.interval` and `proportions.wilson_interval`; Davison, Hinkley 1997, Bootstrap Methods, 5.2 (basic).
    """
    patients = measured.effective
    if measured.metric in PROPORTIONS:
        # Each seed decides about each image: the mean over seeds is steadier than one seed's decisions.
        decisions = measured.images * len(measured.by_seed)
        return wilson_interval(measured.value, measured.error, decisions=decisions, patients=patients)
    if measured.metric in SHARES:
        return interval(measured.value, measured.error, patients=patients)
    if measured.metric == "ece":
        assert measured.noise is not None
        usable = ~np.isnan(measured.spread)
        if measured.patients < 2 or usable.sum() < 2:
            return math.nan, math.nan
        noise, lowest = np.quantile(measured.noise[usable], 0.975), np.quantile(measured.spread[usable], 0.025)
        return max(0.0, measured.value - float(noise)), max(measured.value, 2 * measured.value - float(lowest))
    if not measured.error > 0 or patients < 2:
        return math.nan, math.nan
    low, high, _ = difference_interval(measured.value, measured.error, freedom=patients - 1)
    return low, high


def interval_name(metric: str) -> str:
    """Name the shape of a metric's interval."""
    if metric in PROPORTIONS:
        return "Wilson interval on the effective number"
    if metric in SHARES:
        return "logit-t interval"
    return "noise-corrected interval" if metric == "ece" else "t interval"


def sampling_estimand(scored: ScoredImages, seeds: int, threshold: str = "") -> str:
    """Say what an interval under sampling of patients is about.

    Args:
        scored: the images.
        seeds: how many are averaged.
        threshold: the rule that fixes the threshold, if one does.
    """
    if not scored.heads:
        what = "this model" if seeds == 1 else f"the mean of these {seeds} seeds of this model"
    else:
        what = "this trained head" if seeds == 1 else f"the mean of these {seeds} trained heads"
    # What the validation split might have fixed instead is no part of the interval: the thresholds are taken as they are.
    fixed = ", at the thresholds that the validation split fixed" if threshold and given_threshold(threshold) is None else ""
    return f"{what}, on new patients like those tested{fixed}"


def reference_of(metric: str, threshold: str, sizes: Sequence[Sizes], prevalences: Sequence[float]) -> float:
    """Give what a model that knows nothing would have: the mean over classes.

    AUROC 0.5; AUPRC and PPV the prevalence, NPV the rest of it; adjusted AUPRC the prevalence that it is adjusted to; Brier
    score that of the prevalence as everybody's probability; net benefit that of treating everybody (of nobody it is 0);
    calibration slope 1 and intercept 0, where nothing is left to correct. Sensitivity, specificity and ECE have none.

    Args:
        metric, threshold: which.
        sizes: counts of each class averaged.
        prevalences: each one's among all test images of the task.

    Returns:
        The reference; NaN where there is none.
    """
    constant = {"auroc": 0.5, "calibration_slope": 1.0, "calibration_intercept": 0.0}
    if metric in constant:
        return constant[metric]
    if metric == "auprc_adjusted":
        return float(np.mean(prevalences))
    shares = np.array([s.n_pos / s.n for s in sizes])
    if metric in ("auprc", "ppv", "npv"):
        return float(np.mean(1 - shares if metric == "npv" else shares))
    if metric == "brier":
        return float(np.mean(shares * (1 - shares)))
    return float(np.mean([treat_all(p, float(threshold)) for p in shares])) if metric == "net_benefit" else math.nan


def estimate_rows(scored: ScoredImages, panel: Panel, *, replicates: int) -> Iterator[dict[str, Any]]:
    """Give one group's rows of ``estimates.parquet``, in the order model, metric, threshold, class (the macro average first).

    A two-class task has its positive (second) class alone, and the macro average is that class's value. A value that
    can't be had is null and its note says why; so are intervals that the group is too small for. ``reference`` is what a
    model that knows nothing would have, see `reference_of`.

    Args:
        scored: the images that `panel` was measured on.
        panel: one group.
        replicates: of the bootstrap, for the method's name.
    """
    judged = tuple(scored.classes[k] for k in scored.judged)
    known = np.maximum(scored.known.sum(axis=0), 1)
    prevalence = dict(zip(scored.classes, (scored.truth & scored.known).sum(axis=0) / known, strict=True))
    for model, scores in scored.scores.items():
        for metric, threshold in panel.lines:
            for name in (MACRO, *judged):
                measured = panel.measured.get((model, metric, threshold, name))
                classes = measured.classes if measured else () if name == MACRO else (name,)
                sizes = panel.sizes_over(classes)
                low, high = interval_of(measured) if measured else (math.nan, math.nan)
                counted = [panel.sizes[c] for c in classes] if measured else []
                replicated = measured.replicated if measured else metric == "ece"
                yield {
                    "task": scored.task,
                    "model": model,
                    "adaptation": scored.adaptation,
                    "attribute": panel.attribute,
                    "group": panel.group,
                    "metric": metric,
                    "threshold": threshold,
                    "class": name,
                    "value": measured.value if measured else math.nan,
                    "low": low,
                    "high": high,
                    "se": math.nan if math.isnan(low) or measured is None else measured.error,
                    "reference": reference_of(metric, threshold, counted, [prevalence[c] for c in classes]) if measured else math.nan,
                    **{count: getattr(sizes, count) for count in COUNTS},
                    "seeds": len(scores),
                    "seed_sd": float(measured.by_seed.std(ddof=1)) if measured and len(scores) > 1 else math.nan,
                    "method": f"{method_of(metric, replicates, replicated=replicated)}, {interval_name(metric)}",
                    "estimand": sampling_estimand(scored, len(scores), threshold if metric in PROPORTIONS else ""),
                    "flag": sizes.flag,
                    "note": _note(panel, (model, metric, threshold, name), judged, low, prevalence),
                }


def _note(panel: Panel, key: Key, judged: Sequence[str], low: float, prevalence: Mapping[str, float]) -> str:
    model, metric, threshold, name = key
    measured = panel.measured.get(key)
    sizes = panel.sizes[name]
    if sizes.n == 0:
        return "no images"
    if measured is None:
        reasons = [panel.reasons.get((*key[:3], c), "") for c in (judged if name == MACRO else (name,))]
        return next(filter(None, reasons), "no positives" if sizes.n_pos == 0 else "no negatives")
    notes = []
    if math.isnan(low):
        if measured.patients < 2:
            notes.append("no interval: one patient" + (" on a side" if metric in (*TWO_SIDED, *PROPORTIONS) else ""))
        else:
            perfect = metric in ("auroc", "auprc", "auprc_adjusted") and measured.value in (0, 1)
            notes.append("no interval: perfect separation" if perfect else "no interval: the scores do not vary")
    unusable = int(np.isnan(measured.spread).sum()) if measured.replicated else 0
    if unusable:
        notes.append(f"{unusable} of {len(measured.spread)} replicates left out: a class was not drawn")
    if metric == "ece":
        notes.append(f"{BINS} bins of equal width")
    if metric == "auprc_adjusted":
        notes.append("at prevalence " + ", ".join(f"{prevalence[c]:.3g}" for c in measured.classes))
    if metric in PROPORTIONS and given_threshold(threshold) is None and name != MACRO:
        cuts = panel.cuts[model, threshold, name]
        notes.append(f"threshold {_spelled(cuts.min())}" + (f" to {_spelled(cuts.max())}" if cuts.max() > cuts.min() else ""))
    left_out = [c for c in judged if c not in measured.classes]
    if name == MACRO and left_out:
        notes.append(f"averaged without {', '.join(left_out)}")
    return "; ".join(notes)


def _spelled(cut: float) -> str:
    return f"{cut:.4g}"


def estimates_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Put rows into the columns and types of ``estimates.parquet``; NaN becomes null on the way to the file."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(
        {**dict.fromkeys(("value", "low", "high", "se", "reference", "seed_sd"), "float64"), **dict.fromkeys((*COUNTS, "seeds"), "int64")}
    )
