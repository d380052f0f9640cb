"""How fast photographs come out of a shard set on one core: our loader beside stock webdataset.

    python benchmarks/loader.py [--images 1024] [--repeats 5] [--only WORD] [--device cuda] [--threads]

Makes its own shard set in a temporary folder (smooth colour noise, JPEGs of 256 px), then measures, everything held to one core
and taking turns so that a busy machine hurts all alike:

- decode: photographs as uint8 arrays, in a random order with the SHA-256 of each checked (webdataset: in the order of the tars,
  unchecked, which costs it nothing);
- MAE views: random resized crop to 224 px, bicubic with antialiasing, flip; as uint8 batches, as our training step
  takes them and normalises them on its device, and as normalised float32 batches;
- DINOv2 views: 2 crops to 224 px and 8 to 98 px; ours with the changes of colour only drawn, and drawn and done;
- colour: the changes of colour and the normalisation alone, of 2 + 8 crops.

The peers: webdataset with PIL and torchvision's transforms on PIL pictures (what most training code does, the official DINOv2
augmentation among it), and webdataset with PIL and torchvision's v2 transforms on uint8 tensors.

Prints a Markdown table: the median of the repeats, the best and the worst, by the clock and by the CPU time that was used (which
other programs on the machine disturb less), and the median of the ratios within a repeat, of CPU times.
`--threads` measures our loader with one and with two threads, on two cores, instead.
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
from functools import partial
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
from pretrain.batch import Batch
from pretrain.data import Loader
from pretrain.dinov2.colour import normalised
from pretrain.dinov2.views import MultiCrop
from pretrain.mae import MaeViews
from pretrain.recipe import Colour, Data, LocalCrops
from pretrain.views import Views

SIZE, BATCH = 224, 64
LOCAL, LOCAL_SIZE = 8, 98
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


def mae_views() -> MaeViews:
    """Give the views of the MAE recipes."""
    return MaeViews(Data(size=SIZE), patches=196, kept=49)


def dino_views() -> MultiCrop:
    """Give the views of the DINOv2 recipes."""
    return MultiCrop(Data(size=SIZE, crop_area=(0.32, 1.0), local=LocalCrops(crops=LOCAL, size=LOCAL_SIZE), colour=Colour()), grid=(16, 16))


def ours_decode(folder: Path) -> Iterable[int]:
    """Positioned reads in a random order, checksum, decode."""
    shards = open_shards(folder)
    loader = Loader(shards, mae_views(), batch=BATCH, seed=0, workers=1)
    for position in np.random.default_rng(0).permutation(len(shards)).tolist():
        image = loader.decode(position)
        assert image is not None
        yield image.shape[0] // 256


def ours_batches(views: Views, folder: Path, workers: int = 1) -> Iterable[Batch]:
    """Training batches as the loop gets them."""
    shards = open_shards(folder)
    yield from Loader(shards, views, batch=BATCH, seed=0, workers=workers).batches(0, len(shards) // BATCH)


def ours_mae(folder: Path) -> Iterable[int]:
    """Training batches as the loop gets them (masks too)."""
    return ours_counted(mae_views(), 1, folder)


def ours_mae_float(folder: Path) -> Iterable[int]:
    """The same, made float and normalised."""
    mean, std = (255.0 * torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    for batch in ours_batches(mae_views(), folder):
        # A few at a time, so that they stay in the cache.
        yield sum(len(part.float().sub_(mean).div_(std)) for part in batch["images"].split(4))


def ours_dino(folder: Path) -> Iterable[int]:
    """Training batches as the loop gets them (masks and drawn colours too)."""
    return ours_counted(dino_views(), 1, folder)


def coloured(batch: Batch) -> int:
    """Do the changes of colour of a batch, where it is."""
    mean, std = (torch.tensor(v, device=batch["colour"].device) for v in (MEAN, STD))
    for name, part in (("global", slice(0, 2)), ("local", slice(2, None))):
        normalised(batch[name].flatten(0, 1), batch["colour"][:, part].flatten(0, 1), mean, std)
    if mean.is_cuda:
        torch.cuda.synchronize()
    return len(batch)


def ours_dino_coloured(folder: Path) -> Iterable[int]:
    """The same with the changes of colour done, on the CPU."""
    return map(coloured, ours_batches(dino_views(), folder))


def stock(folder: Path) -> Any:
    """Give webdataset's pipeline with its own PIL decoder."""
    urls = sorted(str(p) for p in folder.glob("shard-*.tar"))
    return webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)


def stock_decode(folder: Path) -> Iterable[int]:
    """Stream, decode with PIL to uint8."""
    for (image,) in stock(folder).decode("rgb8").to_tuple("jpg"):
        yield image.shape[0] // 256


def stock_views(transform: Any, decoder: str, folder: Path) -> Iterable[int]:
    """Stream, shuffle, decode with PIL, transform, batches of tensors."""
    data = stock(folder).shuffle(500).decode(decoder).to_tuple("jpg").map_tuple(transform).batched(BATCH, partial=False)
    for (images,) in data:
        yield len(images)


def mae_transform(*, float_: bool = True) -> Any:
    """Give the usual transforms of MAE on PIL pictures."""
    return v2.Compose([*_cropped(SIZE, (0.2, 1.0)), *_made_tensor(float_=float_)])


def mae_transform_uint8() -> Any:
    """Give the same on uint8 tensors, which is torchvision's own advice for speed."""
    return v2.Compose([v2.ToImage(), *_cropped(SIZE, (0.2, 1.0))])


def _cropped(size: int, area: tuple[float, float]) -> list[Any]:
    return [v2.RandomResizedCrop(size, scale=area, interpolation=v2.InterpolationMode.BICUBIC, antialias=True), v2.RandomHorizontalFlip()]


def _made_tensor(*, float_: bool = True) -> list[Any]:
    return [v2.ToImage(), *([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)] if float_ else [])]


def dino_transform(*, tensors: bool) -> Any:
    """Give an augmentation of DINOv2's kind, crop by crop, on PIL pictures or on uint8 tensors."""
    jitter = [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8), v2.RandomGrayscale(p=0.2)]

    def crop(size: int, area: tuple[float, float], blur: float, solarise: float) -> Any:
        effects = [v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], p=blur), v2.RandomSolarize(128, p=solarise)]
        return v2.Compose([*_cropped(size, area), *jitter, *effects, *_made_tensor()])

    crops = [crop(SIZE, (0.32, 1.0), 0.0, 0.0), crop(SIZE, (0.32, 1.0), 0.9, 0.2)]
    crops += [crop(LOCAL_SIZE, (0.05, 0.32), 0.5, 0.0)] * LOCAL
    made = v2.ToImage() if tensors else (lambda picture: picture)

    def views(picture: Any) -> list[Any]:
        picture = made(picture)
        return [one(picture) for one in crops]

    return views


def speed(function: Callable[[Path], Iterable[int]], folder: Path) -> tuple[float, float]:
    """Give images a second of one pass: by the clock, and by the CPU time of all threads."""
    started, used = time.perf_counter(), time.process_time()
    images = sum(function(folder))
    return images / (time.perf_counter() - started), images / (time.process_time() - used)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="measure the tasks with this word in their name")
    parser.add_argument("--device", default="cpu", help="where the changes of colour alone are measured")
    parser.add_argument("--threads", action="store_true", help="our loader with one thread and with two")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_shards(folder, options.images)
        print(f"{options.images:,} JPEGs of 256 px, {size / options.images / 1024:.1f} KiB each; {options.repeats} repeats, taking turns.")
        print(f"webdataset {webdataset.__version__}, torch {torch.__version__}, OpenCV {cv2.__version__}; {loads()}\n")
        if options.threads:
            compare_threads(folder, options.repeats)
        else:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            compare(folder, options.repeats, options.only, options.device)
    print(f"\nAt the end: {loads()}.")


def loads() -> str:
    """Say how busy the machine is."""
    return f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores"


def shown(values: list[float]) -> str:
    """Give median, best and range."""
    return f"{statistics.median(values):,.0f} (best {max(values):,.0f}, worst {min(values):,.0f})"


def compare(folder: Path, repeats: int, only: str, device: str) -> None:
    """Measure ours beside the peers, each task in turn within a repeat."""
    pil, tensors = "webdataset, PIL", "webdataset, v2 on uint8"
    mae, dino = f"MAE views, {SIZE} px", f"DINOv2 views, 2 x {SIZE} + {LOCAL} x {LOCAL_SIZE} px"
    batch = next(iter(ours_batches(dino_views(), folder))).to(torch.device(device))
    tasks: dict[str, list[tuple[str, Callable[[Path], Iterable[int]]]]] = {
        "decode to uint8": [("evenfooting", ours_decode), (pil, stock_decode)],
        f"{mae}, uint8 batches": [
            ("evenfooting", ours_mae),
            (pil, partial(stock_views, mae_transform(float_=False), "pil")),
            (tensors, partial(stock_views, mae_transform_uint8(), "pil")),
        ],
        f"{mae}, normalised": [("evenfooting", ours_mae_float), (pil, partial(stock_views, mae_transform(), "pil"))],
        f"{dino}, colours drawn": [("evenfooting", ours_dino)],
        f"{dino}, colours done": [
            ("evenfooting", ours_dino_coloured),
            (pil, partial(stock_views, dino_transform(tensors=False), "pil")),
            (tensors, partial(stock_views, dino_transform(tensors=True), "pil")),
        ],
        f"colours of 2 + 8 crops alone, {device}": [("evenfooting", lambda _: [coloured(batch)])],
    }
    tasks = {task: contenders for task, contenders in tasks.items() if only in task}
    results: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repeat in range(repeats + 1):
        for task, contenders in tasks.items():
            for name, function in contenders:
                if repeat or "done" not in task:  # the first round brings files into the page cache and code into memory
                    measured = speed(function, folder)
                    if repeat:
                        results.setdefault((task, name), []).append(measured)
    print("| task | | images/s | images/s of CPU time | ours is faster by |\n|---|---|---:|---:|---:|")
    for (task, name), values in results.items():
        clock, cpu = map(list, zip(*values, strict=True))
        ratios = [ours / theirs for (_, ours), theirs in zip(results[task, "evenfooting"], cpu, strict=True)]
        ratio = "" if name == "evenfooting" else f"{statistics.median(ratios):.2f}"
        print(f"| {task if name == 'evenfooting' else ''} | {name} | {shown(clock)} | {shown(cpu)} | {ratio} |")


def compare_threads(folder: Path, repeats: int) -> None:
    """Measure how our loader scales from one thread to two."""
    print("| task | 1 thread, images/s | 2 threads, images/s | ratio |\n|---|---:|---:|---:|")
    for task, views in (("MAE", mae_views()), ("DINOv2", dino_views())):
        pairs: list[list[float]] = [[], []]
        for repeat in range(repeats + 1):
            for threads in (1, 2):
                measured, _ = speed(partial(ours_counted, views, threads), folder)
                if repeat:
                    pairs[threads - 1].append(measured)
        ratio = statistics.median(two / one for one, two in zip(*pairs, strict=True))
        print(f"| {task} views | {shown(pairs[0])} | {shown(pairs[1])} | {ratio:.2f} |")


def ours_counted(views: Views, threads: int, folder: Path) -> Iterable[int]:
    """Count the images of training batches."""
    return map(len, ours_batches(views, folder, threads))


if __name__ == "__main__":
    main()
