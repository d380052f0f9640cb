"""Estimates: each number with its interval, how many stand behind it, and what it is an estimate of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evaluate.influence import interval
from evaluate.panel import MACRO, Measured, Panel
from evaluate.predictions import ScoredImages

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "task", "model", "adaptation", "attribute", "group", "metric", "class", "value", "low", "high", "se",
    "n", "n_pos", "n_neg", "n_patients", "n_pos_patients", "n_neg_patients", "seeds", "seed_sd", "method", "estimand", "flag", "note",
)  # fmt: skip
COUNTS = ("n", "n_pos", "n_neg", "n_patients", "n_pos_patients", "n_neg_patients")


def method_of(metric: str, replicates: int) -> str:
    """Name how a metric's sampling error is had."""
    if metric == "auroc":
        return "DeLong, clustered by patient"
    return f"bootstrap of patients, {replicates} replicates"


def sampling_estimand(scored: ScoredImages, seeds: int) -> str:
    """Say what an interval under sampling of patients is about."""
    if not scored.heads:
        what = "this model" if seeds == 1 else f"the mean of these {seeds} seeds of this model"
    else:
        what = "this trained head" if seeds == 1 else f"the mean of these {seeds} trained heads"
    return f"{what}, on new patients like those tested"


def estimate_rows(scored: ScoredImages, panel: Panel, metrics: Sequence[str], *, replicates: int) -> Iterator[dict[str, Any]]:
    """Give one group's rows of ``estimates.parquet``, in the order model, metric, class (the macro average first).

    A two-class task has its positive (second) class alone, and the macro average is that class's value. A value that
    can't be had is null and its note says why; so are intervals that the group is too small for.

    Args:
        scored: the images that `panel` was measured on.
        panel: one group.
        metrics: of ``auroc`` and ``auprc``.
        replicates: of the bootstrap, for the method's name.
    """
    for model, scores in scored.scores.items():
        for metric in metrics:
            for name in (MACRO, *(scored.classes[k] for k in scored.judged)):
                sizes = panel.sizes[name]
                measured = panel.measured.get((model, metric, name))
                value, low, high, error = _value(measured, sizes.scarcer)
                yield {
                    "task": scored.task,
                    "model": model,
                    "adaptation": scored.adaptation,
                    "attribute": panel.attribute,
                    "group": panel.group,
                    "metric": metric,
                    "class": name,
                    "value": value,
                    "low": low,
                    "high": high,
                    "se": error,
                    **{count: getattr(sizes, count) for count in COUNTS},
                    "seeds": len(scores),
                    "seed_sd": float(measured.by_seed.std(ddof=1)) if measured and len(scores) > 1 else math.nan,
                    "method": f"{method_of(metric, replicates)}, logit-t interval",
                    "estimand": sampling_estimand(scored, len(scores)),
                    "flag": sizes.flag,
                    "note": _note(panel, name, measured, low, replicates),
                }


def _value(measured: Measured | None, patients: int) -> tuple[float, float, float, float]:
    if measured is None:
        return math.nan, math.nan, math.nan, math.nan
    low, high = interval(measured.value, measured.error, patients=patients)
    return measured.value, low, high, math.nan if math.isnan(low) else measured.error


def _note(panel: Panel, name: str, measured: Measured | None, low: float, replicates: int) -> str:
    sizes = panel.sizes[name]
    notes = []
    if sizes.n == 0:
        return "no images"
    if measured is None:
        notes.append("no positives" if sizes.n_pos == 0 else "no negatives")
    elif math.isnan(low):
        if sizes.scarcer < 2:
            notes.append("no interval: one patient on a side")
        else:
            notes.append("no interval: perfect separation" if measured.value in (0, 1) else "no interval: the scores do not vary")
    if measured is not None and measured.metric == "auprc":
        unusable = int((measured.spread != measured.spread).sum())
        if unusable:
            notes.append(f"{unusable} of {replicates} replicates left out: a class was not drawn")
    if name == MACRO and panel.dropped and measured is not None:
        notes.append(f"averaged without {', '.join(panel.dropped)}")
    return "; ".join(notes)


def estimates_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Put rows into the columns and types of ``estimates.parquet``; NaN becomes null on the way to the file."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(
        {**dict.fromkeys(("value", "low", "high", "se", "seed_sd"), "float64"), **dict.fromkeys((*COUNTS, "seeds"), "int64")}
    )
