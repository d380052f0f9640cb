"""One group at a time: how many there are, and how well every model does on them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluate.bootstrap import Draws, bootstrap, bootstrap_error
from evaluate.influence import auroc, mean_influence
from evaluate.precision import Floats, rank, weighted_metrics
from evaluate.predictions import ScoredImages

MACRO = "macro"
FEW = 100  # positives or negatives below which an estimate is flagged
TOO_FEW = 10  # ... and below which a group is not tested


@dataclass(frozen=True)
class Sizes:
    """How many stand behind an estimate. For a macro average, the smallest over the classes averaged."""

    n: int
    n_pos: int
    n_neg: int
    n_patients: int
    n_pos_patients: int
    n_neg_patients: int

    @property
    def scarcer(self) -> int:
        """Patients on the scarcer side: what bounds how far an interval can be trusted."""
        return min(self.n_pos_patients, self.n_neg_patients)

    @property
    def flag(self) -> str:
        """``"too few"`` (shown, not tested), ``"few"``, or ``""``."""
        if min(self.n_pos, self.n_neg) < TOO_FEW or self.scarcer < 2:
            return "too few"
        return "few" if min(self.n_pos, self.n_neg) < FEW else ""


@dataclass(frozen=True)
class Measured:
    """A metric of one model on one group.

    Attributes:
        by_seed: (seeds,) the metric with each seed.
        spread: what its sampling error is computed from, in an order that models share: (patients,) influence terms
            for ``auroc``, (replicates,) bootstrap replicates for ``auprc``.
    """

    metric: str
    by_seed: Floats
    spread: Floats

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(self.by_seed.mean())

    @property
    def error(self) -> float:
        """The standard error under sampling of patients; NaN where it can't be had."""
        return spread_error(self.metric, self.spread)


def spread_error(metric: str, spread: Floats) -> float:
    """Give the standard error that influence terms (``auroc``) or replicates (``auprc``) amount to."""
    return math.sqrt(float(np.dot(spread, spread))) if metric == "auroc" else bootstrap_error(spread)


@dataclass(frozen=True)
class Panel:
    """Everything measured on one group.

    Attributes:
        attribute, group: which; both ``all`` for everyone.
        sizes: class name or `MACRO` -> counts.
        dropped: judged classes left out of the macro average, because the group holds none of them, or nothing else.
        measured: (model, metric, class name or `MACRO`) -> result, for classes that can be judged.
    """

    attribute: str
    group: str
    sizes: dict[str, Sizes]
    dropped: tuple[str, ...]
    measured: dict[tuple[str, str, str], Measured] = field(default_factory=dict)


def panels(scored: ScoredImages, metrics: Sequence[str], *, replicates: int, seed: int) -> Iterator[Panel]:
    """Measure everyone, then each group of each attribute in the order in which groups are shown.

    Args:
        scored: test images with the models' scores.
        metrics: of ``auroc`` and ``auprc``.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    everyone = np.ones(len(scored.labels), dtype=bool)
    yield _panel(scored, "all", "all", everyone, metrics, replicates, seed)
    for attribute, groups in scored.order.items():
        for group in groups:
            yield _panel(scored, attribute, group, scored.groups[attribute] == group, metrics, replicates, seed)


def _panel(
    scored: ScoredImages, attribute: str, group: str, mask: NDArray[np.bool_], metrics: Sequence[str], replicates: int, seed: int
) -> Panel:
    labels = scored.labels[mask]
    _, patients = np.unique(scored.patients[mask], return_inverse=True)
    patients = patients.astype(np.int64)
    sizes = {scored.classes[k]: _sizes(labels == k, patients) for k in scored.judged}
    present = [k for k in scored.judged if min(sizes[scored.classes[k]].n_pos, sizes[scored.classes[k]].n_neg) > 0]
    averaged = [sizes[scored.classes[k]] for k in present] or list(sizes.values())
    sizes[MACRO] = Sizes(*(min(getattr(s, name) for s in averaged) for name in Sizes.__dataclass_fields__))
    dropped = tuple(scored.classes[k] for k in scored.judged if k not in present)
    panel = Panel(attribute, group, sizes, dropped)
    if not present:
        return panel
    kept = {model: scores[:, mask] for model, scores in scored.scores.items()}
    if "auroc" in metrics:
        for model, scores in kept.items():
            _add_auroc(panel, model, scores, labels, patients, present, scored.classes)
    if "auprc" in metrics:
        # Named by who is in the group: two names for the same people give the same interval.
        members = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
        draws = Draws(int(patients.max()) + 1, replicates, seed, f"{scored.task}:{members}")
        _add_auprc(panel, kept, labels, patients, present, scored.classes, draws)
    return panel


def _sizes(positive: NDArray[np.bool_], patients: NDArray[np.int64]) -> Sizes:
    return Sizes(
        n=len(positive),
        n_pos=int(positive.sum()),
        n_neg=int((~positive).sum()),
        n_patients=len(np.unique(patients)),
        n_pos_patients=len(np.unique(patients[positive])),
        n_neg_patients=len(np.unique(patients[~positive])),
    )


def _add_auroc(
    panel: Panel,
    model: str,
    scores: Floats,
    labels: NDArray[np.int64],
    patients: NDArray[np.int64],
    present: Sequence[int],
    classes: Sequence[str],
) -> None:
    everything = [[auroc(scores[s, :, k], labels == k, patients) for s in range(len(scores))] for k in present]
    for k, by_seed in zip(present, everything, strict=True):
        terms = mean_influence(by_seed).terms
        values = np.array([influence.value for influence in by_seed])
        panel.measured[model, "auroc", classes[k]] = Measured("auroc", values, np.bincount(patients, weights=terms).astype(np.float64))
    _add_macro(panel, model, "auroc", [classes[k] for k in present])


def _add_auprc(
    panel: Panel,
    scores: dict[str, Floats],
    labels: NDArray[np.int64],
    patients: NDArray[np.int64],
    present: Sequence[int],
    classes: Sequence[str],
    draws: Draws,
) -> None:
    cells = [(model, k, s) for model in scores for k in present for s in range(len(scores[model]))]
    rankings = [rank(scores[model][s, :, k], labels == k, patients) for model, k, s in cells]
    once = np.ones((1, draws.patients), dtype=np.int32)
    values = np.array([weighted_metrics(ranking, once)[1][0] for ranking in rankings])
    replicates = bootstrap(rankings, draws)[1]
    for model in scores:
        for k in present:
            rows = [row for row, cell in enumerate(cells) if cell[:2] == (model, k)]
            panel.measured[model, "auprc", classes[k]] = Measured("auprc", values[rows], replicates[rows].mean(axis=0))
        _add_macro(panel, model, "auprc", [classes[k] for k in present])


def _add_macro(panel: Panel, model: str, metric: str, names: Sequence[str]) -> None:
    parts = [panel.measured[model, metric, name] for name in names]
    by_seed = np.mean([part.by_seed for part in parts], axis=0)
    panel.measured[model, metric, MACRO] = Measured(metric, by_seed, np.mean([part.spread for part in parts], axis=0))
