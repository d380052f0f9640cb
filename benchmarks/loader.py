"""How fast photographs come out of a shard set on one core: our loader beside stock webdataset with PIL.

    python benchmarks/loader.py [--images 1000] [--repeats 5]

Makes its own shard set in a temporary folder (smooth colour noise, JPEGs of 256 px), then measures, one thread each and
taking turns so that a busy machine hurts all alike:

- decode: photographs as uint8 arrays, in a random order (webdataset: in the order of the tars, which costs it nothing);
- MAE views: random resized crop to 224 px, bicubic with antialiasing, flip, uint8 -> normalised float32 batches.

Prints a Markdown table: the median of the repeats, the range, and the median of the ratios within a repeat.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import pandas as pd
import torch
import webdataset
from torchvision.transforms import v2

from curate import open_shards
from pretrain.data import Loader
from pretrain.mae import MaeViews
from pretrain.recipe import Data

SIZE, BATCH = 224, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_shards(folder: Path, images: int, per_shard: int = 500) -> int:
    """Write a shard set of smooth noise; gives its bytes."""
    rng, rows = np.random.default_rng(0), []
    for start in range(0, images, per_shard):
        name = f"shard-{start // per_shard:06d}.tar"
        with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(start, min(start + per_shard, images)):
                coarse = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (256, 256), interpolation=cv2.INTER_CUBIC)
                fine = cv2.resize(rng.normal(0, 14, (64, 64, 3)), (256, 256), interpolation=cv2.INTER_CUBIC)
                picture = (coarse + fine).clip(0, 255).astype(np.uint8)
                data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
                key = f"{number:016x}"
                for suffix, content in (("jpg", data), ("json", b"{}")):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    if suffix == "jpg":
                        rows.append((key, name, tar.offset + 512, len(content), hashlib.sha256(content).hexdigest()))
                    tar.addfile(member, io.BytesIO(content))
    pd.DataFrame(rows, columns=["key", "shard", "offset", "size", "sha256"]).to_parquet(folder / "index.parquet", index=False)
    (folder / "sample.json").write_text(json.dumps({"name": "noise", "images": images}))
    return sum(row[3] for row in rows)


def ours_decode(folder: Path) -> Iterable[int]:
    """Positioned reads in a random order, checksum, decode."""
    shards = open_shards(folder)
    loader = Loader(shards, MaeViews(Data(size=SIZE), patches=196, kept=49), batch=BATCH, seed=0, workers=1)
    for position in np.random.default_rng(0).permutation(len(shards)).tolist():
        image = loader.decode(position)
        assert image is not None
        yield image.shape[0] // 256


def ours_views(folder: Path) -> Iterable[int]:
    """Training batches as the loop gets them (masks too), made float and normalised."""
    shards = open_shards(folder)
    loader = Loader(shards, MaeViews(Data(size=SIZE), patches=196, kept=49), batch=BATCH, seed=0, workers=1)
    mean, std = (255.0 * torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    for batch in loader.batches(0, len(shards) // BATCH):
        images = batch["images"].float().sub_(mean).div_(std)
        yield images.shape[0]


def stock(folder: Path) -> Any:
    """Give webdataset's pipeline with its own PIL decoder."""
    urls = sorted(str(p) for p in folder.glob("shard-*.tar"))
    return webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)


def stock_decode(folder: Path) -> Iterable[int]:
    """Stream, decode with PIL to uint8."""
    for (image,) in stock(folder).decode("rgb8").to_tuple("jpg"):
        yield image.shape[0] // 256


def stock_views(folder: Path) -> Iterable[int]:
    """Stream, shuffle, decode with PIL, the usual torchvision transforms on PIL images, batches of tensors."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=(0.2, 1.0), interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    data = stock(folder).shuffle(500).decode("pil").to_tuple("jpg").map_tuple(transform).batched(BATCH, partial=False)
    for (images,) in data:
        yield images.shape[0]


def speed(function: Callable[[Path], Iterable[int]], folder: Path) -> float:
    """Give images a second of one pass."""
    started = time.perf_counter()
    images = sum(function(folder))
    return images / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    pairs = {"decode to uint8": (ours_decode, stock_decode), f"MAE training views, {SIZE} px": (ours_views, stock_views)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_shards(folder, options.images)
        for functions in pairs.values():  # files into the page cache, code into memory
            for function in functions:
                speed(function, folder)
        results: dict[str, list[tuple[float, float]]] = {task: [] for task in pairs}
        for _ in range(options.repeats):
            for task, (ours, theirs) in pairs.items():
                results[task].append((speed(ours, folder), speed(theirs, folder)))
    each = size / options.images / 1024
    print(f"{options.images:,} JPEGs of 256 px, {each:.1f} KiB each; one thread; {options.repeats} repeats, taking turns.")
    print(f"webdataset {webdataset.__version__}, torch {torch.__version__}, OpenCV {cv2.__version__}\n")
    print("| task | evenfooting, images/s | webdataset with PIL, images/s | ratio |\n|---|---|---|---|")
    for task, pair in results.items():
        cells = [f"{statistics.median(v):,.0f} ({min(v):,.0f}-{max(v):,.0f})" for v in zip(*pair, strict=True)]
        print(f"| {task} | {cells[0]} | {cells[1]} | {statistics.median(a / b for a, b in pair):.2f} |")


if __name__ == "__main__":
    main()
