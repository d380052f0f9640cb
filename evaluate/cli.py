"""The command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate import console
from curate.command import Bins, CohortDir, Debug, Json, Part, Quiet, Scheduler, Seed, ShardsDir, Workers, new_app

app = new_app("Measure whom a model serves, and how sure we are.")

Out = Annotated[Path, typer.Option("--out", help="The evaluation folder to make.")]
By = Annotated[str | None, typer.Option("--by", metavar="COLUMNS", help="Subgroups, as age,sex,ethnicity.")]
Bootstrap = Annotated[
    bool, typer.Option("--bootstrap", help="Intervals of AUROC and AUPRC from the bootstrap of patients too, not from influence functions.")
]
Metrics = Annotated[str | None, typer.Option("--metrics", metavar="NAMES", help="As auroc,sensitivity.  [default: all]")]
Replicates = Annotated[int, typer.Option(min=100, help="Replicates of the bootstrap.")]


@app.command("run")
def run_command(
    task: Annotated[
        list[str] | None, typer.Option("--task", help="Task file (YAML), or a task of those that evaluate tasks lists; repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME=SPEC",
            help="A run's folder, a checkpoint's file, timm:MODEL or random:MODEL; repeatable.  [default: every finished run in runs/]",
        ),
    ] = None,
    cohort: CohortDir = Path("cohort"),
    shards: ShardsDir = Path("shards"),
    out: Out = Path("evaluation"),
    adapt: Annotated[
        list[str] | None,
        typer.Option(help="finetune, probe-paper, probe-cached, logistic, knn, or all; repeatable.  [default: probe-cached]"),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME.FIELD=VALUE", help="Change an adaptation, as finetune.epochs=5; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Heads trained for each model, task and adaptation.")] = 5,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep the weights that finetune and probe-paper train.")] = False,
    by: By = None,
    bins: Bins = None,
    seed: Seed = 0,
    replicates: Replicates = 1000,
    bootstrap: Bootstrap = False,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    part: Part = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Adapt backbones to a labelled cohort: predictions, estimates by subgroup, comparisons."""
    from curate import UserError
    from evaluate.report import report
    from evaluate.run import evaluate_models, finished_runs, parse_models
    from evaluate.task import find_task, read_task, with_groups

    _warn_of_namesake()
    if not task:
        raise UserError("--task is missing: give a task file (YAML with name, label, classes, split), as --task dr.yaml")
    tasks = [with_groups(read_task(find_task(given)), by, bins) for given in task]
    models = parse_models(model) if model else finished_runs()
    evaluate_models(
        models, tasks, cohort=cohort, shards=shards, out=out, adapt=adapt, changes=set_, seeds=seeds, seed=seed, replicates=replicates,
        resampled=bootstrap, keep_models=keep_models, workers=workers,
    )  # fmt: skip
    console.result(report(out))


@app.command("tasks")
def tasks_command(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the task files that come with evenfooting, for evaluate run --task NAME."""
    from evaluate.task import read_task, shipped_tasks

    shipped = {name: (path, read_task(path)) for name, path in shipped_tasks().items()}
    rows = [[name, task.title, task.label or "rules", str(path)] for name, (path, task) in shipped.items()]
    console.table(["task", "title", "label", "file"], rows)
    console.result({name: {"file": str(path), **task.model_dump()} for name, (path, task) in shipped.items()})


@app.command("embed")
def embed_command(
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="SPEC", help="A run's folder, a checkpoint's file (FILE or FILE@PIXELS), timm:MODEL or random:MODEL."
        ),
    ],
    cohort: Annotated[Path, typer.Argument(help="The cohort folder.")] = Path("cohort"),
    name: Annotated[str | None, typer.Option(help="Of the embedding: latent-NAME.parquet.  [default: the model's]")] = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    part: Part = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compute the latent features of every image of a cohort."""
    from evaluate.embed import embed_cohort

    _warn_of_namesake()
    made = embed_cohort(cohort, model, name=name, workers=workers)
    file = cohort / f"latent-{made['model']['name']}.parquet"
    console.say(f"{file}: {made['images']:,} images, {made['width']:,} features each ({made['model']['architecture']})")
    console.result(made)


@app.command("score")
def score_command(
    file: Annotated[Path, typer.Argument(help="Predictions: CSV or Parquet with a column label, or label_0, label_1, ...")],
    score: Annotated[str | None, typer.Option(metavar="COLUMN", help="The score of two classes: higher is more likely 1.")] = None,
    scores: Annotated[str | None, typer.Option(metavar="PREFIX", help="Probabilities, one column a class, as p_ for p_0, p_1, ...")] = None,
    logits: Annotated[str | None, typer.Option(metavar="PREFIX", help="Logits, one column a class, or one for two classes.")] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="The truth of several labels, one column a label.  [default: label_]")
    ] = None,
    classes: Annotated[str | None, typer.Option(metavar="NAMES", help="Class names in order, as none,mild,severe.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="A field's name in the file, as image_id=ID; repeatable.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Which task, where the file holds several; else the name to give it.")] = None,
    cohort: Annotated[Path | None, typer.Option(help="A cohort folder: patients and subgroups from there, and no other images.")] = None,
    out: Out = Path("evaluation"),
    by: By = None,
    bins: Bins = None,
    metrics: Metrics = None,
    thresholds: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="As youden,specificity=0.9,0.5.  [default: the first two, where there are validation rows]"),
    ] = None,
    net_benefit_at: Annotated[
        str | None, typer.Option(metavar="LIST", help="Threshold probabilities.  [default: 0.05,0.1,0.2,0.3]")
    ] = None,
    seed: Seed = 0,
    replicates: Replicates = 1000,
    bootstrap: Bootstrap = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Estimate from predictions that any tool made; needs no torch."""
    from evaluate.report import report
    from evaluate.score import score_file

    _warn_of_namesake()
    score_file(
        file, score=score, scores=scores, logits=logits, labels=labels, classes=classes, mapping=map_, task=task, out=out, cohort=cohort,
        by=by, bins=bins, metrics=metrics, thresholds=thresholds, net_benefit_at=net_benefit_at, seed=seed, replicates=replicates,
        resampled=bootstrap,
    )  # fmt: skip
    console.result(report(out))


@app.command("compare")
def compare_command(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EVALUATION]...", help="Evaluation folders, or files with p_0, p_1, ...; NAME=PATH renames.  [default: evaluation]"
        ),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Compare these models; repeatable.  [default: all]")] = None,
    adapt: Annotated[list[str] | None, typer.Option(help="Of these adaptations; repeatable.  [default: all]")] = None,
    task: Annotated[list[str] | None, typer.Option(help="On these tasks; repeatable.  [default: all]")] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=SITE", help="Where a model was trained, with --by site; repeatable.  [default: as its run says]"),
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="A cohort folder that has the columns of --by.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder to make.")] = Path("comparison"),
    by: By = None,
    bins: Bins = None,
    metrics: Metrics = None,
    seed: Seed = 0,
    replicates: Replicates = 1000,
    bootstrap: Bootstrap = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare models that were evaluated together or apart, on the same images; at home and away with --trained-on."""
    from evaluate.compare import Chosen, compare_models
    from evaluate.report import report

    _warn_of_namesake()
    chosen = Chosen(tuple(model or ()), tuple(adapt or ()), tuple(task or ()))
    compare_models(
        sources or ["evaluation"], out=out, chosen=chosen, cohort=cohort, by=by, bins=bins, metrics=metrics, trained_on=trained_on or (),
        seed=seed, replicates=replicates, resampled=bootstrap,
    )  # fmt: skip
    console.result(report(out))


@app.command("power")
def power_command(
    evaluation: Annotated[Path, typer.Argument(help="The evaluation folder whose errors are used.")] = Path("evaluation"),
    model: Annotated[str | None, typer.Option(help="One of its models.  [default: all]")] = None,
    metric: Annotated[str, typer.Option(help="One of its metrics, as auroc or sensitivity@youden.")] = "auroc",
    positives: Annotated[int | None, typer.Option(help="Plan a study instead: positive images of the group.")] = None,
    negatives: Annotated[int | None, typer.Option(help="... and its negative images.")] = None,
    auroc: Annotated[float | None, typer.Option(help="... and the AUROC expected.")] = None,
    icc: Annotated[float, typer.Option(help="Planned: correlation of the images of one patient.")] = 0.0,
    images_per_patient: Annotated[float, typer.Option(help="Planned: images of one patient.")] = 1.0,
    rest_positives: Annotated[int | None, typer.Option(help="Planned: positive images of all others.  [default: as in the group]")] = None,
    rest_negatives: Annotated[int | None, typer.Option(help="Planned: negative images of all others.  [default: as in the group]")] = None,
    correlation: Annotated[float, typer.Option(help="Planned: of two models' AUROC over samples of patients.")] = 0.7,
    variance: Annotated[str, typer.Option(help="Planned: obuchowski or hanley-mcneil.")] = "obuchowski",
    gap: Annotated[float, typer.Option(help="The gap to be shown.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance that the test finds it.")] = 0.8,
    level: Annotated[float, typer.Option(help="Of the two-sided test.")] = 0.05,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say which gap a group of this size could show, and how many patients a gap would need."""
    from curate import UserError
    from evaluate.planning import evaluation_power, planned_power, print_power

    given = [positives, negatives, auroc]
    if any(v is not None for v in given):
        if positives is None or negatives is None or auroc is None:
            raise UserError("a planned study needs --positives, --negatives and --auroc")
        result = planned_power(
            positives=positives, negatives=negatives, auroc=auroc, icc=icc, images_per_patient=images_per_patient,
            rest_positives=rest_positives, rest_negatives=rest_negatives, correlation=correlation, gap=gap, power=power, level=level,
            variance=variance,
        )  # fmt: skip
    else:
        result = evaluation_power(evaluation, metric=metric, gap=gap, power=power, level=level, model=model)
    print_power(result)
    console.result(result)


@app.command("figures")
def figures_command(
    evaluation: Annotated[Path, typer.Argument(help="The evaluation folder.")] = Path("evaluation"),
    out: Annotated[Path | None, typer.Option("--out", help="The folder to make.  [default: the evaluation's name-figures]")] = None,
    figures: Annotated[
        str | None, typer.Option(metavar="KINDS", help="Which, as bars,differences,roc.  [default: all that the evaluation allows]")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Name of a task; repeatable.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Name of a model; repeatable.")] = None,
    adapt: Annotated[list[str] | None, typer.Option("--adapt", help="Name of an adaptation; repeatable.")] = None,
    by: By = None,
    group: Annotated[list[str] | None, typer.Option("--group", help="Name of a group; repeatable.")] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", help="Draw this class against the rest, in place of the average; repeatable.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw an evaluation: PNG, SVG, and the numbers drawn, with captions."""
    from evaluate.figures.folder import Choice
    from evaluate.figures.run import described, draw_figures
    from evaluate.task import split_names

    _warn_of_namesake()
    several = {"tasks": task, "models": model, "adaptations": adapt, "groups": group, "classes": class_}
    choice = Choice(
        kinds=tuple(split_names(figures or "")),
        attributes=tuple(split_names(by or "")),
        **{name: tuple(dict.fromkeys(given or ())) for name, given in several.items()},
    )
    folder = draw_figures(evaluation, out=out, choice=choice)
    about, left_out = described(folder)
    for line in left_out:
        console.say(line)
    console.say(f"{folder}: {len(about['figures'])} figures as PNG and SVG, each with its numbers (CSV); captions in figures.json")
    console.result({"out": str(folder), **about})


def _warn_of_namesake() -> None:
    """Say so where Hugging Face's distribution `evaluate` is installed too: both are imported as ``evaluate``."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        there = version("evaluate")
    except PackageNotFoundError:
        return
    console.warn(
        f"the distribution 'evaluate' {there} (Hugging Face) is installed too, under the same import name; separate environments avoid that"
    )
