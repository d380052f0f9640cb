"""``curate identify``: which metadata drive the variation of an archive's images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate import console
from curate.artefacts import begin, finish, provenance, read_json, write_json, write_parquet
from curate.errors import UserError
from curate.groups import parse_bins
from curate.identify import ranking
from curate.identify.archive import Archive, describe, read_archive
from curate.identify.associations import Association, associate, overlap
from curate.identify.attributes import Attribute
from curate.identify.conditioning import hold_fixed
from curate.identify.effects import Effect, RankedMeasure, benjamini_hochberg, kruskal_wallis
from curate.identify.permanova import Permanova, permanova
from curate.identify.predictability import Probe, Score, nearest_of_others, principal_components, purity
from curate.identify.ranking import Findings

MOST_A_SITE = 5000  # images that are drawn and whose neighbours are looked up
RESULTS = ("attribute", "feature", "method", "value", "low", "high", "floor", "p", "q", "n", "n_patients")


def identify_cohort(
    cohort: Path,
    *,
    by: Sequence[str] = (),
    bins: Sequence[str] = (),
    features: str | None = None,
    permutations: int = 199,
    seed: int = 0,
    out: Path = Path("identify"),
) -> dict[str, Any]:
    """Find which attributes drive the variation of a cohort's images.

    Args:
        cohort: the cohort folder, measured or embedded or both.
        by: attributes to compare; none: those of age, sex, ethnicity, device and site that it has.
        bins: texts ``COLUMN=EDGE,EDGE``.
        features: ``latent-NAME`` or ``measures``; None: the latent features where there is one file of them.
        permutations: for every noise floor.
        seed: of the permutations, the folds and the picture.
        out: the folder to make.

    Returns:
        The contents of ``identify.json``.

    Raises:
        UserError: where there is nothing to compare, or the arguments or the folder don't allow it.
    """
    if permutations < 19:
        raise UserError(f"--permutations {permutations}: at least 19 are needed for a noise floor")
    archive = read_archive(cohort, by, bins, features)
    specification = {
        "by": list(by),
        "bins": {c: list(e) for c, e in parse_bins(bins).items()},
        "features": features,
        "permutations": permutations,
    }
    made_by = provenance(specification, archive.inputs, seed)
    folder = begin(out, "identify.json", made_by)
    if folder is None:
        return {**read_json(out / "identify.json", "what curate identify makes"), "done_before": True}
    found = analyse(archive, permutations, seed)
    write_parquet(folder / "results.parquet", found.pop("results"))
    from curate.identify.pictures import draw

    figures = draw(archive, found, folder, seed)
    about = {"made_by": made_by, **{k: v for k, v in found.items() if not k.startswith("_")}, "figures": figures}
    write_json(folder / "identify.json", about)
    finish(out)
    return about


def analyse(archive: Archive, permutations: int, seed: int) -> dict[str, Any]:
    """Do everything but the pictures.

    Returns:
        What goes into ``identify.json``; ``results``: the tidy table; ``_effects``: (attribute, measure) -> effect; ``_sample``: (m,) rows
        of the space that are drawn; ``_components``: (m, k) their principal components.
    """
    effects = compare_measures(archive)
    pairs = [p for a, b in itertools.combinations(archive.attributes, 2) if (p := associate(a, b, archive.patient)) is not None]
    rows, features = archive.spaces[archive.space]
    sample = sample_rows(archive, rows, seed)
    components = principal_components(features[sample])
    reader = _Predictability(components, archive.patient[rows[sample]], permutations, seed)
    findings, results = [], []
    with console.progress(len(archive.attributes), "permuting", "attributes") as advance:
        for attribute in archive.attributes:
            one, more = _examine(archive, attribute, pairs, effects, reader, rows[sample], permutations, seed)
            findings.append(one)
            results += more
            advance(1)
    ranked = ranking.rank(findings)
    balance = ranking.suggest_balance(ranked)
    results = _effect_rows(effects) + results + [r for p in pairs for r in _pair_rows(p)]
    notes = archive.notes + [f"{f.overlap.why}: nothing is attributed to {f.name}" for f in ranked if f.refused]
    return {
        **describe(archive),
        "ranking": ranking.table(ranked),
        "associations": [asdict(p) for p in pairs],
        "notes": notes,
        "in_words": ranking.in_words(ranked, archive.space, balance),
        "suggested_balance": balance,
        "results": pd.DataFrame(results, columns=list(RESULTS)).astype({"n": "Int64", "n_patients": "Int64"}),
        "_effects": effects,
        "_sample": sample,
        "_components": components,
    }


def compare_measures(archive: Archive) -> dict[tuple[str, str], Effect]:
    """Compare every measure by every attribute: (attribute, measure) -> effect."""
    effects: dict[tuple[str, str], Effect] = {}
    with console.progress(len(archive.measures), "comparing", "measures") as advance:
        for name, values in archive.measures.items():
            ranked = RankedMeasure(values)
            for attribute in archive.attributes:
                effect = kruskal_wallis(ranked, attribute.code, archive.patient)
                if effect is not None:
                    effects[attribute.name, name] = effect
            advance(1)
    return effects


def sample_rows(archive: Archive, rows: np.ndarray, seed: int) -> np.ndarray:
    """Choose at most `MOST_A_SITE` images a site, by a hash of their ids: positions in `rows`, rising."""
    from curate.allocation import place_within, stable_hash

    rank = stable_hash(pd.Series(archive.image_id[rows]), seed)
    return np.flatnonzero(place_within(archive.site[rows], rank) < MOST_A_SITE)


class _Predictability:
    """The probe and the neighbours of the sampled images, made when first asked for."""

    def __init__(self, components: np.ndarray, patient: np.ndarray, permutations: int, seed: int) -> None:
        self._patient, self._permutations, self._seed = patient, permutations, seed
        self._components = components
        self._neighbours = nearest_of_others(components, patient) if len(components) > 2 else None

    def __call__(self, code: np.ndarray, values: np.ndarray | None) -> tuple[Score | None, Score | None]:
        rng = np.random.default_rng(self._seed)
        known = code >= 0
        people = [len(np.unique(self._patient[code == g])) for g in range(int(code.max()) + 1 if known.any() else 0)]
        if self._neighbours is None or sum(p >= 2 for p in people) < 2:
            return None, None
        probe = Probe(self._components[known], self._patient[known], self._seed)
        if values is not None:
            score = probe.number(values[known], self._permutations, rng)
        else:
            score = probe.groups(code[known], int(code.max()) + 1, self._permutations, rng)
        return score, purity(self._neighbours, code, self._patient, self._permutations, rng)


def _examine(
    archive: Archive,
    attribute: Attribute,
    pairs: Sequence[Association],
    effects: dict[tuple[str, str], Effect],
    reader: _Predictability,
    sample: np.ndarray,
    permutations: int,
    seed: int,
) -> tuple[Findings, list[dict[str, Any]]]:
    """Find everything about one attribute; also gives the rows of the tidy table."""
    others = [a for a in archive.attributes if a is not attribute]
    held = hold_fixed(attribute, others, archive.patient)
    apart = overlap(attribute, others, held, pairs)
    results: list[dict[str, Any]] = []
    marginal: Permanova | None = None
    conditional: Permanova | None = None
    for space, (rows, features) in archive.spaces.items():
        code, people = attribute.code[rows], archive.patient[rows]
        marginal = permanova(features, code, people, permutations=permutations, seed=seed)
        conditional = marginal if not others else None
        if others and not apart.why:
            code = np.where(held.known[rows], code, -1)
            # Where the others don't overlap in one of the spaces there is nothing to compare in it.
            conditional = permanova(
                features, code, people, strata=held.strata[rows], covariates=held.covariates[rows], permutations=permutations, seed=seed
            )
        for method, result in (("permanova_marginal", marginal), ("permanova_conditional", conditional)):
            if result is not None:
                results.append(_row(attribute.name, space, method, result.r2, floor=result.floor, p=result.p, of=result))
        if conditional is not None and others and space == "measures":
            for index, share, floor in zip(archive.dimensions, conditional.r2_each, conditional.floor_each, strict=True):
                results.append(_row(attribute.name, index, "r2_conditional", float(share), floor=float(floor), of=conditional))
    probe, pure = reader(attribute.code[sample], None if attribute.values is None else attribute.values[sample])
    kind = "probe_auc" if attribute.values is None else "probe_r2"
    for method, score in ((kind, probe), ("purity_lift", pure)):
        if score is not None:
            results.append(_row(attribute.name, archive.space, method, score.value, floor=score.floor))
    if probe is not None:
        results += [
            _row(attribute.name, f"{archive.space}: {g}", "probe_auc", v) for g, v in zip(attribute.groups, probe.each, strict=False)
        ]
    own = {m: e for (a, m), e in effects.items() if a == attribute.name and m in archive.indices}
    strongest = max(own, key=lambda m: own[m].epsilon_squared, default=None)
    found = Findings(
        attribute.name, attribute.values is not None, strongest, own[strongest] if strongest else None, marginal, conditional,
        probe, pure, apart, held.stratified,
    )  # fmt: skip
    return found, results


def _row(
    attribute: str,
    feature: str,
    method: str,
    value: float,
    *,
    floor: float | None = None,
    p: float | None = None,
    of: Permanova | None = None,
) -> dict[str, Any]:
    counts = {} if of is None else {"n": of.n, "n_patients": of.n_patients}
    return {"attribute": attribute, "feature": feature, "method": method, "value": value, "floor": floor, "p": p, **counts}


def _effect_rows(effects: dict[tuple[str, str], Effect]) -> list[dict[str, Any]]:
    adjusted = benjamini_hochberg(np.array([e.p for e in effects.values()]))
    return [
        {
            "attribute": attribute, "feature": measure, "method": "epsilon_squared", "value": e.epsilon_squared,
            "low": e.low, "high": e.high, "floor": e.floor, "p": e.p, "q": float(q), "n": e.n, "n_patients": e.n_patients,
        }
        for ((attribute, measure), e), q in zip(effects.items(), adjusted, strict=True)
    ]  # fmt: skip


def _pair_rows(pair: Association) -> list[dict[str, Any]]:
    rows = [{"attribute": pair.a, "feature": pair.b, "method": "cramers_v", "value": pair.cramers_v, "n_patients": pair.n_patients}]
    if pair.correlation_ratio is not None:
        rows.append({**rows[0], "method": "correlation_ratio", "value": pair.correlation_ratio})
    return rows
