"""Writing shards: pass-through JPEGs beside `tar` and webdataset's ShardWriter; resizing beside its bare cost; memory.

    python benchmarks/shards.py [--images 10000] [--memory 10000,100000]

Makes its own photographs (smooth noise, 54 KB at 512 px and 300 KB at 1,536 px) in a temporary folder. CPU time is that of all
processes, the children's too: on a machine that does other things it says more than the clock.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import webdataset
from joblib import Parallel, delayed
from PIL import Image

from curate.console import mode
from curate.ingest import ingest_archive
from curate.sample import SampleRequest, sample_cohort
from timing import machine, rounds, show

SHARDS = 8
KINDS = {"small": (512, 11), "typical": (1536, 7)}  # pixels along a side, noise


def draw(folder: Path, numbers: range, side: int, noise: int) -> None:
    for number in numbers:
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        cv2.circle(smooth, (side // 2, side // 2), side, (0, 0, 0), round(1.04 * side))  # a disc on black, as a fundus camera gives
        rough = smooth + rng.integers(-noise, noise + 1, (side, side, 1))
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), np.clip(rough, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])


def make(work: Path, kind: str, count: int) -> list[Path]:
    images = work / kind / "images"
    images.mkdir(parents=True)
    Parallel(n_jobs=-1)(delayed(draw)(images, range(s, min(s + 100, count)), *KINDS[kind]) for s in range(0, count, 100))
    paths = sorted(images.iterdir())
    columns = {"path": [p.name for p in paths], "patient_id": [p.stem for p in paths], "age": "50"}
    pd.DataFrame(columns).to_csv(work / kind / "m.csv", index=False)
    ingest_archive(work / kind / "m.csv", images=[images], out=work / kind / "cohort", workers=0)
    return paths


def resize_alone(paths: list[Path], side: int) -> int:
    """What `curate.rendering.render` does to a photograph that is to be resized, and nothing else."""
    for path in paths:
        with open(path, "rb") as file:
            image = Image.open(io.BytesIO(file.read())).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        image.save(io.BytesIO(), "JPEG", quality=92, subsampling="4:2:0")
    return len(paths)


def cpu_seconds() -> float:
    """User and system time of this process, its ended children and the living ones."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children[int(entry.name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    mine = {os.getpid()}
    while more := {pid for pid, (parent, _) in children.items() if parent in mine} - mine:
        mine |= more
    ticks = sum(children[pid][1] for pid in mine if pid in children)
    return ticks / os.sysconf("SC_CLK_TCK")


def counted(contenders: dict[str, Callable[[], int]]) -> tuple[dict[str, Callable[[], int]], dict[str, list[float]]]:
    """Make every contender note the CPU microseconds an image took."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}

    def watch(name: str, work: Callable[[], int]) -> Callable[[], int]:
        def run() -> int:
            started = cpu_seconds()
            count = work()
            spent[name].append((cpu_seconds() - started) / count * 1e6)
            return count

        return run

    return {name: watch(name, work) for name, work in contenders.items()}, spent


def compare(title: str, contenders: dict[str, Callable[[], int]], reference: str) -> None:
    watched, spent = counted(contenders)
    show(title, rounds(watched), "images/s", reference=reference)
    print("CPU time an image, microseconds (median): " + "; ".join(f"{name} {np.median(v[1:]):,.0f}" for name, v in spent.items()) + "\n")


def sampling(
    work: Path, kind: str, count: int, pixels: int, workers: int, *, crop: bool = False, checksum: str = "members"
) -> Callable[[], int]:
    def run() -> int:
        shutil.rmtree(work / "shards", ignore_errors=True)
        request = SampleRequest(balance=(), holdout=0.0, size=pixels, shard_images=-(-count // SHARDS), crop=crop, checksum=checksum)
        return int(sample_cohort(work / kind / "cohort", request, out=work / "shards", workers=workers)["images"])

    return run


def pass_through(work: Path, kind: str, paths: list[Path]) -> None:
    count, images = len(paths), paths[0].parent

    def shard_writer() -> int:
        shutil.rmtree(work / "wds", ignore_errors=True)
        (work / "wds").mkdir()
        with webdataset.ShardWriter(str(work / "wds" / "shard-%06d.tar"), maxcount=-(-count // SHARDS), verbose=0) as sink:
            for path in paths:
                sink.write({"__key__": path.stem, "jpg": path.read_bytes(), "json": {"width": 512, "height": 512}})
        return count

    def tar(*after: str) -> Callable[[], int]:
        def run() -> int:
            (work / "all.tar").unlink(missing_ok=True)
            subprocess.run(["tar", "-cf", str(work / "all.tar"), "-C", str(images), "."], check=True)
            for command in after:
                subprocess.run(command.format(tar=work / "all.tar", images=images), shell=True, check=True, stdout=subprocess.DEVNULL)
            return count

        return run

    contenders = {
        "curate sample --size 0, 2 workers": sampling(work, kind, count, 0, 2),
        "curate sample --size 0 --checksum md5, 2 workers": sampling(work, kind, count, 0, 2, checksum="md5"),
        "curate sample --size 0, 1 worker": sampling(work, kind, count, 0, 1),
        "webdataset.ShardWriter": shard_writer,
        "tar": tar(),
        "tar, then sync": tar("sync {tar}"),
        "tar, then sync, md5sum, sha256sum of every file": tar(
            "sync {tar}", "md5sum {tar}", "cd {images} && find . -type f -exec sha256sum {{}} +"
        ),
    }
    size = sum(p.stat().st_size for p in paths) / count / 1000
    compare(f"Writing pass-through JPEGs: {count:,} files, {size:.0f} KB on average", contenders, "webdataset.ShardWriter")
    shutil.rmtree(work / "wds")
    (work / "all.tar").unlink()


def resizing(work: Path, kind: str, paths: list[Path], side: int) -> None:
    def bare() -> int:
        return sum(Parallel(n_jobs=-1)(delayed(resize_alone)(paths[i::SHARDS], side) for i in range(SHARDS)))

    name = "decode, resize, encode alone, all cores"
    contenders = {
        f"curate sample --size {side}": sampling(work, kind, len(paths), side, 0),
        f"curate sample --size {side} --crop": sampling(work, kind, len(paths), side, 0, crop=True),
        name: bare,
    }
    compare(f"Resizing {KINDS[kind][0]} to {side} px: {len(paths):,} files", contenders, name)


MEMORY = """
import pathlib, sys
from curate import read_cohort
from curate.shard_writer import write_shards
from curate.plan import Plan
from curate.sample import SampleRequest
from curate.console import mode
mode.quiet = True
work, count, write = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "write"
cohort = read_cohort(work / "cohort")
drawn = cohort.table.iloc[[n % len(cohort.table) for n in range(count)]].reset_index(drop=True)
drawn["image_id"] = [f"{n:08d}" for n in range(count)]
plan = Plan(drawn=drawn, held_out=drawn.iloc[:0])
if write:
    partial = work / "set.partial"
    partial.mkdir()
    request = SampleRequest(size=0, shard_images=2000)
    write_shards(plan, cohort, request, about={"name": "x"}, secret=b"x", partial=partial, out=work / "set", workers=2)
"""


def memory(work: Path, counts: list[int]) -> None:
    """Peak memory of the parent, with and without writing, and of the largest worker, for more and more images of 1 KB."""
    base = work / "memory"
    (base / "images").mkdir(parents=True)
    for number in range(1000):
        grey = np.random.default_rng(number).integers(0, 255, (4, 4), dtype=np.uint8)
        cv2.imwrite(str(base / "images" / f"{number:04d}.jpg"), cv2.resize(grey, (32, 32)))
    names = [f"{n:04d}.jpg" for n in range(1000)]
    pd.DataFrame({"path": names, "patient_id": names}).to_csv(base / "m.csv", index=False)
    ingest_archive(base / "m.csv", images=[base / "images"], out=base / "cohort", workers=0)
    print("\n### Peak memory of writing, MB\n\n| images | parent, plan alone | parent, writing | largest worker |\n|---:|---:|---:|---:|")
    for count in counts:
        alone, _ = peaks(base, count, "plan")
        parent, worker = peaks(base, count, "write")
        shutil.rmtree(base / "set")
        print(f"| {count:,} | {alone:,.0f} | {parent:,.0f} | {worker:,.0f} |")


def peaks(base: Path, count: int, what: str) -> tuple[float, float]:
    """Run the script and read the high-water marks of the process and of its children while they live."""
    process = subprocess.Popen([sys.executable, "-c", MEMORY, str(base), str(count), what])
    highest: dict[int, int] = {}
    while process.poll() is None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    status = (entry / "status").read_text()
                    parent = int(status.partition("PPid:")[2].split()[0])
                    if process.pid in (parent, int(entry.name)) and "VmHWM:" in status:
                        highest[int(entry.name)] = int(status.partition("VmHWM:")[2].split()[0])
                except (OSError, IndexError, ValueError):
                    continue
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the memory script ended with {process.returncode}")
    own = highest.pop(process.pid)
    return own / 1024, max(highest.values(), default=0) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--memory", default="10000,100000", help="numbers of images for the memory table; empty for none")
    arguments = parser.parse_args()
    mode.quiet = True
    work = Path(tempfile.mkdtemp())
    try:
        print(f"{machine()}; webdataset {importlib.metadata.version('webdataset')}")
        small = make(work, "small", arguments.images)
        pass_through(work, "small", small)
        resizing(work, "small", small, 256)
        shutil.rmtree(work / "small")
        pass_through(work, "typical", make(work, "typical", arguments.images // 4))
        shutil.rmtree(work / "typical")
        if arguments.memory:
            memory(work, [int(n) for n in arguments.memory.split(",")])
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
