"""``evaluate compare``: models that were evaluated together or apart, held against each other on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import Cohort, UserError, begin, finish, nearest, provenance, read_cohort, read_json, sha256_file, write_parquet
from evaluate.generalise import (
    METRICS,
    check_sites,
    generalisation_rows,
    generalisation_table,
    parse_trained_on,
    recorded_site,
)
from evaluate.given import Scores
from evaluate.measuring import panels
from evaluate.people import group_columns, with_cohort
from evaluate.predictions import AND, LEADING
from evaluate.results import Arranged, TaskPlan, arrange, write_results
from evaluate.score import described_models, read_given, read_metrics
from evaluate.task import DEFAULT_NET_BENEFIT_AT, split_groups

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Source:
    """One evaluation folder or file of predictions.

    Attributes:
        name: how it is called in messages.
        predictions: its rows.
        plans: task -> what was estimated.
        models: entries of ``evaluation.json``.
        notes: its notes.
        heads: whether its seeds are heads trained on its models.
        digest: SHA-256 of the predictions.
    """

    name: str
    predictions: pd.DataFrame
    plans: dict[str, TaskPlan]
    models: list[dict[str, Any]]
    notes: list[str]
    heads: bool
    digest: str


@dataclass(frozen=True)
class Chosen:
    """Which part is to be compared; empty means all."""

    models: tuple[str, ...] = ()
    adaptations: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


def compare_models(
    sources: Sequence[str],
    *,
    out: Path = Path("comparison"),
    chosen: Chosen | None = None,
    cohort: Path | None = None,
    by: str | None = None,
    bins: list[str] | None = None,
    metrics: str | None = None,
    trained_on: Sequence[str] = (),
    seed: int = 0,
    replicates: int = 1000,
    resampled: bool = False,
) -> Path:
    """Write an evaluation folder that holds the models of several, with their comparisons.

    Everything is estimated again from the predictions, so models that were evaluated apart are compared as if they had been evaluated
    together: image by image. A folder with ``--trained-on`` or with runs that say where they are from gets ``generalisation.parquet`` too.

    Args:
        sources: evaluation folders or files of predictions in the columns of ``predictions.parquet``; ``NAME=PATH`` puts the name before
            those of its models, for models of the same name.
        out: the folder to write.
        chosen: models (in this order), adaptations and tasks; default: all.
        cohort: takes subgroup columns from this cohort.
        by: subgroups, ``*`` between those that are crossed; default: those of the sources.
        bins: ``COLUMN=EDGE,EDGE`` texts, for columns of the cohort.
        metrics: names, comma between; default: those of the sources.
        trained_on: ``MODEL=SITE`` texts; the site is a group of the first attribute of `by`.
        seed: of the bootstrap.
        replicates: of the bootstrap.
        resampled: whether AUROC and AUPRC are bootstrapped too.

    Returns:
        `out`.

    Raises:
        UserError: where sources can't be read, don't fit together, or hold none of what is asked for.
    """
    chosen = chosen or Chosen()
    people = read_cohort(cohort) if cohort is not None else None
    read = [read_source(text) for text in sources]
    predictions, plans = merge(read)
    predictions = choose(predictions, chosen)
    plans = [plan for plan in plans if (predictions["task"] == plan.name).any()]
    predictions, plans = _regroup(predictions, plans, people, by, bins)
    if metrics is not None:
        wanted = read_metrics(metrics)
        plans = [_with(plan, metrics=wanted) for plan in plans]
    arranged = arrange(predictions, plans, heads=all(source.heads for source in read))
    models = [m for source in read for m in source.models if m["name"] in set(predictions["model"])]
    sites = _sites(plans, models, parse_trained_on(trained_on), asked=bool(trained_on))
    specification = {
        "models": list(chosen.models),
        "adaptations": list(chosen.adaptations),
        "tasks": [plan.name for plan in plans],
        "by": [list(plan.order) for plan in plans],
        "bins": bins or [],
        "metrics": [list(plan.metrics) for plan in plans],
        "trained_on": sites,
        "bootstrap": {"replicates": replicates, "resampled": resampled},
    }
    inputs = {f"predictions {i}": source.digest for i, source in enumerate(read, start=1)}
    made_by = provenance(specification, {**inputs, **({"cohort": people.digest} if people is not None else {})}, seed)
    partial = begin(out, "evaluation.json", made_by)
    if partial is not None:
        notes = list(dict.fromkeys(note for source in read for note in source.notes))
        if sites:
            write_parquet(partial / "generalisation.parquet", _generalisation(arranged, sites, replicates, seed))
        about = {"made_by": made_by, "models": models, "adaptation": {"name": "as in the sources"}, "notes": notes, "trained_on": sites}
        write_results(partial, arranged, about, replicates=replicates, seed=seed, resampled=resampled)
        finish(out)
    return out


def read_source(text: str) -> Source:
    """Read an evaluation folder, or a file of predictions with columns ``p_0``, ``p_1``, ...

    Raises:
        UserError: where it is neither.
    """
    import pandas as pd

    name, path = "", Path(text)
    if not path.exists() and "=" in text:
        name, _, rest = text.partition("=")
        path = Path(rest)
    if path.is_dir():
        about = read_json(path / "evaluation.json", "an evaluation")
        file = path / "predictions.parquet"
        predictions = pd.read_parquet(file)
        plans = {task["name"]: _plan_of(task) for task in about["tasks"]}
        heads = not any(model.get("architecture") is None for model in about["models"])
        source = Source(text, predictions, plans, list(about["models"]), list(about["notes"]), heads, sha256_file(file))
    else:
        given = read_given(path, Scores("probabilities", "p_"), model=path.stem)
        models = described_models(list(given.predictions["model"].unique()))
        source = Source(text, given.predictions, {given.plan.name: given.plan}, models, given.notes, False, sha256_file(path))
    return _prefixed(source, name) if name else source


def _prefixed(source: Source, name: str) -> Source:
    models = [{**model, "name": f"{name}:{model['name']}"} for model in source.models]
    predictions = source.predictions.assign(model=name + ":" + source.predictions["model"].astype("string"))
    return Source(source.name, predictions, source.plans, models, source.notes, source.heads, source.digest)


def _plan_of(task: dict[str, Any]) -> TaskPlan:
    order = {attribute: list(groups) for attribute, groups in task["groups"].items()}
    order = {a: order[a] for a in sorted(order, key=lambda a: _place(task, a))}
    return TaskPlan(
        task["name"],
        tuple(task["classes"]),
        order,
        tuple(task["metrics"]),
        task,
        kind=task.get("kind", "classification"),
        thresholds=tuple(task.get("thresholds", ())),
        net_benefit_at=tuple(task.get("net_benefit_at", DEFAULT_NET_BENEFIT_AT)),
    )


def _place(task: dict[str, Any], attribute: str) -> tuple[int, int]:
    """JSON sorts names: the order of attributes is that of ``subgroups``, then that of the crossed ones."""
    if attribute in task["subgroups"]:
        return 0, task["subgroups"].index(attribute)
    crossed = [AND.join(parts) for parts in task.get("intersections", [])]
    return 1, crossed.index(attribute) if attribute in crossed else len(crossed)


def merge(sources: Sequence[Source]) -> tuple[pd.DataFrame, list[TaskPlan]]:
    """Put sources of the same images together.

    A column that one source lacks is filled from the others, by image. Of a task that several hold, the subgroups are
    those of all, the metrics and thresholds those that all have.

    Raises:
        UserError: where a model is in two of them, or a task has other classes.
    """
    import pandas as pd

    if len(sources) == 1:
        return sources[0].predictions, list(sources[0].plans.values())
    seen: dict[tuple[Any, ...], Source] = {}
    for source in sources:
        for key in source.predictions[["task", "model", "adaptation"]].drop_duplicates().itertuples(index=False, name=None):
            if key in seen:
                raise UserError(
                    f"{source.name}: model '{key[1]}' is in {seen[key].name} too (task {key[0]}); tell them apart, as "
                    f"old={seen[key].name} new={source.name}"
                )
            seen[key] = source
    plans: dict[str, TaskPlan] = {}
    for source in sources:
        for name, plan in source.plans.items():
            plans[name] = _joined(plans[name], plan, source) if name in plans else plan
    table = pd.concat([source.predictions for source in sources], ignore_index=True)
    attributes = [c for c in table.columns if c not in LEADING and not c.startswith(("p_", "label_"))]
    for column in ("patient_id", *attributes):
        if table[column].isna().any():
            known = table.loc[table[column].notna(), ["image_id", column]].drop_duplicates("image_id").set_index("image_id")[column]
            table[column] = table[column].fillna(table["image_id"].map(known))
    return table, list(plans.values())


def _joined(first: TaskPlan, second: TaskPlan, source: Source) -> TaskPlan:
    if first.classes != second.classes or first.kind != second.kind:
        raise UserError(
            f"{source.name}: task {first.name} has the classes {', '.join(second.classes)} and elsewhere {', '.join(first.classes)}; "
            "models can be compared on the same classes alone"
        )
    order = dict(first.order)
    for attribute, groups in second.order.items():
        order[attribute] = list(dict.fromkeys([*order.get(attribute, ()), *groups]))
    return _with(
        first,
        order=order,
        metrics=tuple(m for m in first.metrics if m in second.metrics),
        thresholds=tuple(t for t in first.thresholds if t in second.thresholds),
        net_benefit_at=tuple(t for t in first.net_benefit_at if t in second.net_benefit_at),
    )


def _with(plan: TaskPlan, **changes: Any) -> TaskPlan:
    """Change what is estimated, and what ``evaluation.json`` says of it."""
    from dataclasses import replace

    about = dict(plan.about)
    for field, value in changes.items():
        if field == "order":
            about["groups"] = value
            about["subgroups"] = [attribute for attribute in value if AND not in attribute]
            about["intersections"] = [attribute.split(AND) for attribute in value if AND in attribute]
        else:
            about[field] = list(value)
    return replace(plan, about=about, **changes)


def choose(predictions: pd.DataFrame, chosen: Chosen) -> pd.DataFrame:
    """Keep the models (in the order asked for), adaptations and tasks that were chosen.

    Raises:
        UserError: where one isn't there.
    """
    for column, option, wanted in (
        ("model", "--model", chosen.models),
        ("adaptation", "--adapt", chosen.adaptations),
        ("task", "--task", chosen.tasks),
    ):
        if not wanted:
            continue
        there = [str(name) for name in predictions[column].unique()]
        for name in wanted:
            if name not in there:
                raise UserError(f"{option} {name}: the sources have no such {column}{nearest(name, there)}")
        predictions = predictions[predictions[column].isin(wanted).to_numpy(dtype=bool, na_value=False)]
    return predictions


def _regroup(
    predictions: pd.DataFrame, plans: list[TaskPlan], people: Cohort | None, by: str | None, bins: list[str] | None
) -> tuple[pd.DataFrame, list[TaskPlan]]:
    """Put the subgroups asked for in the place of those that were estimated."""
    if by is None:
        return predictions, plans
    subgroups, crossed = split_groups(by)
    if people is not None:
        drop = [c for c in subgroups if c in predictions.columns and c in people.table.columns]
        predictions = with_cohort("predictions", predictions.drop(columns=drop), people, subgroups)
    kept = {a: list(groups) for plan in plans for a, groups in plan.order.items()}
    regrouped = []
    for plan in plans:
        mine = predictions[(predictions["task"] == plan.name).to_numpy(dtype=bool)]
        groups, order = group_columns("predictions", mine, subgroups, crossed, bins)
        for attribute, values in groups.items():
            predictions = predictions.assign(**{attribute: values.reindex(predictions.index).fillna(predictions[attribute].astype(object))})
            if attribute in kept and set(order[attribute]) <= set(kept[attribute]):
                order[attribute] = kept[attribute]  # bins in their order, empty ones too
        for parts in crossed:
            order[AND.join(parts)] = [AND.join(names) for names in itertools.product(*(order[part] for part in parts))]
        regrouped.append(_with(plan, order=order))
    return predictions, regrouped


def _sites(plans: Sequence[TaskPlan], models: Sequence[dict[str, Any]], given: dict[str, str], *, asked: bool) -> dict[str, str]:
    """Say where each model was trained: as given, else as its run says; empty where nothing is known."""
    for plan in plans:
        if not plan.order:
            if asked:
                raise UserError("--trained-on needs the column that says where an image was taken: --by site")
            return {}
        attribute, sites = next(iter(plan.order.items()))
        known = {m["name"]: site for m in models if (site := recorded_site(m, list(sites)))}
        trained_on = {**known, **given}
        if asked:
            check_sites(trained_on, [m["name"] for m in models], list(sites), attribute)
        return trained_on if len(set(trained_on.values())) > 1 or asked else {}
    return {}


def _generalisation(arranged: Arranged, trained_on: dict[str, str], replicates: int, seed: int) -> pd.DataFrame:
    from dataclasses import replace

    rows: list[dict[str, Any]] = []
    for plan, scored in arranged.sets:
        attribute = next(iter(plan.order))
        metrics = tuple(m for m in METRICS if m in plan.metrics)
        mine = replace(scored, order={attribute: plan.order[attribute]})
        found = list(panels(mine, metrics, thresholds=(), net_benefit_at=(), replicates=replicates, seed=seed))
        rows += generalisation_rows(scored, [p for p in found if p.attribute == attribute], trained_on, replicates=replicates)
    return generalisation_table(rows)
