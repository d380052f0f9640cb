"""Do the intervals hold what they promise? Simulated studies with known truth, through the same code as every evaluation.

    python benchmarks/coverage.py [--studies 2000] [--out coverage.jsonl] [--images 100 200 500 1000 2000] [--workers 1]

A study: patients with two eyes (labels and scores of a patient's eyes go together), two models of five seeds each, scored
on the same images. Scores are binormal: an image of label y scores N(y d, 1) with every model and seed, of which a part is
the patient's, a part the eye's, a part the model's and a part the seed's. So both models have the same known AUROC,
Phi(d / sqrt 2), AUPRC, Brier score, calibration and net benefit, and their difference is 0. Thresholds are fixed on a
validation set of the same size; the truth of sensitivity is that of the thresholds fixed.
Coverage should be 95 %, and rejections 5 %: with 2,000 studies, within 1 point of it. Finished blocks of studies are kept in
--out, and repeating the command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, ttest_ind

from evaluate.estimates import interval_of
from evaluate.influence import difference_interval
from evaluate.measuring import panels
from evaluate.panel import MACRO, difference_of
from evaluate.predictions import ScoredImages

SEEDS = 5
BLOCK = 50
METRICS = ("auroc", "auprc", "auprc_adjusted", "brier", "ece", "calibration_slope", "calibration_intercept")
METRICS += ("sensitivity", "specificity", "ppv", "npv", "net_benefit")
PATIENT, EYE, MODEL, SEED = 0.4, 0.3, 0.2, 0.1  # shares of the variance of a score
TREAT_AT = 0.2


def simulate(rng: np.random.Generator, images: int, prevalence: float, distance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give truth (n,), patients (n,) and probabilities (models, seeds, n), calibrated by construction."""
    patients = np.repeat(np.arange(images // 2), 2)
    shared = np.repeat(rng.random(images // 2) < prevalence, 2)
    truth = np.where(np.repeat(rng.random(images // 2) < 0.7, 2), shared, rng.random(images) < prevalence)
    score = truth * distance + math.sqrt(PATIENT) * np.repeat(rng.normal(size=images // 2), 2) + math.sqrt(EYE) * rng.normal(size=images)
    score = score + math.sqrt(MODEL) * rng.normal(size=(2, 1, images)) + math.sqrt(SEED) * rng.normal(size=(2, SEEDS, images))
    logits = distance * score - distance**2 / 2 + math.log(prevalence / (1 - prevalence))
    return truth, patients, 1 / (1 + np.exp(-logits))


def truths(prevalence: float, distance: float) -> dict[str, float]:
    """Give the population's values, by integration over the score."""
    s = np.linspace(-9, 9 + distance, 400_001)
    step = s[1] - s[0]
    positive, negative = prevalence * norm.pdf(s - distance), (1 - prevalence) * norm.pdf(s)
    p = positive / (positive + negative)
    recall = norm.sf(s - distance)
    precision = prevalence * recall / (prevalence * recall + (1 - prevalence) * norm.sf(s))
    brier = float(((1 - p) ** 2 * positive + p**2 * negative).sum() * step)
    treated = p >= TREAT_AT
    benefit = float(((positive - negative * TREAT_AT / (1 - TREAT_AT)) * treated).sum() * step)
    return {
        "auroc": float(norm.cdf(distance / math.sqrt(2))),
        "auprc": float((precision * norm.pdf(s - distance)).sum() * step),
        "brier": brier,
        "ece": 0.0,
        "calibration_slope": 1.0,
        "calibration_intercept": 0.0,
        "net_benefit": benefit,
    }


def at_cuts(metric: str, cuts: np.ndarray, prevalence: float, distance: float) -> float:
    """Give the population's sensitivity, specificity or predictive value at given thresholds, averaged over seeds."""
    with np.errstate(divide="ignore"):
        score = (np.log(cuts / (1 - cuts)) + distance**2 / 2 - math.log(prevalence / (1 - prevalence))) / distance
    sensitivity, alarms = norm.sf(score - distance), norm.sf(score)
    found, called = prevalence * sensitivity, prevalence * sensitivity + (1 - prevalence) * alarms
    values = {
        "sensitivity": sensitivity,
        "specificity": 1 - alarms,
        "ppv": found / called,
        "npv": (1 - prevalence) * (1 - alarms) / (1 - called),
    }
    return float(values[metric].mean())


def arranged(truth: np.ndarray, patients: np.ndarray, scores: np.ndarray, validation: ScoredImages | None) -> ScoredImages:
    return ScoredImages(
        task="study",
        adaptation="simulated",
        classes=("no", "yes"),
        labels=truth.astype(np.int64),
        truth=np.stack([~truth, truth], axis=1),
        known=np.ones((len(truth), 2), dtype=bool),
        patients=patients.astype(np.int64),
        scores={name: np.stack([1 - p, p], axis=2) for name, p in zip("ab", scores, strict=True)},
        validation=validation,
    )


def study(
    rng: np.random.Generator, images: int, prevalence: float, distance: float, known: dict[str, float], replicates: int
) -> list[tuple[str, str, bool]]:
    """Run one study; give what was counted: (kind, metric, whether it happened)."""
    validation = arranged(*simulate(rng, images, prevalence, distance), None)
    scored = arranged(*simulate(rng, images, prevalence, distance), validation)
    counted: list[tuple[str, str, bool]] = []
    (panel,) = panels(
        scored, METRICS, thresholds=("youden",), net_benefit_at=(TREAT_AT,), replicates=replicates, seed=int(rng.integers(2**31))
    )
    for metric, threshold in panel.lines:
        a, b = (panel.measured.get((m, metric, threshold, MACRO)) for m in "ab")
        if a is None or b is None:
            counted.append(("not given", metric, True))
            continue
        if metric in ("sensitivity", "specificity", "ppv", "npv"):
            cuts = [panel.cuts[m, threshold, "yes"] for m in "ab"]
            expected, other = (at_cuts(metric, c, prevalence, distance) for c in cuts)
        elif metric == "auprc_adjusted":
            positive = scored.truth[:, 1]
            expected = other = truths_at(float(positive.mean()), distance)
        else:
            expected = other = known[metric]
        low, high = interval_of(a)
        if math.isnan(low):
            counted.append(("not given", metric, True))
            continue
        counted += [("covered", metric, low <= expected <= high), ("too high", metric, low > expected)]
        gap = difference_of(a, b)
        low, high, p = difference_interval(gap.value, gap.error, freedom=gap.freedom)
        counted.append(("difference covered", metric, low <= other - expected <= high))
        if expected == other:
            counted.append(("rejected", metric, p < 0.05))
            if metric == "auroc":
                over_seeds = ttest_ind(b.by_seed, a.by_seed)
                inside = over_seeds.confidence_interval()
                counted += [
                    ("t-test rejected", metric, over_seeds.pvalue < 0.05),
                    ("t-test covered", metric, inside.low <= 0 <= inside.high),
                ]
                half = 1.96 * a.by_seed.std(ddof=1) / math.sqrt(SEEDS)
                counted.append(("paper's interval covered", metric, abs(a.value - expected) <= half))
    return counted


def truths_at(prevalence: float, distance: float) -> float:
    """Give the population's AUPRC at a prevalence."""
    s = np.linspace(-9, 9 + distance, 20_001)
    recall = norm.sf(s - distance)
    precision = prevalence * recall / (prevalence * recall + (1 - prevalence) * norm.sf(s))
    return float((precision * norm.pdf(s - distance)).sum() * (s[1] - s[0]))


def block(setting: dict[str, Any], number: int, replicates: int) -> dict[str, Any]:
    """Run one block of studies; the same numbers wherever and whenever it runs."""
    rng = np.random.default_rng([number, setting["images"], round(1000 * setting["prevalence"]), round(1000 * setting["auroc"])])
    distance = math.sqrt(2) * norm.ppf(setting["auroc"])
    known = truths(setting["prevalence"], distance)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for _ in range(BLOCK):
        for kind, metric, happened in study(rng, setting["images"], setting["prevalence"], distance, known, replicates):
            counts[f"{kind}:{metric}"][0] += bool(happened)
            counts[f"{kind}:{metric}"][1] += 1
    return {**setting, "block": number, "replicates": replicates, "counts": counts}


def show(rows: list[dict[str, Any]]) -> None:
    """Print tables of what the blocks so far add up to."""
    settings = list(dict.fromkeys((r["images"], r["prevalence"], r["auroc"]) for r in rows))
    total: dict[tuple[Any, str], np.ndarray] = defaultdict(lambda: np.zeros(2))
    for row in rows:
        for key, count in row["counts"].items():
            total[(row["images"], row["prevalence"], row["auroc"]), key] += count
    for title, kind in (
        ("How often the 95 % interval holds the truth, %", "covered"),
        ("How often the 95 % interval of the paired difference holds the truth, %", "difference covered"),
        ("How often the paired test finds a difference where there is none, %", "rejected"),
    ):
        metrics = [m for m in METRICS if any((s, f"{kind}:{m}") in total for s in settings)]
        print(f"\n### {title}\n\n| images | prevalence | AUROC | studies | {' | '.join(metrics)} |\n|{'---:|' * (4 + len(metrics))}")
        for setting in settings:
            cells = []
            for metric in metrics:
                happened, of = total[setting, f"{kind}:{metric}"]
                cells.append(f"{100 * happened / of:.1f}" if of else "")
            studies = BLOCK * sum((r["images"], r["prevalence"], r["auroc"]) == setting for r in rows)
            print(f"| {setting[0]:,} | {setting[1]} | {setting[2]} | {studies:,} | {' | '.join(cells)} |")
    print("\n### AUROC: five seeds taken as the sample, %\n")
    print(
        "| images | prevalence | AUROC | t-test over seeds rejects | its interval holds 0 | paired, by patient, rejects "
        "| mean ± 1.96 se over seeds holds the truth |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for setting in settings:
        kinds = ("t-test rejected", "t-test covered", "rejected", "paper's interval covered")
        cells = [f"{100 * total[setting, f'{k}:auroc'][0] / total[setting, f'{k}:auroc'][1]:.1f}" for k in kinds]
        print(f"| {setting[0]:,} | {setting[1]} | {setting[2]} | {' | '.join(cells)} |")
    missing = {k: int(v[0]) for k, v in total.items() if k[1].startswith("not given")}
    if missing:
        print("\nStudies without an interval (one label, or no image called), left out above:")
        print(", ".join(f"{key.partition(':')[2]} {count} of {setting}" for (setting, key), count in missing.items()) + ".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 200, 500, 1000, 2000])
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("coverage.jsonl"))
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    from joblib import Parallel, delayed

    settings = [{"images": n, "prevalence": q, "auroc": a} for n in arguments.images for q, a in ((0.3, 0.8), (0.3, 0.9), (0.1, 0.9))]
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    done = {(r["images"], r["prevalence"], r["auroc"], r["block"]) for r in rows if r["replicates"] == arguments.replicates}
    todo = [(s, number) for number in range(arguments.studies // BLOCK) for s in settings if (*s.values(), number) not in done]
    for row in Parallel(n_jobs=arguments.workers, return_as="generator")(
        delayed(block)(s, number, arguments.replicates) for s, number in todo
    ):
        rows.append(row)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    show(sorted(rows, key=lambda r: (r["images"], -r["prevalence"], r["auroc"], r["block"])))


if __name__ == "__main__":
    main()
