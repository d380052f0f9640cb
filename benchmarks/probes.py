"""What it costs to learn a task from cached features, beside the probe that sees augmented photographs anew in every epoch.

    python benchmarks/probes.py

prints two tables: `probe-cached` for 5 seeds and 13 learning rates on 2,000 images of 1,024 features and 5 classes (beside
`logistic` and `knn` on the same features, and scikit-learn's logistic regression over the same strengths); and, measured on a small
ViT and small photographs, one seed of `probe-paper` for its 50 epochs beside the features that `probe-cached` needs once.
Takes about five minutes on one core; --epochs 5 shortens the second table and says so.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from evaluate.classifiers import LogisticSettings, fit_logistic, fit_neighbours
from evaluate.features import Model, extract_features
from evaluate.finetune import ImageCell, train_cell
from evaluate.heads import Truth
from evaluate.probe import Settings, fit_probe
from evaluate.stored import StoredImages
from evaluate.training import TrainingSettings, stored_shape
from timing import machine

SEEDS = range(5)
INFO = {"sha256": "0" * 64, "input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.25] * 3, "architecture": "small", "shards_digest": None}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="photographs of the second table")
    parser.add_argument("--epochs", type=int, default=50, help="of probe-paper")
    arguments = parser.parse_args()
    print(f"{machine()}, one thread")
    torch.set_num_threads(1)
    on_features()
    on_photographs(arguments.images, arguments.epochs)


def seconds(work: Callable[[], Any], *, repeats: int = 1) -> float:
    """Time a piece of work; the best of several times."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def on_features(n: int = 2000, width: int = 1024, classes: int = 5) -> None:
    """Time everything that learns from features: n images train, half as many choose."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n + n // 2)
    features = rng.normal(size=(len(labels), width)).astype(np.float32)
    features += rng.normal(size=(classes, width))[labels] * 0.1
    train = np.arange(len(labels)) < n
    truth = Truth.of_classes(labels, classes)
    strengths = LogisticSettings().strengths

    def scikit_learn() -> None:
        inputs = (features - features[train].mean(axis=0)) / features[train].std(axis=0)
        for strength in strengths:
            LogisticRegression(C=strength, max_iter=1000).fit(inputs[train], labels[train]).predict_proba(inputs)

    rates = len(Settings().rates)
    print(f"\n### {n:,} training images, {width:,} features, {classes} classes\n")
    print("| | what | seconds |")
    print("|---|---|---:|")
    probe = seconds(lambda: fit_probe(features, truth, train, ~train, seeds=SEEDS), repeats=2)
    print(f"| probe-cached | {len(SEEDS)} seeds x {rates} rates x {Settings().epochs} epochs | {probe:.1f} |")
    logistic = seconds(lambda: fit_logistic(features, truth, train, ~train))
    print(f"| logistic | {len(strengths)} strengths | {logistic:.1f} |")
    print(f"| scikit-learn LogisticRegression | the same {len(strengths)} strengths | {seconds(scikit_learn):.1f} |")
    print(f"| knn | 5 to 200 neighbours | {seconds(lambda: fit_neighbours(features, truth, train, ~train), repeats=2):.2f} |")


def load_small(source: str) -> tuple[Any, dict[str, Any]]:
    """Make a transformer of 6 blocks and width 192 for 64 x 64 pixels."""
    import timm

    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=64, patch_size=8, depth=6, num_classes=0).eval(), INFO


def on_photographs(images: int, epochs: int) -> None:
    """Time one seed of the paper's probe, and the features and all heads of the cached one, on the same photographs."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i}.jpg" for i in range(images)]
        for path in paths:
            coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            coarse.resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)
        part = np.arange(images) % 5
        split = np.where(part < 3, "train", np.where(part == 3, "val", "test")).astype(object)
        truth = Truth.of_classes(rng.integers(0, 5, images), 5)
        model = Model("small", "small", INFO)
        cell = ImageCell(
            task="t", model=model, loader=load_small, images=StoredImages(folder / "stored", paths, stored_shape(INFO)),
            places=np.arange(images), split=split, truth=truth, settings=TrainingSettings(epochs=epochs), frozen=True, seed=0,
            result=folder / "cell.npy", keep=None, first=0, threads=1, talk=False,
        )  # fmt: skip
        paper = seconds(lambda: train_cell(cell))
        features = seconds(lambda: extract_features(model, paths, folder / "features", workers=1, loader=load_small))
        seen = np.load(folder / "features" / "small.npy")
        heads = seconds(lambda: fit_probe(seen, truth, split == "train", split == "val", seeds=SEEDS))
    said = "" if epochs == 50 else f", {epochs} epochs in place of 50"
    print(f"\n### {images} photographs, a ViT of 6 blocks and width 192 at 64 pixels{said}\n")
    print("| | seconds | for 5 seeds |")
    print("|---|---:|---:|")
    print(f"| probe-paper, one seed | {paper:.1f} | {5 * paper:.1f} |")
    print(f"| probe-cached: features once | {features:.1f} | {features:.1f} |")
    print(f"| probe-cached: all heads | {heads:.1f} | {heads:.1f} |")
    print(f"\nFor five seeds probe-cached takes 1/{5 * paper / (features + heads):.0f} of the time of probe-paper.")


if __name__ == "__main__":
    main()
