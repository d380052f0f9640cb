"""Measuring fundus photographs: how fast, how true on phantoms, and how well vessels agree with human observers.

    python benchmarks/measure.py [--patients 60] [--sizes 256 512 1024] [--seeds 1 2] [--chase ../shared/data/chase_db1]
    python benchmarks/measure.py --compatible [--images 40]

Speed: all indices of one photograph at 912 px on one core, decoding included, beside scikit-image's `frangi` and `sato`
alone on the green channel of the same field. Truth: rank correlation over simulated photographs that aren't graded
reject. Observers: CHASE_DB1, inside the field of view, one threshold for all photographs; the second observer is the yardstick.
`--compatible` alone: what our definitions and AutoMorph's give on the same simulated photographs, with the arteries, veins and
discs of their truth, and how the two go together.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from curate.console import mode
from curate.ingest import ingest_archive
from curate.measure import measure_cohort, read_image
from curate.phantom import simulate_archive
from curate.retina import measure_image
from curate.retina.field import find_field, normalise, without_bands
from curate.retina.masks import find_masks, read_masks
from curate.retina.shape import vessel_measures
from curate.retina.vessels import vessel_map, vessel_response

RESOLUTION = 912
TRUTHS = {"Fractal_dimension": "fractal_dimension", "Vessel_density": "vessel_density", "Distance_tortuosity": "distance_tortuosity"}


def read(path: Path) -> np.ndarray:
    image = read_image(str(path), at_least=2 * RESOLUTION, size=(0, 0))
    assert image is not None
    return image


def seconds(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Give the median processor time of each contender, taking turns, after a round that doesn't count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeats + 1):
        for name, work in contenders.items():
            started = time.process_time()
            work()
            if number:
                times[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def show_speed(paths: list[Path]) -> None:
    from skimage.filters import frangi, sato

    image = read(paths[0])
    field = find_field(image)
    assert field is not None
    green = normalise(image, field, RESOLUTION)[0][:, :, 1].astype(np.float32) / 255

    def everything() -> None:
        for path in paths:
            measure_image(read(path), resolution=RESOLUTION)

    sigmas = (1.5, 3.0, 4.5)
    found = seconds(
        {
            f"curate measure, decode and all indices ({len(paths)} photographs)": everything,
            "skimage sato alone, 3 scales": lambda: sato(green, sigmas),
            "skimage frangi alone, 3 scales": lambda: frangi(green, sigmas),
        },
        repeats=5,
    )
    print(f"\n### Speed at {RESOLUTION} px, one core\n\n| | ms an image |\n|---|---:|")
    for number, (name, value) in enumerate(found.items()):
        print(f"| {name} | {1000 * value / (1 if number else len(paths)):.0f} |")


def show_workers(archive: Path, repeats: int) -> None:
    """Time `curate measure` with one and with two workers, taking turns, after a round that doesn't count."""
    cohort = archive / "cohort"
    ingest_archive(archive / "manifest.csv", images=[archive / "images"], out=cohort, workers=1)
    images = len(pd.read_parquet(cohort / "cohort.parquet", columns=["image_id"]))
    times: dict[int, list[float]] = {1: [], 2: []}
    for number in range(repeats + 1):
        for workers, taken in times.items():
            for made in cohort.glob("measurements*"):
                made.unlink()
            started = time.perf_counter()
            measure_cohort(cohort, resolution=RESOLUTION, workers=workers)
            if number:
                taken.append(time.perf_counter() - started)
    speeds = {workers: images / statistics.median(taken) for workers, taken in times.items()}
    ratio = statistics.median(one / two for one, two in zip(times[1], times[2], strict=True))
    print(f"\n### `curate measure` at {RESOLUTION} px, {images:,} photographs\n\n| workers | images/s | ratio to one |\n|---:|---:|---:|")
    print(f"| 1 | {speeds[1]:.1f} | 1.00 |\n| 2 | {speeds[2]:.1f} | {ratio:.2f} |")


def show_truth(folder: Path, truth: pd.DataFrame, resolution: int) -> None:
    rows = [measure_image(read(folder / "images" / name), resolution=resolution) for name in truth["image_file"]]
    measured = pd.DataFrame(rows, dtype=object)
    kept = measured["Vessel_density"].notna()
    cells = []
    for name, true in TRUTHS.items():
        values = measured.loc[kept, name].astype(float)
        cells.append(f"{values.corr(truth.loc[kept, true].astype(float), method='spearman'):.2f}")
    density = measured.loc[kept, "Vessel_density"].astype(float).mean() / truth.loc[kept, "vessel_density"].mean()
    print(f"| {folder.name} at {resolution} px | {len(truth)} | {int((~kept).sum())} | {' | '.join(cells)} | {density:.2f} |", flush=True)


def show_observers(folder: Path) -> None:
    from sklearn.metrics import roc_auc_score

    areas: list[float] = []
    dice: list[float] = []
    dice_second: list[float] = []
    rows = []
    for path in sorted(folder.glob("*.jpg")):
        image = read(path)
        field = find_field(image)
        assert field is not None
        picture, mask = normalise(image, field, RESOLUTION)
        mask = without_bands(picture, mask)
        inside = mask > 0
        maps = {}
        for name, ending in (("first", "_1stHO.png"), ("second", "_2ndHO.png")):
            drawn = cv2.imread(str(path.with_name(path.stem + ending)), cv2.IMREAD_GRAYSCALE)
            assert drawn is not None
            maps[name] = normalise(cv2.merge([drawn] * 3), field, RESOLUTION)[0][:, :, 0] > 127
        vessels = vessel_response(picture, mask)
        maps["curate"] = vessel_map(vessels, RESOLUTION) > 0
        areas.append(roc_auc_score(maps["first"][inside], cv2.resize(vessels.response, (RESOLUTION, RESOLUTION))[inside]))
        for name, into in (("curate", dice), ("second", dice_second)):
            both = np.count_nonzero(maps[name] & maps["first"] & inside)
            into.append(2 * both / (np.count_nonzero(maps[name] & inside) + np.count_nonzero(maps["first"] & inside)))
        rows.append({name: vessel_measures(drawn.astype(np.uint8), mask) for name, drawn in maps.items()})
    print(f"\n### CHASE_DB1, {len(rows)} photographs, against the first observer\n")
    lowest = f"Dice {np.mean(dice):.3f} (lowest {min(dice):.3f})"
    print(f"AUC {np.mean(areas):.4f}; {lowest}; the second observer's Dice {np.mean(dice_second):.3f}\n")
    print("| | correlation | bias | second observer: correlation | bias |\n|---|---:|---:|---:|---:|")
    for name in TRUTHS:
        values = {who: np.array([row[who][name] for row in rows], float) for who in ("first", "curate", "second")}
        cells = []
        for who in ("curate", "second"):
            cells += [f"{np.corrcoef(values[who], values['first'])[0, 1]:.2f}", f"{np.mean(values[who] - values['first']):+.4f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def show_compatible(folder: Path, images: int) -> None:
    """Print each column as both define it on one photograph, and over all: rank correlation, and median of the ratio."""
    paths = sorted((folder / "images").glob("*.jpg"))[:images]
    ways: dict[str, dict[str, Any]] = {
        "ours": {"resolution": 512}, "ours at 912": {"resolution": RESOLUTION},
        "automorph": {"resolution": RESOLUTION, "compatible": "automorph"},
    }  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for path, files in zip(paths, find_masks(folder / "truth", [path.name for path in paths]), strict=True):
        masks, image = replace(read_masks(files), vessels=None), read(path)  # the vessels are those that the filters find
        for way, options in ways.items():
            rows[way].append(measure_image(image, masks=masks, **options))
    tables = {way: pd.DataFrame(found, dtype=object).drop(columns=["state", "quality"]).astype(float) for way, found in rows.items()}
    shown = int(np.argmax(tables["automorph"].notna().sum(axis=1)))
    same = [c for c in tables["automorph"] if tables["automorph"][c].equals(tables["ours at 912"][c])]
    print(f"\n### Our definitions and AutoMorph's on {len(paths)} phantom photographs; `{paths[shown].name}` is the one shown\n")
    print(f"The same at {RESOLUTION} px: {', '.join(same)}\n")
    print("| | ours | automorph | photographs | rank correlation | automorph / ours, median | the same with ours at 912 px | |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for column in tables["automorph"].columns.drop(same):
        theirs = tables["automorph"][column]
        cells = [f"{tables[way][column][shown]:.4g}" for way in ("ours", "automorph")] + [f"{theirs.notna().sum()}"]
        for way in ("ours", "ours at 912"):
            ratio = (theirs / tables[way][column]).replace([np.inf, -np.inf], np.nan).median()
            cells += [f"{theirs.corr(tables[way][column], method='spearman'):.2f}", f"{ratio:.3g}"]
        print(f"| {column} | {' | '.join(cells)} |")
    truth = pd.read_parquet(folder / "truth" / "truth.parquet").set_index("image_file").loc[[path.name for path in paths]].reset_index()
    print(f"\nRank correlation with the truth:\n\n| | {' | '.join(ways)} |\n|---|---:|---:|---:|")
    for column, true in TRUTHS.items():
        found = [table[column].corr(truth[true].astype(float), method="spearman") for table in tables.values()]
        print(f"| {column} | {' | '.join(f'{value:.2f}' for value in found)} |")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--patients", type=int, default=60)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--chase", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "chase_db1")
    arguments.add_argument("--compatible", action="store_true")
    arguments.add_argument("--images", type=int, default=40, help="with --compatible: simulated photographs, of 512 px")
    arguments.add_argument(
        "--workers-patients", type=int, default=250, metavar="PATIENTS", help="simulated patients for one and two workers"
    )
    asked = arguments.parse_args()
    mode.quiet = True
    cv2.setNumThreads(1)
    if asked.compatible:
        with tempfile.TemporaryDirectory() as made:
            simulate_archive(Path(made), patients=asked.images, size=512, seed=0, workers=1)  # more than one photograph a patient
            show_compatible(Path(made), asked.images)
        return
    with tempfile.TemporaryDirectory() as made:
        truths = {}
        for size in asked.sizes:
            for seed in asked.seeds:
                folder = Path(made) / f"{size} px, seed {seed}"
                simulate_archive(folder, patients=asked.patients, size=size, seed=seed, workers=1)
                truths[folder] = pd.read_parquet(folder / "truth" / "truth.parquet")
        largest = max(truths, key=lambda folder: int(folder.name.split()[0]))
        show_speed(sorted((largest / "images").glob("*.jpg"))[:16])
        with tempfile.TemporaryDirectory() as more:
            simulate_archive(Path(more), patients=asked.workers_patients, size=512, seed=0, workers=2)
            show_workers(Path(more), repeats=3)
        print("\n### Against the phantoms' truth: rank correlation\n")
        print("| | images | graded reject | fractal dimension | density | distance tortuosity | mean density, measured over true |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for folder, truth in truths.items():
            for resolution in (512, RESOLUTION):
                show_truth(folder, truth, resolution)
    if asked.chase.is_dir():
        show_observers(asked.chase)
    else:
        print(f"\nCHASE_DB1 is not at {asked.chase}: not compared with observers")


if __name__ == "__main__":
    main()
