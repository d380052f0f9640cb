"""Measuring a group: every metric, threshold, class and model, with what its sampling error is computed from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.bootstrap import Draws, bootstrap
from evaluate.calibration import bin_gaps, brier, recalibration, replicate_ece
from evaluate.influence import Influence, auroc, count_patients, mean_influence
from evaluate.panel import MACRO, Line, Measured, Panel, Sizes, smallest
from evaluate.precision import Floats, precision_influence, rank, weighted_metrics
from evaluate.predictions import Booleans, ScoredImages
from evaluate.proportions import PROPORTIONS, net_benefit, proportion
from evaluate.thresholds import given_threshold, threshold_of

RANKED = ("auroc", "auprc", "auprc_adjusted")  # what the bootstrap gives too, where it is asked for
UNITS = 10_000  # more patients than these are resampled in as many random groups
OF_PROBABILITIES = ("brier", "ece", "calibration_slope", "calibration_intercept", "net_benefit")


def panels(
    scored: ScoredImages,
    metrics: Sequence[str],
    *,
    thresholds: Sequence[str] = (),
    net_benefit_at: Sequence[float] = (),
    replicates: int,
    seed: int,
    resampled: bool = False,
) -> Iterator[Panel]:
    """Measure everyone, then each group of each attribute in the order in which groups are shown.

    Args:
        scored: test images with the models' scores.
        metrics: which, see `task.METRICS`.
        thresholds: rules of `thresholds.threshold_of`; those that can't be had here are left out.
        net_benefit_at: threshold probabilities.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        resampled: see `Gauge`.
    """
    gauge = Gauge(scored, lines_of(scored, metrics, thresholds, net_benefit_at), replicates, seed, resampled=resampled)
    yield gauge.panel("all", "all", np.ones(len(scored.patients), dtype=bool))
    for attribute, groups in scored.order.items():
        for group in groups:
            yield gauge.panel(attribute, group, scored.groups[attribute] == group)


def lines_of(scored: ScoredImages, metrics: Sequence[str], thresholds: Sequence[str], net_benefit_at: Sequence[float]) -> tuple[Line, ...]:
    """Combine metrics with thresholds, leaving out what these scores can't give.

    Scores that are no probabilities have no calibration, no net benefit and no given thresholds; without a validation
    split there are only given ones.
    """
    usable = [t for t in thresholds if (scored.validation is not None if given_threshold(t) is None else scored.probabilities)]
    lines: list[Line] = []
    for metric in metrics:
        if metric in OF_PROBABILITIES and not scored.probabilities:
            continue
        if metric in PROPORTIONS:
            lines += [(metric, t) for t in usable]
        elif metric == "net_benefit":
            lines += [(metric, f"{at:g}") for at in net_benefit_at]
        else:
            lines.append((metric, ""))
    return tuple(lines)


def left_out(scored: ScoredImages, metrics: Sequence[str], thresholds: Sequence[str]) -> list[str]:
    """Say which metrics and thresholds `lines_of` left out, and why; nothing where none was."""
    notes, where = [], f"task {scored.task}, {scored.adaptation}"
    if scored.validation is None and any(metric in PROPORTIONS for metric in metrics):
        rules = [rule for rule in thresholds if given_threshold(rule) is None]
        if rules:
            notes.append(f"{where}: no threshold {', '.join(rules)}: there are no predictions for a validation split to fix it on")
    if not scored.probabilities:
        given = [rule for rule in thresholds if given_threshold(rule) is not None and any(metric in PROPORTIONS for metric in metrics)]
        names = [metric for metric in metrics if metric in OF_PROBABILITIES] + [f"threshold {rule}" for rule in given]
        if names:
            notes.append(f"{where}: no {', '.join(names)}: the scores are no probabilities, they only rank")
    return notes


class Gauge:
    """Measures groups of one set of images: what is the same for every group is found once.

    Args:
        scored: test images with the models' scores.
        lines: from `lines_of`.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        resampled: whether AUROC and AUPRC take their error from the bootstrap of patients, as ECE always does, and not
            from their influence functions. It takes longer by far and comes to the same.
    """

    def __init__(self, scored: ScoredImages, lines: Sequence[Line], replicates: int, seed: int, *, resampled: bool = False) -> None:
        self.scored, self.lines, self.replicates, self.seed = scored, tuple(lines), replicates, seed
        self.replicated = ("ece", *(RANKED if resampled else ()))
        known = np.maximum(scored.known.sum(axis=0), 1)
        self.prevalence = (scored.truth & scored.known).sum(axis=0) / known
        self.cuts = self._cuts()

    def _cuts(self) -> dict[tuple[str, str, str], Floats]:
        """Fix each model's, seed's and class's thresholds on the validation split."""
        rules = dict.fromkeys(threshold for metric, threshold in self.lines if metric in PROPORTIONS)
        cuts = {}
        for rule, (model, scores), k in ((r, m, k) for r in rules for m in self.scored.scores.items() for k in self.scored.judged):
            fixed, held = given_threshold(rule), self.scored.validation
            if fixed is not None:
                found = np.full(len(scores), fixed)
            else:
                assert held is not None
                known = held.known[:, k]
                found = np.array([threshold_of(rule, s[known, k], held.truth[known, k]) for s in held.scores[model]])
            cuts[model, rule, self.scored.classes[k]] = found
        return cuts

    def panel(self, attribute: str, group: str, mask: Booleans) -> Panel:
        """Measure the images of a group.

        Args:
            attribute, group: what to call it.
            mask: (n,) its images.
        """
        scored = self.scored
        codes, patients = np.unique(scored.patients[mask], return_inverse=True)
        members = _Members(mask, patients.astype(np.int64), len(codes), scored.truth[mask], scored.known[mask])
        names = [scored.classes[k] for k in scored.judged]
        sizes = {scored.classes[k]: members.sizes(k) for k in scored.judged}
        present = [name for name in names if min(sizes[name].n_pos, sizes[name].n_neg) > 0]
        sizes[MACRO] = smallest([sizes[name] for name in present or names])
        dropped = tuple(name for name in names if name not in present)
        panel = Panel(attribute, group, sizes, dropped, codes, self.lines, cuts=self.cuts)
        if len(codes):
            self._add_terms(panel, members)
            self._add_replicates(panel, members)
            self._add_macros(panel, names)
        return panel

    def _add_terms(self, panel: Panel, members: _Members) -> None:
        """Add every metric whose error comes from an influence function."""
        lines = [line for line in self.lines if line[0] not in self.replicated]
        for model, scores in self.scored.scores.items():
            for k in self.scored.judged:
                name, of = self.scored.classes[k], members.of(k)
                if not len(of.patients):
                    continue
                cuts = {line[1]: self.cuts[model, line[1], name] for line in lines if line[0] in PROPORTIONS}
                parts: dict[Line, list[Influence]] = {line: [] for line in lines}
                for s in range(len(scores)):
                    mine = of.scores(scores[s], k)
                    at = {rule: float(found[s]) for rule, found in cuts.items()}
                    for line, part in _influences(lines, mine, of.truth, of.patients, at, float(self.prevalence[k])):
                        parts[line].append(part)
                for line, by_seed in parts.items():
                    key = (model, *line, name)
                    values = np.array([part.value for part in by_seed])
                    if np.isnan(values).any():
                        panel.reasons[key] = _reason(line, values, cuts)
                        continue
                    mean = mean_influence(by_seed)
                    spread = np.bincount(of.patients, weights=mean.terms, minlength=members.count).astype(np.float64)
                    panel.measured[key] = Measured(line[0], values, spread, False, mean.images, mean.patients, (name,))

    def _add_replicates(self, panel: Panel, members: _Members) -> None:
        """Add the metrics whose error comes from the bootstrap of patients."""
        metrics = [metric for metric, _ in self.lines if metric in self.replicated]
        # Named by who is in the group: two names for the same people give the same interval.
        digest = hashlib.sha256(np.packbits(members.mask).tobytes()).hexdigest()
        name = f"{self.scored.task}:{digest}"
        ranked = [metric for metric in metrics if metric in RANKED]
        if ranked:
            self._add_ranked(panel, members, ranked, Draws(members.count, self.replicates, self.seed, name))
        if "ece" in metrics:
            self._add_ece(panel, members, name)

    def _add_ranked(self, panel: Panel, members: _Members, metrics: Sequence[str], draws: Draws) -> None:
        scored, names = self.scored, self.scored.classes
        judged = [k for k in scored.judged if names[k] not in panel.dropped]
        cells = [(model, k, s) for model in scored.scores for k in judged for s in range(len(scored.scores[model]))]
        rankings = []
        for model, k, s in cells:
            of = members.of(k)
            rankings.append(rank(of.scores(scored.scores[model][s], k), of.truth, of.patients))
        at = [float(self.prevalence[k]) for _, k, _ in cells]
        once = np.ones((1, draws.patients), dtype=np.int32)
        values = [weighted_metrics(ranking, once, prevalence) for ranking, prevalence in zip(rankings, at, strict=True)]
        found = bootstrap(rankings, draws, at)
        for metric in metrics:
            field = RANKED.index(metric)
            for model, k in dict.fromkeys(cell[:2] for cell in cells):
                rows = [row for row, cell in enumerate(cells) if cell[:2] == (model, k)]
                by_seed = np.array([values[row][field][0] for row in rows])
                size = panel.sizes[names[k]]
                spread = found[field][rows].mean(axis=0)
                panel.measured[model, metric, "", names[k]] = Measured(metric, by_seed, spread, True, size.n, size.scarcer, (names[k],))

    def _add_ece(self, panel: Panel, members: _Members, name: str) -> None:
        scored = self.scored
        draws = Draws(min(members.count, UNITS), self.replicates, self.seed, name)
        units = draws.units(members.count)
        cells, gaps, images = [], [], []
        for k in scored.judged:
            of = members.of(k)
            if not len(of.patients):
                continue
            mine = units[of.patients]
            held = np.bincount(mine, minlength=draws.patients)
            for model, scores in scored.scores.items():
                cells += [(model, k, s) for s in range(len(scores))]
                gaps += [bin_gaps(of.scores(s, k), of.truth, mine, draws.patients) for s in scores]
                images += [held] * len(scores)
        replicates, noise = replicate_ece(gaps, images, draws)
        values = [float(np.abs(g.sum(axis=0)).sum() / n.sum()) for g, n in zip(gaps, images, strict=True)]
        for model, k in dict.fromkeys(cell[:2] for cell in cells):
            rows = [row for row, cell in enumerate(cells) if cell[:2] == (model, k)]
            size = panel.sizes[scored.classes[k]]
            panel.measured[model, "ece", "", scored.classes[k]] = Measured(
                "ece",
                np.array(values)[rows],
                replicates[rows].mean(axis=0),
                True,
                size.n,
                size.n_patients,
                (scored.classes[k],),
                noise[rows].mean(axis=0),
            )

    def _add_macros(self, panel: Panel, names: Sequence[str]) -> None:
        for model in self.scored.scores:
            for line in self.lines:
                parts = [panel.measured[model, *line, name] for name in names if (model, *line, name) in panel.measured]
                if not parts:
                    continue
                noises = [part.noise for part in parts if part.noise is not None]
                panel.measured[model, *line, MACRO] = Measured(
                    line[0],
                    np.mean([part.by_seed for part in parts], axis=0),
                    np.mean([part.spread for part in parts], axis=0),
                    parts[0].replicated,
                    sum(part.images for part in parts),
                    min(part.patients for part in parts),
                    tuple(part.classes[0] for part in parts),
                    np.mean(noises, axis=0) if noises else None,
                )


@dataclass(frozen=True)
class _Members:
    """The images of a group: `patients` coded 0 to `count` - 1 within it, `truth` and `known` one column a class."""

    mask: Booleans
    patients: NDArray[np.int64]
    count: int
    truth: Booleans
    known: Booleans

    def of(self, k: int) -> _Known:
        """Give the images of which class `k` is known."""
        known = self.known[:, k]
        return _Known(np.flatnonzero(self.mask)[known], self.patients[known], self.truth[known, k])

    def sizes(self, k: int) -> Sizes:
        of = self.of(k)
        return Sizes(
            n=len(of.truth),
            n_pos=int(of.truth.sum()),
            n_neg=int((~of.truth).sum()),
            n_patients=count_patients(np.ones(len(of.truth), dtype=bool), of.patients),
            n_pos_patients=count_patients(of.truth, of.patients),
            n_neg_patients=count_patients(~of.truth, of.patients),
        )


@dataclass(frozen=True)
class _Known:
    """Images of a group whose truth is known for one class: where they are among all, their patients and that truth."""

    at: NDArray[np.intp]
    patients: NDArray[np.int64]
    truth: Booleans

    def scores(self, scores: Floats, k: int) -> Floats:
        return scores[self.at, k]


def _influences(
    lines: Sequence[Line], scores: Floats, truth: Booleans, patients: NDArray[np.int64], cuts: Mapping[str, float], prevalence: float
) -> Iterator[tuple[Line, Influence]]:
    """Estimate each line for one model, seed and class."""
    both: tuple[Influence, Influence] | None = None
    for line in lines:
        metric, threshold = line
        if metric in PROPORTIONS:
            if math.isnan(cuts[threshold]):
                yield line, Influence(math.nan, np.full(len(truth), math.nan))
            else:
                yield line, proportion(metric, scores >= cuts[threshold], truth, patients)
        elif metric == "net_benefit":
            yield line, net_benefit(scores, truth, patients, float(threshold))
        elif metric in ("calibration_slope", "calibration_intercept"):
            both = both or recalibration(scores, truth, patients)
            yield line, both[metric == "calibration_intercept"]
        elif metric == "brier":
            yield line, brier(scores, truth, patients)
        elif metric == "auroc":
            yield line, auroc(scores, truth, patients)
        else:
            yield line, precision_influence(scores, truth, patients, prevalence if metric == "auprc_adjusted" else None)


def _reason(line: Line, values: Floats, cuts: Mapping[str, Floats]) -> str:
    """Say why a metric can't be had, where the group's counts of positives and negatives don't."""
    metric, threshold = line
    seeds = f" with {int(np.isnan(values).sum())} of {len(values)} seeds" if len(values) > 1 else ""
    if metric in PROPORTIONS and np.isnan(cuts[threshold]).any():
        return "no threshold: the validation split holds one label only"
    if metric in ("ppv", "npv"):
        return f"no image is called {'positive' if metric == 'ppv' else 'negative'}{seeds}"
    if metric == "calibration_slope":
        return f"no slope: the classes are separated perfectly, or the probabilities do not vary{seeds}"
    return ""
