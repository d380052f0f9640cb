"""Generalisability: models from several sites, each tested at home and away.

A model's own site and another differ in two ways at once, in the model's acquaintance with it and in how hard the site
is. Two models tested on the same images of one site differ in the first alone: that comparison is paired and comes
first. One model at two sites is given beside it, unpaired.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import UserError, nearest
from evaluate.comparisons import PAPER, error_method, holm, over_seeds
from evaluate.estimates import sampling_estimand
from evaluate.heterogeneity import estimates_of
from evaluate.influence import difference_interval, interval
from evaluate.panel import MACRO, Measured, Panel, Sizes, difference_of
from evaluate.predictions import ScoredImages

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "task", "adaptation", "attribute", "kind", "metric", "threshold", "model_a", "trained_on_a", "site_a", "model_b", "trained_on_b",
    "site_b", "value", "low", "high", "se", "df", "p", "p_holm", "n", "n_patients", "method", "estimand", "flag", "note",
)  # fmt: skip
CELL, SAME_IMAGES, SAME_MODEL, OVERALL = "cell", "same images", "same model", "overall"
METRICS = ("auroc", "auprc")
NAN = math.nan


def parse_trained_on(options: Sequence[str]) -> dict[str, str]:
    """Read ``--trained-on MODEL=SITE`` options.

    Raises:
        UserError: where one isn't of that form or a model comes twice.
    """
    sites: dict[str, str] = {}
    for option in options:
        model, _, site = (part.strip() for part in option.partition("="))
        if not model or not site:
            raise UserError(f"--trained-on {option}: expected MODEL=SITE, as --trained-on A=london")
        if model in sites:
            raise UserError(f"--trained-on {option}: model '{model}' is given twice")
        sites[model] = site
    return sites


def recorded_site(model: Mapping[str, Any], sites: Sequence[str]) -> str | None:
    """Find where a model was pre-trained, from what its run says.

    Args:
        model: its entry in ``evaluation.json``; where its path is a run, the run's shard set is looked up.
        sites: that were tested on.

    Returns:
        The site that has the name of the cohort that the shard set was drawn from; None where there is none.
    """
    from curate import read_json

    if not model.get("path") or not (Path(model["path"]) / "run.json").is_file():
        return None
    about = read_json(Path(model["path"]) / "run.json", "a run").get("shards", {})
    folder = Path(str(about.get("path") or "nowhere"))
    if not (folder / "sample.json").is_file():
        return None
    sample = read_json(folder / "sample.json", "a shard set")
    name = str(sample.get("cohort", {}).get("name"))
    return name if name in sites else None


def check_sites(trained_on: Mapping[str, str], models: Sequence[str], sites: Sequence[str], attribute: str) -> None:
    """Refuse sites and models that aren't there.

    Raises:
        UserError: likewise where fewer than two models have a site, or none was tested away from it.
    """
    for model, site in trained_on.items():
        if model not in models:
            raise UserError(f"--trained-on {model}={site}: no model '{model}'{nearest(model, models)}")
        if site not in sites:
            raise UserError(f"--trained-on {model}={site}: no group '{site}' of {attribute}{nearest(site, sites)}")
    if not trained_on:
        raise UserError(f"--trained-on is missing: say where each model was trained, as --trained-on MODEL={sites[0] if sites else 'SITE'}")
    if len(sites) < 2:
        raise UserError(f"--by {attribute}: one site, '{', '.join(sites)}': nothing to generalise to")


def generalisation_rows(
    scored: ScoredImages, panels: Sequence[Panel], trained_on: Mapping[str, str], *, replicates: int
) -> Iterator[dict[str, Any]]:
    """Give the rows of ``generalisation.parquet`` for one task and adaptation.

    Rows are of these kinds:

    - ``cell``: a model at a test site (``trained_on_a`` against ``site_a`` says whether it is at home);
    - ``same images``: at one site, the model that was trained there minus one that was trained elsewhere, paired image by image; and the
      published t-test over seeds beside it;
    - ``same model``: a model at its own site minus the same model at another, unpaired;
    - ``overall``: at home minus away, the paired difference averaged over sites.

    Args:
        scored: the images that `panels` were measured on.
        panels: every group of the attribute that says the site.
        trained_on: model -> site.
        replicates: of the bootstrap, for the method's name.
    """
    models = [m for m in scored.scores if m in trained_on]
    lines = [line for line in dict.fromkeys(line for p in panels for line in p.lines) if line[0] in METRICS]
    for metric, threshold in lines:
        base = {
            **dict.fromkeys(COLUMNS, ""),
            **dict.fromkeys(("value", "low", "high", "se", "df", "p", "p_holm"), NAN),
            "task": scored.task,
            "adaptation": scored.adaptation,
            "attribute": panels[0].attribute,
            "metric": metric,
            "threshold": threshold,
        }
        found = {(m, p.group): p.measured.get((m, metric, threshold, MACRO)) for m in models for p in panels}
        yield from _cells(scored, base, panels, found, trained_on, replicates)
        yield from _same_images(scored, base, panels, found, trained_on, replicates)
        yield from _same_model(scored, base, panels, found, trained_on, replicates)
        yield _overall(scored, base, panels, found, trained_on, replicates)


Found = Mapping[tuple[str, str], Measured | None]


def _cells(
    scored: ScoredImages, base: dict[str, Any], panels: Sequence[Panel], found: Found, trained_on: Mapping[str, str], replicates: int
) -> Iterator[dict[str, Any]]:
    for (model, site), measured in found.items():
        sizes = _sizes(panels, site)
        value, error = (measured.value, measured.error) if measured else (NAN, NAN)
        low, high = interval(value, error, patients=measured.patients) if measured else (NAN, NAN)
        yield {
            **base,
            "kind": CELL,
            "model_a": model,
            "trained_on_a": trained_on[model],
            "site_a": site,
            "value": value,
            "low": low,
            "high": high,
            "se": NAN if math.isnan(low) else error,
            **_people(sizes),
            "method": f"{error_method(measured, base['metric'], replicates)}, logit-t interval",
            "estimand": sampling_estimand(scored, len(scored.scores[model])),
            "note": "" if measured else "no value",
        }


def _same_images(
    scored: ScoredImages, base: dict[str, Any], panels: Sequence[Panel], found: Found, trained_on: Mapping[str, str], replicates: int
) -> Iterator[dict[str, Any]]:
    what = "trained heads" if scored.heads else "models"
    for panel in panels:
        site, sizes = panel.group, panel.sizes[MACRO]
        home = [m for m, s in trained_on.items() if s == site and (m, site) in found]
        away = [m for m, s in trained_on.items() if s != site and (m, site) in found]
        for a, b in itertools.product(home, away):
            row = {
                **base,
                "kind": SAME_IMAGES,
                "model_a": a,
                "trained_on_a": trained_on[a],
                "site_a": site,
                "model_b": b,
                "trained_on_b": trained_on[b],
                "site_b": site,
                **_people(sizes),
            }
            first, second = found[a, site], found[b, site]
            paired = _home_and_away([first], [second])
            yield {
                **row,
                **_tested(paired, sizes.flag),
                "method": f"paired {error_method(first, base['metric'], replicates)}, t interval",
                "estimand": f"these {what} (mean over seeds), on new patients of {site} like those tested",
            }
            seeds = over_seeds(second, first, tested=sizes.flag != "too few")
            yield {
                **row,
                "value": seeds["difference"],
                **{k: seeds[k] for k in ("low", "high", "se", "p") if k in seeds},
                "method": PAPER,
                "estimand": "new seeds of the adaptation of the same two models, on these same test images",
                "note": seeds["note"],
            }


def _same_model(
    scored: ScoredImages, base: dict[str, Any], panels: Sequence[Panel], found: Found, trained_on: Mapping[str, str], replicates: int
) -> Iterator[dict[str, Any]]:
    for model, home in trained_on.items():
        at_home = found.get((model, home))
        for panel in panels:
            if panel.group == home or (model, home) not in found:
                continue
            there = found[model, panel.group]
            pair = [p for p in panels if p.group in (home, panel.group)]
            sizes = [_sizes(panels, home), panel.sizes[MACRO]]
            flag = _worse_flag(sizes)
            row = {
                **base,
                "kind": SAME_MODEL,
                "model_a": model,
                "trained_on_a": home,
                "site_a": home,
                "model_b": model,
                "trained_on_b": home,
                "site_b": panel.group,
                "n": sum(s.n for s in sizes),
                "n_patients": sum(s.n_patients for s in sizes),
                "flag": flag,
                "method": f"two sites, squared and added logit-t intervals; errors: {error_method(at_home, base['metric'], replicates)}",
                "estimand": f"{sampling_estimand(scored, len(scored.scores[model]))}; the sites' own difficulty is in it",
            }
            if at_home is None or there is None or at_home.classes != there.classes:
                yield {
                    **row,
                    "note": "no value at one of the sites" if at_home is None or there is None else "averaged over different classes",
                }
                continue
            measured = [found[model, p.group] for p in pair]
            groups = estimates_of(pair, measured)  # type: ignore[arg-type]
            weights = np.array([1.0 if p.group == home else -1.0 for p in pair])
            value, error = float(weights @ groups.values), groups.error(weights)
            if not (error > 0 and (groups.freedom >= 1).all()):
                yield {**row, "value": value, "note": "no interval"}
                continue
            low, high = groups.limits(weights)
            p_value = groups.p_value(weights) if flag != "too few" else NAN
            yield {**row, "value": value, "low": low, "high": high, "se": error, "p": p_value, "note": groups.note}


def _overall(
    scored: ScoredImages, base: dict[str, Any], panels: Sequence[Panel], found: Found, trained_on: Mapping[str, str], replicates: int
) -> dict[str, Any]:
    """Average over sites what the models trained there have over those trained elsewhere."""
    sites: list[Panel] = []
    parts: list[Measured] = []
    freedom: list[float] = []
    for panel in panels:
        home = [found.get((m, panel.group)) for m, s in trained_on.items() if s == panel.group]
        away = [found.get((m, panel.group)) for m, s in trained_on.items() if s != panel.group]
        pair = _home_and_away(home, away)
        if not isinstance(pair, str) and panel.sizes[MACRO].flag != "too few":
            gap = difference_of(pair[1], pair[0])
            sites.append(panel)
            parts.append(replace(pair[0], by_seed=np.array([gap.value]), spread=pair[0].spread - pair[1].spread))
            freedom.append(gap.freedom)
    some = next((m for m in found.values() if m is not None), None)
    what = "trained heads" if scored.heads else "models"
    row = {
        **base,
        "kind": OVERALL,
        "model_a": ", ".join(trained_on),
        "site_a": ", ".join(p.group for p in sites),
        "n": sum(p.sizes[MACRO].n for p in sites),
        "n_patients": sum(p.sizes[MACRO].n_patients for p in sites),
        "flag": _worse_flag([p.sizes[MACRO] for p in sites]),
        "method": f"paired within sites, mean over {len(sites)} sites, Welch's t; errors: {error_method(some, base['metric'], replicates)}",
        "estimand": f"these {what} at home minus away, each site counted once, on new patients of these sites",
    }
    if not sites:
        return {
            **row,
            "n": 0,
            "n_patients": 0,
            "flag": "too few",
            "note": "no site that can be tested has a model from there and one from elsewhere",
        }
    groups = replace(estimates_of(sites, parts), logit=False)  # differences, not shares
    weights = np.full(len(sites), 1 / len(sites))
    value, error = float(weights @ groups.values), groups.error(weights)
    if not error > 0:
        return {**row, "value": value, "note": "no interval"}
    together = error**4 / float(((weights**2 * np.diag(groups.covariance)) ** 2 / np.array(freedom)).sum())
    low, high, p = difference_interval(value, error, freedom=together)
    return {**row, "value": value, "low": low, "high": high, "se": error, "df": together, "p": p, "note": groups.note}


def _mean(models: Sequence[Measured]) -> Measured:
    """Average models on the same images, as seeds are averaged."""
    value = float(np.mean([m.value for m in models]))
    spread = np.mean([m.spread for m in models], axis=0)
    return replace(models[0], by_seed=np.array([value]), spread=spread, patients=min(m.patients for m in models))


def _home_and_away(home: Sequence[Measured | None], away: Sequence[Measured | None]) -> tuple[Measured, Measured] | str:
    """Average models from a site and models from elsewhere on the same images; or say why that can't be done."""
    if not home or not away:
        return "no model from there, or none from elsewhere"
    if any(m is None for m in (*home, *away)):
        return "no value at this site: see estimates.parquet"
    first, second = [m for m in home if m is not None], [m for m in away if m is not None]
    if len({m.classes for m in (*first, *second)}) > 1:
        return "averaged over different classes"
    return _mean(first), _mean(second)


def _tested(pair: tuple[Measured, Measured] | str, flag: str) -> dict[str, Any]:
    if isinstance(pair, str):
        return {"note": pair}
    gap = difference_of(pair[1], pair[0])
    low, high, p = difference_interval(gap.value, gap.error, freedom=gap.freedom)
    row = {"value": gap.value, "low": low, "high": high, "se": gap.error, "df": gap.freedom}
    return {**row, "p": p} if flag != "too few" else {**row, "note": "not tested"}


def _sizes(panels: Sequence[Panel], site: str) -> Sizes:
    return next(p.sizes[MACRO] for p in panels if p.group == site)


def _people(sizes: Sizes) -> dict[str, Any]:
    return {"n": sizes.n, "n_patients": sizes.n_patients, "flag": sizes.flag}


def _worse_flag(sizes: Sequence[Sizes]) -> str:
    flags = {size.flag for size in sizes}
    return next((flag for flag in ("too few", "few") if flag in flags), "")


def generalisation_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Put rows into the columns and types of ``generalisation.parquet`` and fill ``p_holm``.

    A family is the comparisons of one kind for one task, adaptation and metric; the published t-tests stay uncorrected.
    """
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table.astype(
        {**dict.fromkeys(("value", "low", "high", "se", "df", "p", "p_holm"), "float64"), **dict.fromkeys(("n", "n_patients"), "int64")}
    )
    ours = table[(table["method"] != PAPER) & table["kind"].isin([SAME_IMAGES, SAME_MODEL])]
    for _, family in ours.groupby(["task", "adaptation", "kind", "metric", "threshold"], sort=False):
        table.loc[family.index, "p_holm"] = holm(family["p"].tolist())
    return table
