"""Cells: each task, model, adaptation and seed is learned by itself, anywhere and at any time.

Those on features take all seeds of an adaptation at once, for their products are then one; those on photographs are long
and go one by one. What a finished cell gave stays, so the same command does what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import PartDone, UserError, console, run_parts, worker_count, write_array, write_parquet
from evaluate.adaptations import Adaptation
from evaluate.classifiers import LogisticSettings, NeighbourSettings, fit_logistic, fit_neighbours
from evaluate.features import Loader, Model, extract_features, gpu_count
from evaluate.finetune import ImageCell, train_cell
from evaluate.heads import read_truth
from evaluate.labelled import LabelledImages
from evaluate.labels import label_columns
from evaluate.predictions import columns_of
from evaluate.probe import fit_probe
from evaluate.stored import StoredImages
from evaluate.task import Task
from evaluate.training import TrainingSettings, stored_shape

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Work:
    """Everything that cells are made of.

    Attributes:
        folder: of the artefact being made.
        tasks: what to predict.
        sets: task -> its images.
        models: the backbones.
        adaptations: how they are adapted.
        image_ids: of all tasks' images, rising.
        paths: of these images.
        workers: processes; 0 is one a core.
        loader: gives a backbone.
        keep_models: whether trained weights are kept.
    """

    folder: Path
    tasks: Sequence[Task]
    sets: Mapping[str, LabelledImages]
    models: Sequence[Model]
    adaptations: Sequence[Adaptation]
    image_ids: Sequence[str]
    paths: Sequence[Path]
    workers: int
    loader: Loader
    keep_models: bool

    @property
    def cells(self) -> Path:
        """Where cells keep what they made."""
        return self.folder / "cells"

    def on_photographs(self) -> list[Adaptation]:
        """Give the adaptations that train on photographs."""
        return [a for a in self.adaptations if a.on_photographs]

    def on_features(self) -> list[Adaptation]:
        """Give the adaptations that learn from features."""
        return [a for a in self.adaptations if not a.on_photographs]


def predict(work: Work) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Do every cell and put their predictions together.

    In an array job each task does its share of the features, the photographs and the cells that train on them; what
    learns from features is quick, and left to the call that collects.

    Returns:
        Rows of ``predictions.parquet`` of the splits ``val`` and ``test``, and for each cell what was chosen.

    Raises:
        PartDone: in a task of an array job.
        UserError: where an image can't be read, or a cell can't be learned.
    """
    work.cells.mkdir(exist_ok=True)
    waiting: PartDone | None = None
    for task in work.tasks:
        write_parquet(work.cells / f"{task.name}.parquet", _rows(work, task))
    if work.on_features():
        (work.folder / "features").mkdir(exist_ok=True)
        for model in work.models:
            try:
                extract_features(model, work.paths, work.folder / "features", workers=work.workers, loader=work.loader)
            except PartDone as done:  # a task has a share of every model's images
                waiting = done
    results: dict[str, dict[str, Any]] = {}
    if work.on_photographs():
        try:
            results |= _train(work, _store(work))
        except PartDone as done:
            waiting = done
    if waiting:
        raise waiting
    if work.on_features():
        results |= _learn(work)
    frames, chosen = [], []
    for task in work.tasks:
        for model in work.models:
            for adaptation in work.adaptations:
                for place, seed in enumerate(adaptation.seeds):
                    name, row = _result(task, model, adaptation, seed), 0 if adaptation.on_photographs else place
                    frames.append(_frame(work, task, model, adaptation, seed, np.load(work.cells / f"{name}.npy", mmap_mode="r")[row]))
                    which = {"task": task.name, "model": model.name, "adaptation": adaptation.name, "seed": seed}
                    chosen.append({**which, **results[name]["chosen"][row]})
    import pandas as pd

    return pd.concat(frames, ignore_index=True), chosen


def _rows(work: Work, task: Task) -> pd.DataFrame:
    """Give a task's images as cells see them: their places among all, their splits, their truth."""
    rows = work.sets[task.name].rows
    truth = [c for c in ("label", *label_columns(len(task.classes))) if c in rows.columns]
    return rows[["split", *truth]].assign(
        at=np.searchsorted(np.asarray(work.image_ids, dtype=object), rows["image_id"].to_numpy(dtype=object))
    )


def _result(task: Task, model: Model, adaptation: Adaptation, seed: int) -> str:
    """Name the cell's file: one a seed where photographs are trained on, else one for all seeds."""
    # Names of tasks and models may hold hyphens, and differ in nothing but case.
    digest = hashlib.sha256("\0".join((task.name, model.name, adaptation.name)).encode()).hexdigest()[:8]
    name = f"{digest}-{task.name}-{model.name}-{adaptation.name}"
    return f"{name}-{seed}" if adaptation.on_photographs else name


def _learn(work: Work) -> dict[str, dict[str, Any]]:
    parts = []
    for task in work.tasks:
        for model in work.models:
            for adaptation in work.on_features():
                name = _result(task, model, adaptation, 0)
                features = work.folder / "features" / f"{model.name}.npy"
                arguments = (
                    features,
                    work.cells / f"{task.name}.parquet",
                    work.cells / f"{name}.npy",
                    adaptation,
                    len(task.classes),
                    task.name,
                )
                parts.append((name, len(adaptation.seeds), arguments))
    done = run_parts(_learn_cell, parts, markers=work.cells, workers=work.workers, label="classifiers on features", unit="heads")
    return dict(zip((name for name, _, _ in parts), done, strict=True))


def _learn_cell(features: Path, rows: Path, result: Path, adaptation: Adaptation, classes: int, task: str) -> dict[str, Any]:
    import pandas as pd

    images = pd.read_parquet(rows)
    split = images["split"].to_numpy()
    seen = np.load(features, mmap_mode="r")[images["at"].to_numpy()]
    given = (seen, read_truth(images, classes), split == "train", split == "val")
    settings = adaptation.settings
    try:
        if isinstance(settings, LogisticSettings):
            fitted = fit_logistic(*given, settings=settings)
        elif isinstance(settings, NeighbourSettings):
            fitted = fit_neighbours(*given, settings=settings)
        else:
            assert not isinstance(settings, TrainingSettings)
            fitted = fit_probe(*given, seeds=adaptation.seeds, settings=settings)
    except ValueError as error:
        raise UserError(f"task {task}: {adaptation.name}: {error}") from None
    write_array(result, fitted.probabilities[:, split != "train"])
    return {"chosen": fitted.chosen}


def _store(work: Work) -> dict[tuple[int, int], StoredImages]:
    """Decode and resize all photographs; in an array job this task's share, the cells then fill in what they miss."""
    shapes = sorted({stored_shape(model.info) for model in work.models})
    images = {(h, w): StoredImages(work.folder / "photographs" / f"{w}x{h}", work.paths, (h, w)) for h, w in shapes}
    (work.folder / "photographs").mkdir(exist_ok=True)
    for stored in images.values():
        try:
            stored.store(workers=work.workers)
        except PartDone:
            continue
    return images


def _train(work: Work, images: Mapping[tuple[int, int], StoredImages]) -> dict[str, dict[str, Any]]:
    """Train every model on photographs, a process for each GPU, or one a core where there is none."""
    import pandas as pd

    cores = worker_count(work.workers)
    processes = min(gpu_count() or cores, cores)
    if work.keep_models:
        (work.folder / "models").mkdir(exist_ok=True)
    cells = [
        (task, model, adaptation, seed)
        for task in work.tasks
        for model in work.models
        for adaptation in work.on_photographs()
        for seed in adaptation.seeds
    ]
    rows = {task.name: pd.read_parquet(work.cells / f"{task.name}.parquet") for task in work.tasks}
    parts = []
    for number, (task, model, adaptation, seed) in enumerate(cells):
        assert isinstance(adaptation.settings, TrainingSettings)
        name = _result(task, model, adaptation, seed)
        stored = images[stored_shape(model.info)]
        cell = ImageCell(
            task=task.name,
            model=model,
            loader=work.loader,
            images=stored,
            places=rows[task.name]["at"].to_numpy(dtype=np.int64),
            split=rows[task.name]["split"].to_numpy(dtype=object),
            truth=read_truth(rows[task.name], len(task.classes)),
            settings=adaptation.settings,
            frozen=adaptation.name == "probe-paper",
            seed=seed,
            result=work.cells / f"{name}.npy",
            keep=work.folder / "models" / f"{name}.safetensors" if work.keep_models else None,
            first=number * stored.files // len(cells),
            threads=cores // processes,
            talk=not console.mode.quiet,
        )
        parts.append((name, adaptation.settings.epochs, (cell,)))
    done = run_parts(train_cell, parts, markers=work.cells, workers=processes, label="training on photographs", unit="epochs")
    return dict(zip((name for name, _, _ in parts), done, strict=True))


def _frame(work: Work, task: Task, model: Model, adaptation: Adaptation, seed: int, probabilities: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    rows = work.sets[task.name].rows
    base = rows[(rows["split"] != "train").to_numpy()].assign(task=task.name, model=model.name, adaptation=adaptation.name, seed=seed)
    return pd.concat([base, pd.DataFrame(probabilities, columns=columns_of(list(task.classes)), index=base.index)], axis=1)
