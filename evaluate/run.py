"""``evaluate run``: backbones and a labelled cohort to predictions and estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from curate import Cohort, UserError, begin, drop, finish, provenance, read_cohort, read_json, sha256_file, write_parquet
from evaluate.adaptations import Adaptation, choose_adaptations
from evaluate.cells import Work, predict
from evaluate.embed import reuse_embedding
from evaluate.features import (
    NAME,
    POOLING,
    VIEW,
    Describer,
    Loader,
    Model,
    describe_features_model,
    load_features_model,
)
from evaluate.labelled import LabelledImages, label_images, plan_task
from evaluate.labels import with_classes
from evaluate.overlap import check_pretraining
from evaluate.results import arrange, write_results
from evaluate.task import HoldoutSplit, Task

Sets = Mapping[str, LabelledImages]


def evaluate_models(
    models: Mapping[str, str],
    tasks: Sequence[Task],
    *,
    cohort: Path,
    shards: Path,
    out: Path,
    adapt: Sequence[str] | None = None,
    changes: Sequence[str] | None = None,
    seeds: int = 5,
    seed: int = 0,
    replicates: int = 1000,
    resampled: bool = False,
    keep_models: bool = False,
    workers: int = 0,
    loader: Loader = load_features_model,
    describe: Describer = describe_features_model,
) -> Path:
    """Adapt every model to every task in every way and write the evaluation folder.

    Args:
        models: name -> run folder, checkpoint file, ``timm:NAME`` or ``random:NAME``.
        tasks: what to predict; their names differ.
        cohort: the cohort folder.
        shards: the shard set whose held-out patients are tested on, where a task says so.
        out: the evaluation folder.
        adapt: adaptations by name, or ``all``; None: ``probe-cached``.
        changes: of their settings, as ``finetune.epochs=5``.
        seeds: heads for each model, task and adaptation; they are seeded ``seed``, ``seed + 1``, ...
        seed: of the division of patients, the heads and the bootstrap.
        replicates: of the bootstrap.
        resampled: whether AUROC and AUPRC are bootstrapped too, in place of their influence functions.
        keep_models: whether the weights of models trained on photographs are kept, under ``models/``.
        workers: processes; never changes the result.
        loader: gives a backbone and its description for a source.
        describe: gives the description alone.

    Returns:
        `out`.

    Raises:
        UserError: where a task doesn't fit the cohort, a patient would be in two splits or in a pre-training set, or
            `out` holds something else.
        PartDone: in a task of an array job, when its share is done.
    """
    adaptations = choose_adaptations(adapt, changes, seeds=seeds, seed=seed)
    people = read_cohort(cohort)
    _distinct([task.name for task in tasks], "task")
    tasks = [with_classes(task, people.table, f"{people.folder}/cohort.parquet") for task in tasks]
    sets = {task.name: label_images(task, people, seed=seed, shards=shards) for task in tasks}
    plans = [plan_task(task, people, sets[task.name]) for task in tasks]
    backbones = [Model(name, source, describe(source)) for name, source in models.items()]
    notes = [
        *_patient_notes(people),
        *(note for labelled in sets.values() for note in labelled.notes),
        *_overlap_notes(backbones, people, sets, shards),
        *_seed_notes(adaptations, seeds),
    ]
    specification = {
        "tasks": [task.model_dump() for task in tasks],
        "models": {model.name: model.source for model in backbones},
        "adaptations": {adaptation.name: adaptation.specification() for adaptation in adaptations},
        "keep_models": keep_models,
        "bootstrap": {"replicates": replicates, "resampled": resampled},
    }
    made_by = provenance(specification, _inputs(people, backbones, tasks, shards), seed)
    partial = begin(out, "evaluation.json", made_by)
    if partial is None:
        return out
    predictions, chosen = predict(_work(partial, people, tasks, sets, backbones, adaptations, workers, loader, keep_models))
    about = {
        "made_by": made_by,
        "models": [model.described() for model in backbones],
        "adaptations": {adaptation.name: adaptation.described() for adaptation in adaptations},
        "features": {"view": VIEW, "pooling": POOLING},
        "chosen": chosen,
        "notes": notes,
    }
    write_results(partial, arrange(predictions, plans, heads=True), about, replicates=replicates, seed=seed, resampled=resampled)
    for name in ("cells", "photographs"):
        drop(partial / name)
    finish(out)
    return out


def _work(
    partial: Path,
    people: Cohort,
    tasks: Sequence[Task],
    sets: Sets,
    models: Sequence[Model],
    adaptations: Sequence[Adaptation],
    workers: int,
    loader: Loader,
    keep_models: bool,
) -> Work:
    """Gather the images of all tasks, and features that ``evaluate embed`` has made of them."""
    wanted = sorted(set().union(*(labelled.rows["image_id"] for labelled in sets.values())))
    images = people.table.set_index("image_id").loc[wanted]
    work = Work(
        folder=partial,
        tasks=tasks,
        sets=sets,
        models=models,
        adaptations=adaptations,
        image_ids=wanted,
        paths=[people.images / path for path in images["path"]],
        workers=workers,
        loader=loader,
        keep_models=keep_models,
    )
    if work.on_features():
        folder = partial / "features"
        folder.mkdir(exist_ok=True)
        write_parquet(folder / "images.parquet", images.reset_index()[["image_id", "sha256"]])
        for model in models:
            reuse_embedding(people, model, wanted, folder / f"{model.name}.npy")
    return work


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


def _seed_notes(adaptations: Sequence[Adaptation], seeds: int) -> list[str]:
    once = [adaptation.name for adaptation in adaptations if len(adaptation.seeds) < seeds]
    return [f"{' and '.join(once)}: no chance in it, so one head and no variation over seeds"] if once else []


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
    inputs = {"cohort": cohort.digest, **{f"model {model.name}": str(model.info["sha256"]) for model in models}}
    if (cohort.folder / "duplicates.parquet").exists():
        inputs["duplicates"] = sha256_file(cohort.folder / "duplicates.parquet")
    if any(isinstance(task.split, HoldoutSplit) for task in tasks):
        inputs["holdout"] = sha256_file(shards / "private" / "holdout.parquet")
    return inputs
