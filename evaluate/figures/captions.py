"""What the captions of curves say: what is drawn, averaged how, with which intervals, about what."""

from __future__ import annotations

from collections.abc import Sequence

from evaluate.calibration import BINS
from evaluate.figures.drawing import MACRO, metric_words, threshold_words
from evaluate.figures.folder import TaskView
from evaluate.figures.series import Series, Sheet
from evaluate.panel import FEW, TOO_FEW
from evaluate.predictions import ScoredImages

FEW_IN_BIN = 10  # images; a bin of fewer isn't joined to others
TITLES = {
    "roc": "ROC curves",
    "precision-recall": "Precision-recall curves",
    "reliability": "Reliability",
    "net-benefit": "Net benefit",
}
BODIES = {
    "roc": (
        "Curves are averaged over {seeds}: at each false-positive rate stands the mean sensitivity, so that the area is the AUROC of the "
        "estimates; classes are averaged in the same way. Dotted: chance."
    ),
    "precision-recall": (
        "Curves are averaged over {seeds}: at each recall stands the mean precision, so that the area under the steps is the AUPRC of the "
        "estimates; classes are averaged in the same way. Dotted: the share of positives, which is the precision of chance; groups with "
        "different shares are not to be compared by AUPRC."
    ),
    "reliability": (
        f"Share of positives against mean predicted probability, in {BINS} bins of equal width, those of the expected calibration error, "
        "with the predictions of {seeds} together. Upright lines: 95 % intervals (Wilson, on the number of images that the error amounts "
        "to, patients as clusters), about these models on new patients like those tested; several lines stand side by side by a hair's "
        "breadth. Below: the share of images in each bin. Dotted: perfect calibration. Hollow points: fewer than "
        f"{FEW_IN_BIN} images, which no line joins."
    ),
    "net-benefit": (
        "True positives less false positives weighed by the odds of the threshold probability, per image (Vickers and Elkin 2006), against "
        "that probability; the mean over {seeds}. Dotted: treating everybody; 0: treating nobody. A model is of use where its line is "
        "above both."
    ),
}


def caption(kind: str, view: TaskView, scored: ScoredImages, sheet: Sheet, drawn: Sequence[Series], thresholds: Sequence[str]) -> str:
    """Write a curve figure's caption.

    Args:
        kind: of curves.
        view, scored: the task and its images.
        sheet: the figure.
        drawn: its lines.
        thresholds: whose operating points are marked.
    """
    many = sorted({len(scored.scores[m]) for m in view.models})
    seeds = "one seed" if many == [1] else f"{many[0]} seeds" if len(many) == 1 else f"{many[0]} to {many[-1]} seeds"
    names = {s.name for s in drawn}
    what = view.average if MACRO in names or len(view.judged) == 1 else "one class against the rest"
    if MACRO in names and len(names) > 1:
        what = "single classes against the rest, and their average"
    groups = sheet.about != "everyone"
    whom = (
        f"the groups of {sheet.about.removeprefix('by ')}, one panel a model" if groups else "everyone in the test split, one line a model"
    )
    sentences = [f"{view.words}: {TITLES[kind][0].lower() if kind != 'roc' else 'R'}{TITLES[kind][1:]} for {whom} ({what})."]
    sentences += [BODIES[kind].format(seeds=seeds), _intervals(view, kind)]
    if thresholds:
        sentences.append(f"Points: the mean over seeds at {' and at '.join(map(threshold_words, thresholds))}.")
    if any(line.few for line in sheet.lines):
        sentences.append(f"Few: fewer than {FEW} positives or negatives; too few: fewer than {TOO_FEW}.")
    return " ".join(s for s in [*sentences, sheet.missing] if s)


def _intervals(view: TaskView, kind: str) -> str:
    """Say which intervals a figure shows, as the estimates name them."""
    metric = {"roc": "auroc", "precision-recall": "auprc", "net-benefit": "net_benefit"}.get(kind)
    rows = view.estimates[view.estimates["metric"] == metric] if metric and len(view.estimates) else view.estimates[:0]
    if not len(rows):
        return ""
    first = rows.iloc[0]
    where = "Upright lines" if kind == "net-benefit" else "Numbers in the panels"
    return f"{where}: {metric_words(str(metric))} with 95 % intervals ({first['method']}), about {first['estimand']}."
