"""An evaluation folder as the figures read it: tables, images with their scores, and what of it was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import UserError, nearest, read_json, sha256_file
from evaluate.predictions import ScoredImages, scored_images

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("predictions", "estimates", "comparisons", "groups", "generalisation")


@dataclass(frozen=True)
class Choice:
    """What is to be drawn; an empty tuple stands for everything there is.

    Attributes:
        kinds: of figures.
        tasks, models, adaptations: by name.
        attributes: whose groups are drawn.
        groups: by name, whatever their attribute.
        classes: drawn one against the rest, in place of the average over classes.
    """

    kinds: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    adaptations: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskView:
    """One task with one adaptation, and what of it is drawn.

    Attributes:
        name, title, adaptation: of the task.
        classes: all its class names, in order.
        multilabel: whether an image may be of several.
        models: those drawn, in the order in which the evaluation names them.
        groups: attribute -> its groups that are drawn, in order.
        estimates, comparisons, gaps, generalisation: rows of the evaluation's tables; empty where there are none.
    """

    name: str
    title: str
    adaptation: str
    classes: tuple[str, ...]
    multilabel: bool
    models: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    estimates: pd.DataFrame
    comparisons: pd.DataFrame
    gaps: pd.DataFrame
    generalisation: pd.DataFrame

    @property
    def judged(self) -> tuple[str, ...]:
        """Classes that are judged one against the rest; of two exclusive ones the second."""
        return self.classes[1:] if len(self.classes) == 2 and not self.multilabel else self.classes

    @property
    def average(self) -> str:
        """What the macro average is, in words."""
        if len(self.judged) == 1:
            return f"of '{self.judged[0]}'"
        return f"macro average over {len(self.judged)} {'labels' if self.multilabel else 'classes, one against the rest'}"

    @property
    def words(self) -> str:
        """Task and adaptation for captions."""
        return f"{self.title} ({self.adaptation})"


class Evaluation:
    """A finished evaluation folder.

    Args:
        folder: with ``evaluation.json`` and at least one of the tables.
        choice: what is to be drawn.

    Raises:
        UserError: where it is no evaluation, or `choice` names what it doesn't hold.
    """

    def __init__(self, folder: Path, choice: Choice) -> None:
        import pandas as pd

        self.folder, self.choice = folder, choice
        self.about = read_json(folder / "evaluation.json", "an evaluation")
        self.tables: dict[str, pd.DataFrame] = {}
        self.inputs = {"evaluation": sha256_file(folder / "evaluation.json")}
        for name in TABLES:
            path = folder / f"{name}.parquet"
            self.tables[name] = pd.DataFrame()
            if path.exists():
                self.inputs[name] = sha256_file(path)
                self.tables[name] = _keys(path) if name == "predictions" else _with_threshold(_read(path))
        if not any(len(table) for table in self.tables.values()):
            raise UserError(f"{folder}: holds no predictions and no estimates; nothing to draw")
        self.tasks: list[dict[str, Any]] = _chosen(self.about.get("tasks", []), choice.tasks, "--task", lambda task: str(task["name"]))
        self.models = _chosen(self._names("model", [str(m["name"]) for m in self.about.get("models", [])]), choice.models, "--model", str)
        self.adaptations = _chosen(sorted(self._names("adaptation", [])), choice.adaptations, "--adapt", str)
        _chosen(self._of_tasks("groups"), choice.attributes, "--by", str)
        _chosen([g for task in self.tasks for groups in task.get("groups", {}).values() for g in groups], choice.groups, "--group", str)
        _chosen([c for task in self.tasks for c in task["classes"]], choice.classes, "--class", str)

    def _names(self, column: str, first: Sequence[str]) -> list[str]:
        """List the names that any table has, those of `first` first."""
        tables = [t for name, t in self.tables.items() if column in t.columns]
        there = dict.fromkeys(str(v) for table in tables for v in table[column].unique())
        return [*[n for n in dict.fromkeys(first) if n in there], *[n for n in there if n not in first]]

    def _of_tasks(self, key: str) -> list[str]:
        return list(dict.fromkeys(name for task in self.tasks for name in task.get(key, {})))

    def views(self) -> list[TaskView]:
        """Give every chosen task with every chosen adaptation it was evaluated with."""
        return [view for task in self.tasks for adaptation in self.adaptations if (view := self._view(task, adaptation)).models]

    def _view(self, task: dict[str, Any], adaptation: str) -> TaskView:
        def mine(name: str) -> pd.DataFrame:
            table = self.tables[name]
            return table[(table["task"] == task["name"]) & (table["adaptation"] == adaptation)] if len(table) else table

        estimates, comparisons, predictions = mine("estimates"), mine("comparisons"), mine("predictions")
        there = {str(m) for t in (estimates, predictions) if len(t) for m in t["model"].unique()}
        named = task.get("groups", {})
        order = [a for a in dict.fromkeys([*task.get("subgroups", []), *sorted(named)]) if a in named]
        chosen = self.choice
        groups = {a: tuple(g for g in named[a] if not chosen.groups or g in chosen.groups) for a in order}
        return TaskView(
            name=str(task["name"]),
            title=str(task.get("title") or task["name"]),
            adaptation=adaptation,
            classes=tuple(map(str, task["classes"])),
            multilabel=task.get("kind") == "multilabel",
            models=tuple(m for m in self.models if m in there),
            groups={a: g for a, g in groups.items() if g and (not chosen.attributes or a in chosen.attributes)},
            estimates=estimates,
            comparisons=comparisons,
            gaps=mine("groups"),
            generalisation=mine("generalisation"),
        )

    def scored(self, view: TaskView) -> ScoredImages | None:
        """Read the scores of one task's test images; None where the folder has no predictions."""
        path = self.folder / "predictions.parquet"
        if not path.exists():
            return None
        wanted = [("task", "==", view.name), ("adaptation", "==", view.adaptation), ("split", "==", "test"), ("model", "in", view.models)]
        table = _read(path, wanted)
        if not len(table):
            return None
        order = {a: list(groups) for a, groups in view.groups.items()}
        return scored_images(table, view.classes, order, multilabel=view.multilabel)[0]


def _read(path: Path, filters: Any = None) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path, filters=filters)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _keys(path: Path) -> pd.DataFrame:
    """Read which models were evaluated how: the predictions' scores are read when they are drawn."""
    import pandas as pd

    return pd.read_parquet(path, columns=["task", "model", "adaptation"]).drop_duplicates(ignore_index=True)


def _with_threshold(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column that folders of earlier versions lack."""
    return table if "threshold" in table.columns else table.assign(threshold="")


def _chosen(there: Iterable[Any], wanted: Sequence[str], option: str, name: Any) -> list[Any]:
    listed = list(there)
    names = list(dict.fromkeys(map(name, listed)))
    for one in wanted:
        if one not in names:
            raise UserError(f"{option} {one}: the evaluation has none of that name{nearest(one, names)}; it has {_few(names)}")
    return [item for item in listed if not wanted or name(item) in wanted]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"
