"""Which lines stand in which panel: models side by side, and each model's groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate import figures as house
from evaluate.figures.drawing import MACRO, LeftOut, names_of, pages, sentence_list
from evaluate.figures.folder import TaskView
from evaluate.figures.panels import Line
from evaluate.panel import FEW, TOO_FEW
from evaluate.predictions import ScoredImages

CALIBRATED = ("reliability", "net-benefit")  # curves of one class at a time, on probabilities
MOST_GROUPS = 6  # lines of groups in one panel
MOST_MODELS = 12  # lines of one panel that can still be told apart
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Series:
    """One line of one panel: a model on some images, for one class or the average over classes.

    Attributes:
        model, attribute, group, name: which; `name` is a class or ``macro``.
        mask: (n,) its images.
    """

    model: str
    attribute: str
    group: str
    name: str
    mask: Booleans


@dataclass(frozen=True)
class Sheet:
    """What one figure holds: panels by title, each with its lines.

    Attributes:
        words: for the file's name.
        about: for title and caption, as ``by age``.
        titles: of the panels.
        lines: of every panel.
        series: (panels, lines).
        missing: what is not drawn, as a sentence, or ``""``.
    """

    words: tuple[str, ...]
    about: str
    titles: tuple[str, ...]
    lines: tuple[Line, ...]
    series: tuple[tuple[Series, ...], ...]
    missing: str = ""


def sheets_of_models(kind: str, view: TaskView, scored: ScoredImages, classes: Sequence[str]) -> Iterator[Sheet | LeftOut]:
    """Lay out everyone: a panel a class, a line a model.

    Args:
        kind: of curves.
        view, scored: the task and its images.
        classes: chosen ones; none: all, with their average where that can be drawn.
    """
    judged = list(classes or view.judged)
    shown = [*([MACRO] if not classes and len(judged) > 1 and kind not in CALIBRATED else []), *judged]
    everyone = np.ones(len(scored.patients), dtype=bool)
    usable = [name for name in shown if _present(view, scored, everyone, name)]
    if not usable:
        yield LeftOut(kind, view.words, "every test image is of one class")
        return
    single = names_of([name for name in usable if name != MACRO], 32)
    titles = [_panel_title(view, single.get(name, MACRO)) for name in usable]
    for part in pages(view.models, MOST_MODELS):
        names = names_of(part, 40)
        yield Sheet(
            words=(f"models-from-{view.models.index(part[0]) + 1}",) if len(view.models) > MOST_MODELS else (),
            about="everyone",
            titles=tuple(titles),
            lines=tuple(Line(names[m]) for m in part),
            series=tuple(tuple(Series(m, "all", "all", name, everyone) for m in part) for name in usable),
            missing=_missing_classes([n for n in shown if n not in usable]),
        )


def _panel_title(view: TaskView, name: str) -> str:
    if len(view.judged) == 1:
        return house.readable(view.title, most=60)
    return f"Average over {len(view.judged)} classes" if name == MACRO else f"class {name}" if name.isdigit() else name


def _missing_classes(names: Sequence[str]) -> str:
    return f"Not drawn, without positives or without negatives: {sentence_list(names)}. " if names else ""


def sheets_of_groups(kind: str, view: TaskView, scored: ScoredImages, classes: Sequence[str]) -> Iterator[Sheet | LeftOut]:
    """Lay out groups: a panel a model, a line a group; once an attribute and class.

    Args:
        kind: of curves.
        view, scored: the task and its images.
        classes: chosen ones; none: their average, or the one class of a two-class task.
    """
    names = classes or ([view.judged[0]] if len(view.judged) == 1 else [MACRO])
    if kind in CALIBRATED and list(names) == [MACRO]:
        if view.groups:
            yield LeftOut(kind, f"{view.words}, by group", "it is of one class at a time; choose one with --class")
        return
    models = names_of(view.models, 32)
    for attribute, groups in view.groups.items():
        for name in names:
            masks = {g: scored.groups[attribute] == g for g in groups}
            usable = [g for g in groups if _present(view, scored, masks[g], name)]
            empty = [g for g in groups if g not in usable]
            if not usable:
                yield LeftOut(kind, f"{view.words}, by {attribute}", "no group has both positives and negatives")
                continue
            sizes = {g: _scarcer(view, scored, masks[g], name) for g in usable}
            largest = sorted(sorted(usable, key=lambda g: -sizes[g])[:MOST_GROUPS], key=groups.index)
            left = [g for g in usable if g not in largest]
            told = _missing_classes(empty)
            if left:
                told += f"Of {len(usable)} groups the {MOST_GROUPS} with most positives and negatives are drawn; --group chooses others. "
            shown = names_of(largest, 26)
            yield Sheet(
                words=("by", attribute, *([name] if classes else [])),
                about=f"by {attribute}",
                titles=tuple(models.values()),
                lines=tuple(Line(shown[g], _flag(sizes[g])) for g in largest),
                series=tuple(tuple(Series(m, attribute, g, name, masks[g]) for g in largest) for m in view.models),
                missing=told,
            )


def _flag(scarcer: int) -> str:
    return "too few" if scarcer < TOO_FEW else "few" if scarcer < FEW else ""


def class_masks(view: TaskView, scored: ScoredImages, mask: Booleans, name: str) -> list[tuple[int, Booleans]]:
    """Give the classes that a curve averages, those with positives and negatives among the images, each with its images.

    Args:
        view, scored: the task and its images.
        mask: (n,) the images.
        name: a class or ``macro``.
    """
    wanted = view.judged if name == MACRO else (name,)
    found = []
    for k in (view.classes.index(n) for n in wanted):
        known = mask & scored.known[:, k]
        positives = int(scored.truth[known, k].sum())
        if 0 < positives < int(known.sum()):
            found.append((k, known))
    return found


def _present(view: TaskView, scored: ScoredImages, mask: Booleans, name: str) -> bool:
    return bool(class_masks(view, scored, mask, name))


def _scarcer(view: TaskView, scored: ScoredImages, mask: Booleans, name: str) -> int:
    sides = [scored.truth[known, k] for k, known in class_masks(view, scored, mask, name)]
    return min(min(int(s.sum()), int((~s).sum())) for s in sides)
