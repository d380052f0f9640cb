"""Estimates: the bootstrap of AUROC and average precision beside its peers, DeLong at a million, a million rows from file to folder.

    OMP_NUM_THREADS=1 python benchmarks/estimates.py [--images 100000] [--replicates 1000] [--budget 20] [--rounds 3]
    OMP_NUM_THREADS=1 python benchmarks/estimates.py --only score [--rows 1000000]

Peers are timed where they are installed: fairlearn, scikit-learn, torchmetrics, confidenceinterval, stambo. The slow ones run as
many replicates as fit in --budget seconds (two at least) and are scaled up to --replicates; the table says how many ran. Processor
time, the best of --rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from evaluate.bootstrap import Draws, bootstrap
from evaluate.influence import auroc, difference, difference_interval
from evaluate.precision import precision_influence, rank

Work = Callable[[int], object]  # takes how many replicates to run


def simulate(n: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Give scores between 0 and 1, and the truth of one in five."""
    rng = np.random.default_rng(0)
    truth = rng.random(n) < 0.2
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * truth - 1)))
    return (scores if decimals is None else scores.round(decimals)), truth


def ours(scores: np.ndarray, truth: np.ndarray, units: np.ndarray) -> Work:
    def work(replicates: int) -> object:
        draws = Draws(int(units.max()) + 1, replicates, seed=0)
        return bootstrap([rank(scores, truth, units)], draws)

    return work


def scikit_learn(scores: np.ndarray, truth: np.ndarray) -> Work:
    def work(replicates: int) -> object:
        rng = np.random.default_rng(0)
        drawn = (rng.integers(0, len(truth), len(truth)) for _ in range(replicates))
        return [(roc_auc_score(truth[i], scores[i]), average_precision_score(truth[i], scores[i])) for i in drawn]

    return work


def fairlearn(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> Work:
    from fairlearn.metrics import MetricFrame

    def work(replicates: int) -> object:
        metrics = {"auroc": roc_auc_score, "auprc": average_precision_score}
        options = {"n_boot": replicates, "ci_quantiles": [0.025, 0.975], "random_state": 0}
        return MetricFrame(metrics=metrics, y_true=truth, y_pred=scores, sensitive_features=groups, **options)

    return work


def torchmetrics(scores: np.ndarray, truth: np.ndarray) -> Work:
    import torch
    from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision
    from torchmetrics.wrappers import BootStrapper

    torch.set_num_threads(1)
    predicted, target = torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(truth.astype(np.int64))

    def work(replicates: int) -> object:
        found = []
        for metric in (BinaryAUROC(), BinaryAveragePrecision()):
            sampled = BootStrapper(metric, num_bootstraps=replicates, sampling_strategy="multinomial")
            sampled.update(predicted, target)
            found.append(sampled.compute())
        return found

    return work


def confidenceinterval(scores: np.ndarray, truth: np.ndarray) -> Work:
    from confidenceinterval import roc_auc_score as with_interval

    def work(replicates: int) -> object:
        return with_interval(truth.astype(int), scores, method="bootstrap_percentile", n_resamples=replicates)

    return work


def stambo(scores: np.ndarray, truth: np.ndarray) -> Work:
    import stambo as library

    def work(replicates: int) -> object:
        measured = ("ROCAUC", "AP")
        return library.compare_models(truth.astype(int), scores, scores**2, metrics=measured, n_bootstrap=replicates, seed=0, silent=True)

    return work


def seconds(work: Work, replicates: int, budget: float, rounds: int) -> tuple[float, int]:
    """Time as many replicates as the budget allows; give the seconds that all of them would take and how many ran."""
    started = time.process_time()
    work(2)
    each = (time.process_time() - started) / 2
    ran = max(2, min(replicates, int(budget / max(each, 1e-9))))
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        work(ran)
        best = min(best, time.process_time() - started)
    return best * replicates / ran, ran


def show_bootstrap(n: int, replicates: int, budget: float, rounds: int) -> None:
    scores, truth = simulate(n)
    tied, _ = simulate(n, decimals=3)
    everyone, groups = np.arange(n), np.arange(n) % 5
    contenders: dict[str, Callable[[], Work]] = {
        "evenfooting, images": lambda: ours(scores, truth, everyone),
        "evenfooting, images, scores of three decimals (ties)": lambda: ours(tied, truth, everyone),
        "evenfooting, patients of two images": lambda: ours(scores, truth, everyone // 2),
        "scikit-learn loop": lambda: scikit_learn(scores, truth),
        "fairlearn MetricFrame, one group": lambda: fairlearn(scores, truth, np.zeros(n, dtype=int)),
        "fairlearn MetricFrame, five groups": lambda: fairlearn(scores, truth, groups),
        "torchmetrics BootStrapper": lambda: torchmetrics(scores, truth),
        "confidenceinterval (AUROC alone)": lambda: confidenceinterval(scores, truth),
        "stambo (two models)": lambda: stambo(scores, truth),
    }
    taken: dict[str, tuple[float, int]] = {}
    for name, make in contenders.items():
        library = name.split()[0].rstrip(",")
        if library not in ("evenfooting", "scikit-learn") and importlib.util.find_spec(library) is None:
            print(f"{library}: not installed, left out", file=sys.stderr)
            continue
        taken[name] = seconds(make(), replicates, budget, 1 if library != "evenfooting" else rounds)
    print(f"\n### {replicates:,} bootstrap replicates of AUROC and average precision, {n:,} images, one core\n")
    print("| | seconds | replicates run | times as long as evenfooting |\n|---|---:|---:|---:|")
    first = taken["evenfooting, images"][0]
    for name, (total, ran) in taken.items():
        print(f"| {name} | {total:,.1f} | {ran:,} | {total / first:.1f} |")


def show_groups(n: int, replicates: int, rounds: int) -> None:
    scores, truth = simulate(n)
    groups = np.random.default_rng(1).integers(0, 5, n)

    def everyone(replicates: int) -> object:
        return ours(scores, truth, np.arange(n))(replicates)

    def by_group(replicates: int) -> object:
        found = [everyone(replicates)]
        for group in range(5):
            mask = groups == group
            found.append(ours(scores[mask], truth[mask], np.arange(int(mask.sum())))(replicates))
        return found

    def influence(masks: list[np.ndarray]) -> Work:
        def work(_: int) -> object:
            return [f(scores[m], truth[m], np.arange(int(m.sum()))) for m in masks for f in (auroc, precision_influence)]

        return work

    all_of_them = np.ones(n, dtype=bool)
    masks = [all_of_them, *(groups == g for g in range(5))]
    print(f"\n### Everyone, and everyone with five subgroups: AUROC and AUPRC, {n:,} images\n")
    print("| | everyone, s | with five subgroups, s | ratio |\n|---|---:|---:|---:|")
    for name, alone, together in (
        (f"bootstrap, {replicates:,} replicates", everyone, by_group),
        ("influence functions", influence([all_of_them]), influence(masks)),
    ):
        a, b = (min(_timed(work, replicates) for _ in range(rounds)) for work in (alone, together))
        print(f"| {name} | {a:.3f} | {b:.3f} | {b / a:.2f} |")


def _timed(work: Work, replicates: int) -> float:
    started = time.process_time()
    work(replicates)
    return time.process_time() - started


def show_delong(n: int, rounds: int) -> None:
    a, truth = simulate(n)
    b = np.clip(a + 0.1 * np.random.default_rng(2).normal(size=n), 0, 1)
    patients = np.arange(n) // 2

    def work(_: int) -> object:
        gap = difference(auroc(a, truth, patients), auroc(b, truth, patients))
        return difference_interval(gap.value, gap.standard_error(patients))

    print(f"\nPaired DeLong of two models, {n:,} images of {n // 2:,} patients: {min(_timed(work, 0) for _ in range(rounds)):.2f} s\n")


def show_score(rows: int) -> None:
    """Run ``evaluate score`` on a file, in a process of its own, and give its time and memory."""
    shapes = {"one model, one seed": (1, 1), "two models, five seeds": (2, 5)}
    print(f"\n### `evaluate score` on {rows:,} rows: every metric, three attributes of ten groups\n")
    print("| | images tested | processor time, s | elapsed, s | largest memory, GB |\n|---|---:|---:|---:|---:|")
    for name, (models, seeds) in shapes.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "predictions.parquet"
            tested = write_predictions(file, rows, models, seeds)
            started = time.perf_counter()
            command = [sys.executable, "-m", "evaluate", "score", str(file), "--score", "p_1", "--out", f"{folder}/evaluation", "--quiet"]
            with subprocess.Popen(command) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"evaluate score failed: {' '.join(command)}")
            used = usage.ru_utime + usage.ru_stime
            print(f"| {name} | {tested:,} | {used:.0f} | {time.perf_counter() - started:.0f} | {usage.ru_maxrss / 1e6:.1f} |")


def write_predictions(file: Path, rows: int, models: int, seeds: int) -> int:
    """Write predictions of patients of two images, one in ten for validation; give how many images are tested."""
    rng = np.random.default_rng(0)
    n = rows // (models * seeds)
    image, patient = np.arange(n), np.arange(n) // 2
    truth = rng.random(n) < 0.2
    images = pd.DataFrame(
        {
            "image_id": pd.Series(image).map("im-{:08d}".format),
            "patient_id": pd.Series(patient).map("p-{:08d}".format),
            "split": np.where(patient % 10 == 0, "val", "test"),
            "label": truth.astype(int),
            "age": rng.uniform(20, 90, n).round(),
            "sex": rng.choice(["female", "male"], n),
            "ethnicity": rng.choice(list("abcde"), n),
        }
    )
    shared = rng.normal(size=n) + 1.5 * truth - 1.5
    frames = []
    for model in range(models):
        for seed in range(seeds):
            p = 1 / (1 + np.exp(-(shared + 0.5 * rng.normal(size=n))))
            frames.append(images.assign(model=f"model-{model}", seed=seed, p_1=p))
    pd.concat(frames).to_parquet(file)
    return int((images["split"] == "test").sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--budget", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("bootstrap", "groups", "delong", "score"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.only in (None, "bootstrap"):
        show_bootstrap(arguments.images, arguments.replicates, arguments.budget, arguments.rounds)
    if arguments.only in (None, "groups"):
        show_groups(arguments.images, arguments.replicates, arguments.rounds)
    if arguments.only in (None, "delong"):
        show_delong(1_000_000, arguments.rounds)
    if arguments.only in (None, "score"):
        show_score(arguments.rows)


if __name__ == "__main__":
    main()
