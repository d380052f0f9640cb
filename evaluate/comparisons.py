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
from evaluate.panel import MACRO, Measured, Panel, difference_of
from evaluate.predictions import ScoredImages
from evaluate.proportions import PROPORTIONS
from evaluate.thresholds import given_threshold

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "task", "adaptation", "attribute", "group", "metric", "threshold", "model_a", "model_b",
    "difference", "low", "high", "se", "p", "p_holm",
    "value_a", "value_b", "seed_sd_a", "seed_sd_b", "half_a", "half_b", "shapiro_p_a", "shapiro_p_b",
    "n", "n_patients", "n_pos_patients", "n_neg_patients", "method", "estimand", "flag", "note",
)  # fmt: skip
NUMBERS = COLUMNS[8:22]
PAPER = "paper: t-test over seeds"
FAMILY = ("task", "adaptation", "attribute", "metric", "threshold", "model_a", "model_b")
FAMILY_IN_WORDS = "the groups of one attribute, for one task, adaptation, metric and pair of models"
SIGNIFICANT = 0.05


def comparison_rows(scored: ScoredImages, panel: Panel, *, replicates: int) -> Iterator[dict[str, Any]]:
    """Give one group's rows of ``comparisons.parquet``: for each pair of models and metric, two lines.

    The first pairs the models image by image, averages over seeds and clusters by patient: how the two trained models
    differ on new patients. The second is the analysis of Zhou et al. 2025: the mean and the standard deviation of each
    model over seeds; ``half``, 1.96 x standard deviation / sqrt(seeds); the p-value of Shapiro and Wilk's test of normality
    (given, and never a condition: five values have almost no power against it); and a two-sided t-test between the
    models' values over seeds: how new seeds of the adaptation would differ on these same images. Both compare the macro
    average; `comparisons_table` fills ``p_holm``.

    Args:
        scored: the images that `panel` was measured on.
        panel: one group.
        replicates: of the bootstrap, for the method's name.
    """
    for (a, b), (metric, threshold) in itertools.product(itertools.combinations(scored.scores, 2), panel.lines):
        first, second = panel.measured.get((a, metric, threshold, MACRO)), panel.measured.get((b, metric, threshold, MACRO))
        sizes = panel.sizes_over(first.classes if first else ())
        row = {
            **dict.fromkeys(NUMBERS, math.nan),
            "task": scored.task,
            "adaptation": scored.adaptation,
            "attribute": panel.attribute,
            "group": panel.group,
            "metric": metric,
            "threshold": threshold,
            "model_a": a,
            "model_b": b,
            "value_a": first.value if first else math.nan,
            "value_b": second.value if second else math.nan,
            **{name: getattr(sizes, name) for name in ("n", "n_patients", "n_pos_patients", "n_neg_patients")},
            "flag": sizes.flag,
        }
        what = "trained heads" if scored.heads else "models"
        fixed = (
            ", at the thresholds that the validation split fixed" if metric in PROPORTIONS and given_threshold(threshold) is None else ""
        )
        yield {
            **row,
            **_paired(first, second, metric, tested=sizes.flag != "too few"),
            "method": f"paired {error_method(first, metric, replicates)}, t interval",
            "estimand": f"these {what} (mean over seeds), on new patients like those tested{fixed}",
        }
        yield {
            **row,
            **over_seeds(first, second, tested=sizes.flag != "too few"),
            "method": PAPER,
            "estimand": "new seeds of the adaptation of the same two models, on these same test images",
        }


def error_method(measured: Measured | None, metric: str, replicates: int) -> str:
    """Name how the sampling error of a metric is had."""
    return method_of(metric, replicates, replicated=measured.replicated if measured else metric == "ece")


def _nothing(note: str, value: float = math.nan) -> dict[str, Any]:
    return {"difference": value, "note": note}


def _absent(a: Measured | None, b: Measured | None) -> str:
    """Say why two models can't be compared, or ``""``."""
    if a is None or b is None:
        return "no value in this group: see estimates.parquet" if a is None and b is None else "one of the models has no value"
    return "" if a.classes == b.classes else "averaged over different classes"


def _paired(a: Measured | None, b: Measured | None, metric: str, *, tested: bool) -> dict[str, Any]:
    if (why := _absent(a, b)) or a is None or b is None:
        return _nothing(why)
    gap = difference_of(a, b)
    value, error = gap.value, gap.error
    if gap.freedom < 1:
        return _nothing("no interval: one patient on a side", value)
    low, high, p = difference_interval(value, error, freedom=gap.freedom)
    if math.isnan(low) or a.error == b.error == 0:
        # Two models at the ceiling differ by 0 without any error: that is the sample's limit, not a finding.
        perfect = metric in ("auroc", "auprc", "auprc_adjusted")
        return _nothing("no interval: " + ("the classes are separated perfectly" if perfect else "neither varies over patients"), value)
    note = "" if tested else "not tested"
    return {"difference": value, "low": low, "high": high, "se": error, "p": p if tested else math.nan, "note": note}


def over_seeds(a: Measured | None, b: Measured | None, *, tested: bool) -> dict[str, Any]:
    """Give the published analysis of two models' values over seeds."""
    if (why := _absent(a, b)) or a is None or b is None:
        return _nothing(why)
    each = {**_one_over_seeds(a.by_seed, "a"), **_one_over_seeds(b.by_seed, "b")}
    value = b.value - a.value
    if min(len(a.by_seed), len(b.by_seed)) < 2:
        return {**each, **_nothing("one seed: no variation over seeds to test against", value)}
    if max(np.ptp(a.by_seed), np.ptp(b.by_seed)) < 1e-12:  # no more than rounding
        return {**each, **_nothing("seeds do not vary", value)}
    freedom = len(a.by_seed) + len(b.by_seed) - 2
    pooled = (((a.by_seed - a.value) ** 2).sum() + ((b.by_seed - b.value) ** 2).sum()) / freedom
    error = math.sqrt(pooled * (1 / len(a.by_seed) + 1 / len(b.by_seed)))
    low, high, p = difference_interval(value, error, freedom=freedom)
    note = "" if tested else "not tested"
    return {**each, "difference": value, "low": low, "high": high, "se": error, "p": p if tested else math.nan, "note": note}


def _one_over_seeds(values: NDArray[np.float64], side: str) -> dict[str, float]:
    if len(values) < 2:
        return {}
    from scipy.stats import shapiro

    spread = float(values.std(ddof=1))
    normal = float(shapiro(values).pvalue) if len(values) >= 3 and np.ptp(values) >= 1e-12 else math.nan
    return {f"seed_sd_{side}": spread, f"half_{side}": 1.96 * spread / math.sqrt(len(values)), f"shapiro_p_{side}": normal}


def significant_cells(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Count, for each pair of models and metric, the cells of the table of tasks x adaptations x groups that differ at p < 0.05.

    The paper sums its evaluations up by such a count. It belongs to the whole table, so it is not a row of it. Ours stands beside it: of
    cells that don't differ at all, one in twenty is expected below 0.05, in ours; in the paper's many more are.

    Args:
        table: rows of ``comparisons.parquet``.

    Returns:
        Dictionaries with model_a, model_b, metric, threshold, of (``everyone`` or ``subgroups``), and for ``paper``, ``ours`` and
        ``ours_holm`` the cells ``tested`` and ``significant``; ``favours_b``: those of ours_holm in which model_b is higher.
    """
    counted = []
    keys = ["model_a", "model_b", "metric", "threshold"]
    for of, rows in (("everyone", table[table["attribute"] == "all"]), ("subgroups", table[table["attribute"] != "all"])):
        for key, mine in rows.groupby(keys, sort=False):
            ours, paper = mine[mine["method"] != PAPER], mine[mine["method"] == PAPER]
            found = ours["p_holm"] < SIGNIFICANT
            counted.append(
                {
                    **dict(zip(keys, key, strict=True)),
                    "of": of,
                    **{
                        name: {"tested": int(p.notna().sum()), "significant": int((p < SIGNIFICANT).sum())}
                        for name, p in (("paper", paper["p"]), ("ours", ours["p"]), ("ours_holm", ours["p_holm"]))
                    },
                    "favours_b": int((ours.loc[found, "difference"] > 0).sum()),
                }
            )
    return counted


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

    A family is the tested groups of one attribute for one task, adaptation, metric (at one threshold) and pair of models. The paper's own
    lines stay uncorrected, as the paper left them.
    """
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table.astype(
        {**dict.fromkeys(NUMBERS, "float64"), **dict.fromkeys([c for c in COLUMNS if c.startswith("n_") or c == "n"], "int64")}
    )
    ours = table[table["method"] != PAPER]
    for _, family in ours.groupby(list(FAMILY), sort=False):
        table.loc[family.index, "p_holm"] = holm(family["p"].tolist())
    return table
