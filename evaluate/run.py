"""``evaluate run``: backbones and a labelled cohort to predictions and estimates."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import Cohort, PartDone, UserError, begin, finish, provenance, read_cohort, read_json, run_parts, write_parquet
from evaluate.embed import reuse_embedding
from evaluate.features import (
    NAME,
    POOLING,
    VIEW,
    Describer,
    Loader,
    Model,
    describe_features_model,
    extract_features,
    load_features_model,
)
from evaluate.labelled import LabelledImages, label_images, plan_task
from evaluate.overlap import check_pretraining
from evaluate.predictions import columns_of
from evaluate.probe import ADAPTATION, Settings, fit_probe
from evaluate.results import arrange, write_results
from evaluate.task import HoldoutSplit, Task

if TYPE_CHECKING:
    import pandas as pd

Sets = Mapping[str, LabelledImages]


def evaluate_models(
    models: Mapping[str, str],
    tasks: Sequence[Task],
    *,
    cohort: Path,
    shards: Path,
    out: Path,
    seeds: int = 5,
    seed: int = 0,
    replicates: int = 1000,
    workers: int = 0,
    loader: Loader = load_features_model,
    describe: Describer = describe_features_model,
) -> Path:
    """Probe every model on every task and write the evaluation folder.

    Args:
        models: name -> run folder, checkpoint file, ``timm:NAME`` or ``random:NAME``.
        tasks: what to predict; their names differ.
        cohort: the cohort folder.
        shards: the shard set whose held-out patients are tested on, where a task says so.
        out: the evaluation folder.
        seeds: heads for each model and task; they are seeded ``seed``, ``seed + 1``, ...
        seed: of the division of patients, the heads and the bootstrap.
        replicates: of the bootstrap.
        workers: processes; never changes the result.
        loader: gives a backbone and its description for a source.
        describe: gives the description alone.

    Returns:
        `out`.

    Raises:
        UserError: where a task doesn't fit the cohort, a patient would be in two splits or in a pre-training set, or
            `out` holds something else.
    """
    people = read_cohort(cohort)
    _distinct([task.name for task in tasks], "task")
    sets = {task.name: label_images(task, people, seed=seed, shards=shards) for task in tasks}
    plans = [plan_task(task, people, sets[task.name]) for task in tasks]
    backbones = [Model(name, source, describe(source)) for name, source in models.items()]
    notes = [*_patient_notes(people), *_overlap_notes(backbones, people, sets, shards)]
    specification = {
        "tasks": [task.model_dump() for task in tasks],
        "models": {model.name: model.source for model in backbones},
        "adaptation": {"name": ADAPTATION, "seeds": seeds, **asdict(Settings())},
        "bootstrap": {"replicates": replicates},
    }
    made_by = provenance(specification, _inputs(people, backbones, tasks, shards), seed)
    partial = begin(out, "evaluation.json", made_by)
    if partial is None:
        return out
    predictions = _predictions(partial, people, backbones, tasks, sets, range(seed, seed + seeds), workers, loader)
    about = {
        "made_by": made_by,
        "models": [model.described() for model in backbones],
        "adaptation": Settings().described(seeds),
        "features": {"view": VIEW, "pooling": POOLING},
        "chosen": _chosen(partial, backbones, tasks),
        "notes": notes,
    }
    write_results(partial, arrange(predictions, plans, heads=True), about, replicates=replicates, seed=seed)
    shutil.rmtree(partial / "cells")
    finish(out)
    return out


def finished_runs(folder: Path = Path("runs")) -> dict[str, str]:
    """Find every finished run, by its folder's name.

    Raises:
        UserError: where there is none.
    """
    found = {
        path.parent.name: str(path.parent)
        for path in sorted(folder.glob("*/run.json"))
        if not path.parent.name.endswith(".partial") and read_json(path, "a run").get("status") == "finished"
    }
    if not found:
        raise UserError(f"{folder}: no finished run here; name a model, as --model A=runs/a, --model base=timm:vit_small_patch16_224")
    return found


def parse_models(options: Sequence[str]) -> dict[str, str]:
    """Read ``--model NAME=SPEC`` options.

    Raises:
        UserError: where one isn't of that form or a name comes twice.
    """
    pairs = [option.partition("=") for option in options]
    for option, (name, _, source) in zip(options, pairs, strict=True):
        if not source or not NAME.fullmatch(name):
            raise UserError(
                f"--model {option}: expected NAME=RUN, NAME=FILE, NAME=timm:MODEL or NAME=random:MODEL, the name of letters, digits, . _ -"
            )
    _distinct([name for name, _, _ in pairs], "--model")
    return {name: source for name, _, source in pairs}


def _distinct(names: Sequence[str], what: str) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise UserError(f"{what} '{twice[0]}' is given twice; names must differ")


def _patient_notes(cohort: Cohort) -> list[str]:
    if not cohort.about.get("patients_known", True):
        return ["patients are unknown: each image counts as a patient, and intervals are too narrow where patients have several images"]
    unknown = int(cohort.table["patient_id"].isna().sum())
    return [f"{unknown} images have no patient and count as patients of their own"] if unknown else []


def _overlap_notes(models: Sequence[Model], cohort: Cohort, sets: Sets, shards: Path) -> list[str]:
    notes = []
    tests = {name: labelled.of("test") for name, labelled in sets.items()}
    for model in models:
        if (Path(model.source) / "run.json").exists():
            notes.append(check_pretraining(model.name, Path(model.source), cohort, tests, [shards]))
        elif not model.source.startswith("random:"):
            notes.append(f"{model.name}: what it was pre-trained on is not known here")
    return notes


def _inputs(cohort: Cohort, models: Sequence[Model], tasks: Sequence[Task], shards: Path) -> dict[str, str]:
    from curate import sha256_file

    inputs = {"cohort": cohort.digest, **{f"model {model.name}": str(model.info["sha256"]) for model in models}}
    if any(isinstance(task.split, HoldoutSplit) for task in tasks):
        inputs["holdout"] = sha256_file(shards / "private" / "holdout.parquet")
    return inputs


def _predictions(
    partial: Path,
    cohort: Cohort,
    models: Sequence[Model],
    tasks: Sequence[Task],
    sets: Sets,
    seeds: Sequence[int],
    workers: int,
    loader: Loader,
) -> pd.DataFrame:
    """Extract features, train a probe for each model and task, and put their predictions together."""
    import pandas as pd

    wanted = sorted(set().union(*(labelled.rows["image_id"] for labelled in sets.values())))
    images = cohort.table.set_index("image_id").loc[wanted]
    folder, cells = partial / "features", partial / "cells"
    folder.mkdir(exist_ok=True)
    cells.mkdir(exist_ok=True)
    write_parquet(folder / "images.parquet", images.reset_index()[["image_id", "sha256"]])
    paths = [cohort.images / path for path in images["path"]]
    share_done = None
    for model in models:
        reuse_embedding(cohort, model, wanted, folder / f"{model.name}.npy")
        try:
            extract_features(model, paths, folder, workers=workers, loader=loader)
        except PartDone as done:  # a task of an array job has a share of every model's images
            share_done = done
    if share_done:
        raise share_done
    parts = []
    for task in tasks:
        rows = sets[task.name].rows
        work = pd.DataFrame({"at": np.searchsorted(wanted, rows["image_id"]), "label": rows["label"], "split": rows["split"]})
        write_parquet(cells / f"{task.name}.parquet", work)
        for model in models:
            name = _cell_name(task, model)
            arguments = (
                folder / f"{model.name}.npy",
                cells / f"{task.name}.parquet",
                cells / f"{name}.npy",
                len(task.classes),
                list(seeds),
                task.name,
            )
            parts.append((name, len(seeds), arguments))
    run_parts(_probe_cell, parts, markers=cells, workers=workers, label="probes", unit="heads")
    frames = [_cell_frame(task, model, sets[task.name], cells, seeds) for task in tasks for model in models]
    return pd.concat(frames, ignore_index=True)


def _cell_name(task: Task, model: Model) -> str:
    return f"{hashlib.sha256(task.name.encode()).hexdigest()[:8]}-{task.name}-{model.name}"


def _probe_cell(features: Path, work: Path, result: Path, classes: int, seeds: list[int], task: str) -> dict[str, Any]:
    import pandas as pd

    from curate import write_array

    rows = pd.read_parquet(work)
    split = rows["split"].to_numpy()
    try:
        probe = fit_probe(
            np.load(features, mmap_mode="r")[rows["at"].to_numpy()],
            rows["label"].to_numpy(dtype=np.int64),
            split == "train",
            split == "val",
            classes=classes,
            seeds=seeds,
        )
    except ValueError as error:
        raise UserError(f"task {task}: {error}") from None
    write_array(result, probe.probabilities)
    return {"rates": probe.rates, "validation_auroc": probe.validation}


def _cell_frame(task: Task, model: Model, labelled: LabelledImages, cells: Path, seeds: Sequence[int]) -> pd.DataFrame:
    import pandas as pd

    kept = (labelled.rows["split"] != "train").to_numpy()
    probabilities = np.load(cells / f"{_cell_name(task, model)}.npy")
    base = labelled.rows[kept].assign(task=task.name, model=model.name, adaptation=ADAPTATION)
    frames = []
    for s, seed in enumerate(seeds):
        scores = pd.DataFrame(probabilities[s][kept], columns=columns_of(list(task.classes)), index=base.index)
        frames.append(pd.concat([base.assign(seed=seed), scores], axis=1))
    return pd.concat(frames, ignore_index=True)


def _chosen(partial: Path, models: Sequence[Model], tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """List the learning rate that each seed chose, and the validation AUROC that chose it."""
    cells = partial / "cells"
    return [
        {"task": task.name, "model": model.name, **read_json(cells / f"{_cell_name(task, model)}.done", "a finished cell")}
        for task in tasks
        for model in models
    ]
