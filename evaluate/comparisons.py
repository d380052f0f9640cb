"""Comparisons: two models on the same images, group by group."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.estimates import method_of
from evaluate.influence import difference_interval
from evaluate.panel import MACRO, Measured, Panel, spread_error
from evaluate.predictions import ScoredImages

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "task", "adaptation", "attribute", "group", "metric", "model_a", "model_b", "difference", "low", "high", "se", "p", "p_holm",
    "n", "n_patients", "n_pos_patients", "n_neg_patients", "method", "estimand", "flag", "note",
)  # fmt: skip
PAPER = "paper: t-test over seeds"


def comparison_rows(scored: ScoredImages, panel: Panel, metrics: Sequence[str], *, replicates: int) -> Iterator[dict[str, Any]]:
    """Give one group's rows of ``comparisons.parquet``: for each pair of models and metric, two lines.

    The first pairs the models image by image, averages over seeds and clusters by patient: how the two trained models
    differ on new patients. The second is the analysis of Zhou et al. 2025, a two-sided t-test between the models'
    values over seeds: how new seeds of the adaptation would differ on these same images. Both compare the macro average;
    `holm` fills ``p_holm``.

    Args:
        scored: the images that `panel` was measured on.
        panel: one group.
        metrics: of ``auroc`` and ``auprc``.
        replicates: of the bootstrap, for the method's name.
    """
    sizes = panel.sizes[MACRO]
    for (a, b), metric in itertools.product(itertools.combinations(scored.scores, 2), metrics):
        row = {
            "task": scored.task,
            "adaptation": scored.adaptation,
            "attribute": panel.attribute,
            "group": panel.group,
            "metric": metric,
            "model_a": a,
            "model_b": b,
            **{name: getattr(sizes, name) for name in ("n", "n_patients", "n_pos_patients", "n_neg_patients")},
            "flag": sizes.flag,
            "p_holm": math.nan,
        }
        first, second = panel.measured.get((a, metric, MACRO)), panel.measured.get((b, metric, MACRO))
        what = "trained heads" if scored.heads else "models"
        yield {
            **row,
            **_paired(first, second, sizes.scarcer, tested=sizes.flag != "too few"),
            "method": f"paired {method_of(metric, replicates)}, t interval",
            "estimand": f"these {what} (mean over seeds), on new patients like those tested",
        }
        yield {
            **row,
            **_over_seeds(first, second, tested=sizes.flag != "too few"),
            "method": PAPER,
            "estimand": "new seeds of the adaptation of the same two models, on these same test images",
        }


def _nothing(note: str, value: float = math.nan) -> dict[str, Any]:
    return {"difference": value, "low": math.nan, "high": math.nan, "se": math.nan, "p": math.nan, "note": note}


def _paired(a: Measured | None, b: Measured | None, patients: int, *, tested: bool) -> dict[str, Any]:
    if a is None or b is None:
        return _nothing("only one class in this group")
    value = b.value - a.value
    if patients < 2:
        return _nothing("no interval: one patient on a side", value)
    error = spread_error(a.metric, b.spread - a.spread)
    low, high, p = difference_interval(value, error, freedom=patients - 1)
    if math.isnan(low) or a.error == b.error == 0:
        # Two models at the ceiling differ by 0 without any error: that is the sample's limit, not a finding.
        return _nothing("no interval: the classes are separated perfectly", value)
    note = "" if tested else "not tested"
    return {"difference": value, "low": low, "high": high, "se": error, "p": p if tested else math.nan, "note": note}


def _over_seeds(a: Measured | None, b: Measured | None, *, tested: bool) -> dict[str, Any]:
    if a is None or b is None:
        return _nothing("only one class in this group")
    value = b.value - a.value
    if min(len(a.by_seed), len(b.by_seed)) < 2:
        return _nothing("one seed: no variation over seeds to test against", value)
    if max(np.ptp(a.by_seed), np.ptp(b.by_seed)) < 1e-12:  # no more than rounding
        return _nothing("seeds do not vary", value)
    freedom = len(a.by_seed) + len(b.by_seed) - 2
    pooled = (((a.by_seed - a.value) ** 2).sum() + ((b.by_seed - b.value) ** 2).sum()) / freedom
    error = math.sqrt(pooled * (1 / len(a.by_seed) + 1 / len(b.by_seed)))
    low, high, p = difference_interval(value, error, freedom=freedom)
    note = "" if tested else "not tested"
    return {"difference": value, "low": low, "high": high, "se": error, "p": p if tested else math.nan, "note": note}


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """Adjust p-values of one family by Holm's step-down method; NaN ones stay NaN and don't count.

    References:
        Holm 1979, Scand J Stat 6:65.

    Example:
        >>> holm([0.01, 0.04, 0.03, float("nan")]).tolist()
        [0.03, 0.06, 0.06, nan]
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * values[i]))
        adjusted[i] = running
    return adjusted


def comparisons_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Put rows into the columns and types of ``comparisons.parquet`` and fill ``p_holm``.

    A family is the tested groups of one attribute for one task, adaptation, metric, pair of models. The paper's own
    lines stay uncorrected, as the paper left them.
    """
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ("difference", "low", "high", "se", "p", "p_holm")
    table = table.astype(
        {**dict.fromkeys(numbers, "float64"), **dict.fromkeys([c for c in COLUMNS if c.startswith("n_") or c == "n"], "int64")}
    )
    ours = table[table["method"] != PAPER]
    for _, family in ours.groupby(["task", "adaptation", "attribute", "metric", "model_a", "model_b"], sort=False):
        table.loc[family.index, "p_holm"] = holm(family["p"].tolist())
    return table
