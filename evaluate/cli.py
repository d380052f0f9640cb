"""The command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate import console
from curate.command import Bins, CohortDir, Debug, Json, Part, Quiet, Scheduler, Seed, ShardsDir, Workers, new_app

app = new_app("Measure whom a model serves, and how sure we are.")

Out = Annotated[Path, typer.Option("--out", help="The evaluation folder.")]
By = Annotated[str | None, typer.Option("--by", metavar="COLUMNS", help="Subgroups, as age,sex,ethnicity.")]
Replicates = Annotated[int, typer.Option(min=100, help="Replicates of the bootstrap.")]


@app.command("run")
def run_command(
    task: Annotated[list[Path] | None, typer.Option("--task", help="Task file (YAML); repeatable.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME=SPEC",
            help="A run's folder, a checkpoint's file, timm:MODEL or random:MODEL; repeatable. Default: every finished run in runs/.",
        ),
    ] = None,
    cohort: CohortDir = Path("cohort"),
    shards: ShardsDir = Path("shards"),
    out: Out = Path("evaluation"),
    seeds: Annotated[int, typer.Option(min=1, help="Heads trained for each model and task.")] = 5,
    by: By = None,
    bins: Bins = None,
    seed: Seed = 0,
    replicates: Replicates = 1000,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    part: Part = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Probe backbones on a labelled cohort: predictions, estimates by subgroup, comparisons."""
    from curate import UserError
    from evaluate.report import report
    from evaluate.run import evaluate_models, finished_runs, parse_models
    from evaluate.task import read_task, with_groups

    _warn_of_namesake()
    if not task:
        raise UserError("--task is missing: give a task file (YAML with name, label, classes, split), as --task dr.yaml")
    tasks = [with_groups(read_task(path), by, bins) for path in task]
    models = parse_models(model) if model else finished_runs()
    evaluate_models(models, tasks, cohort=cohort, shards=shards, out=out, seeds=seeds, seed=seed, replicates=replicates, workers=workers)
    console.result(report(out))
    console.say(f"\n{out}: predictions.parquet, estimates.parquet, comparisons.parquet")


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
    file: Annotated[Path, typer.Argument(help="Predictions: CSV or Parquet with a column label.")],
    score: Annotated[str | None, typer.Option(metavar="COLUMN", help="The score of two classes: higher is more likely 1.")] = None,
    scores: Annotated[str | None, typer.Option(metavar="PREFIX", help="Probabilities, one column a class, as p_ for p_0, p_1, ...")] = None,
    classes: Annotated[str | None, typer.Option(metavar="NAMES", help="Class names in order, as none,mild,severe.")] = None,
    task: Annotated[str | None, typer.Option(help="Which task, where the file holds several; else the name to give it.")] = None,
    out: Out = Path("evaluation"),
    by: By = None,
    bins: Bins = None,
    seed: Seed = 0,
    replicates: Replicates = 1000,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Estimate from predictions that any tool made; needs no torch."""
    from evaluate.report import report
    from evaluate.score import score_file

    _warn_of_namesake()
    score_file(file, score=score, scores=scores, classes=classes, task=task, out=out, by=by, bins=bins, seed=seed, replicates=replicates)
    console.result(report(out))
    console.say(f"\n{out}: predictions.parquet, estimates.parquet, comparisons.parquet")


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
