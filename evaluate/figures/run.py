"""``evaluate figures``: every figure of an evaluation, into a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import UserError, begin, discard, figures, finish, nearest, provenance, read_json, write_json, writing
from curate.console import progress
from evaluate.figures.bars import bars
from evaluate.figures.drawing import Drawn, LeftOut
from evaluate.figures.folder import Choice, Evaluation, TaskView
from evaluate.figures.forests import differences, estimates, gaps, thresholds
from evaluate.figures.generalisation import generalisability
from evaluate.figures.lines import KINDS as CURVES
from evaluate.figures.lines import curve_figures

if TYPE_CHECKING:
    import pandas as pd

FORESTS: dict[str, Callable[[TaskView, Sequence[str]], Iterator[Drawn | LeftOut]]] = {
    "differences": differences,
    "estimates": estimates,
    "thresholds": thresholds,
    "gaps": gaps,
    "generalisability": generalisability,
}
KINDS = ("bars", *FORESTS, *CURVES)
LONGEST = 40  # letters of a name within a file's name


def draw_figures(evaluation: Path, *, out: Path | None = None, choice: Choice | None = None) -> Path:
    """Draw an evaluation's figures as PNG and SVG, each with a CSV of its numbers, and describe them in ``figures.json``.

    Args:
        evaluation: a finished evaluation folder; nothing else is read.
        out: the folder to make; None: the evaluation's name with ``-figures`` behind it.
        choice: what is drawn; None: everything.

    Returns:
        The folder.

    Raises:
        UserError: where there is no evaluation, or `choice` names what it hasn't, or nothing can be drawn.
    """
    choice = choice or Choice()
    for kind in choice.kinds:
        if kind not in KINDS:
            raise UserError(f"--figures {kind}: no figure of that name{nearest(kind, KINDS)}; there are {', '.join(KINDS)}")
    out = out or evaluation.with_name(f"{evaluation.resolve().name}-figures")
    read = Evaluation(evaluation, choice)
    made_by = provenance({"choice": vars(choice)}, read.inputs)
    folder = begin(out, "figures.json", made_by)
    if folder is None:
        return out
    drawn: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    taken: set[str] = set()
    wanted = choice.kinds or KINDS
    with figures.style(), progress(len(read.views()) * (len(wanted)), "drawing", "kinds of figures") as advance:
        for one in _all(read, wanted, advance):
            if isinstance(one, LeftOut):
                left_out.append({"figure": one.kind, "of": one.of, "why": one.why})
            else:
                drawn.append(_write(folder, one, taken))
    if not drawn:
        discard(out)
        raise UserError(f"{evaluation}: nothing to draw: {'; '.join(dict.fromkeys(_sentence(row) for row in left_out)) or 'no task'}")
    write_json(folder / "figures.json", {"made_by": made_by, "figures": drawn, "left_out": left_out})
    finish(out)
    return out


def described(out: Path) -> tuple[dict[str, Any], list[str]]:
    """Read back what was drawn: ``figures.json``, and a line for each figure that was left out."""
    about = read_json(out / "figures.json", "the figures of an evaluation")
    return about, [_sentence(row) for row in about["left_out"]]


def _sentence(row: dict[str, str]) -> str:
    return f"{row['figure']} left out ({row['of']}): {row['why']}"


def _all(read: Evaluation, wanted: Sequence[str], advance: Callable[[int], None]) -> Iterator[Drawn | LeftOut]:
    views = read.views()
    if "bars" in wanted:
        yield from bars(views, read.models)
        advance(len(views))
    for view in views:
        classes = [c for c in read.choice.classes if c in view.judged]
        if not classes and read.choice.classes:
            yield LeftOut("all figures but bars", view.words, f"it judges none of the classes {', '.join(read.choice.classes)}")
            continue
        for kind, forest in FORESTS.items():
            if kind in wanted:
                yield from forest(view, classes)
                advance(1)
        curves = [kind for kind in CURVES if kind in wanted]
        scored = read.scored(view) if curves else None
        for kind in curves:
            yield from curve_figures(kind, view, scored, classes)
            advance(1)


def _write(folder: Path, one: Drawn, taken: set[str]) -> dict[str, Any]:
    """Write one figure and its numbers, and give its entry in ``figures.json``."""
    stem = _stem((one.kind, *one.words), taken)
    if (engine := one.figure.get_layout_engine()) is not None:
        engine.execute(one.figure)  # once for both files, and without a drawing for nothing
        one.figure.set_layout_engine(None)
    files = figures.save(one.figure, folder / stem, title=figures.readable(one.title, most=200))
    _write_csv(folder / f"{stem}.csv", one.numbers)
    return {
        "kind": one.kind,
        "title": one.title,
        "caption": " ".join(one.caption.split()),
        "files": [*[f.name for f in files], f"{stem}.csv"],
    }


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with writing(path, "w") as file:
        table.map(_no_formula).to_csv(file, index=False, lineterminator="\n")


def _no_formula(value: Any) -> Any:
    """Keep a spreadsheet from taking a name for a formula: an apostrophe goes before what could begin one."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _stem(words: Sequence[str], taken: set[str]) -> str:
    """Name files after what they show, whatever characters that has; no two alike."""
    stem = "-".join(re.sub(r"[^0-9A-Za-z_.]+", "-", word).strip("-.")[:LONGEST] or "name" for word in words)[:180]
    name, place = stem, 2
    while name.lower() in taken:
        name, place = f"{stem}-{place}", place + 1
    taken.add(name.lower())
    return name
