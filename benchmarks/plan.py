"""Planning a sample: curate's plan of 10^5 to 10^7 rows, beside pandas' draw and scikit-learn's group split.

    python benchmarks/plan.py [--rows 100000 1000000 10000000] [--repeats 5]

Each contender runs in a process of its own and takes turns with the others; its time includes reading what it needs of
the cohort's Parquet file, and its memory is the largest the process held. The cohort is made of random numbers:
as many images as asked, three tenths as many patients, 60 joint strata (age in 6, sex in 2, ethnicity in 5, unevenly filled), of which a
fifth of the images is wanted, at most two a patient, a tenth of the patients held out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

STRATA = ("age", "sex", "ethnicity")
BINS = "age=30,40,50,60,70"


def make_cohort(folder: Path, rows: int) -> None:
    from curate.artefacts import write_json, write_parquet

    rng = np.random.default_rng(rows)
    patients = max(3 * rows // 10, 1)
    patient = rng.integers(0, patients, rows)
    age = np.clip(rng.normal(55, 15, patients), 18, 95).round(1)
    sex = rng.choice(["female", "male"], patients)
    ethnicity = rng.choice(["White", "Asian", "Black", "Mixed", "Other"], patients, p=[0.6, 0.2, 0.1, 0.06, 0.04])
    days = pd.Series([f"20{y:02d}-{m:02d}-15" for y in range(20) for m in range(1, 13)])
    folder.mkdir()
    table = pd.DataFrame(
        {
            "image_id": [f"im{i:08d}" for i in range(rows)],
            "patient_id": pd.Series([f"p{i:07d}" for i in range(patients)])[patient].to_numpy(),
            "acquired_on": days[rng.integers(0, 240, rows)].to_numpy(),
            "age": age[patient],
            "sex": sex[patient],
            "ethnicity": ethnicity[patient],
            "width": np.full(rows, 2048),
            "height": np.full(rows, 1536),
        }
    )  # fmt: skip
    write_parquet(folder / "cohort.parquet", table)
    # One image in a thousand is another's near-duplicate.
    first = np.sort(rng.choice(rows - 1, rows // 1000, replace=False))
    ids = table["image_id"].to_numpy()
    pairs = pd.DataFrame({"image_a": ids[first], "image_b": ids[first + 1], "distance": 2, "similarity": 0.95})
    write_parquet(folder / "duplicates.parquet", pairs)
    write_json(folder / "cohort.json", {"name": "random", "counts": {"rows": rows}, "images": "."})


def curate(folder: Path, wanted: int) -> int:
    from curate.cohort import read_cohort
    from curate.groups import DEFAULT_ATTRIBUTES
    from curate.plan import NEEDED, make_plan
    from curate.sample import SampleRequest

    cohort = read_cohort(folder, columns=(*NEEDED, *DEFAULT_ATTRIBUTES))
    request = SampleRequest(balance=STRATA, bins=(BINS,), images=wanted, per_patient=2, holdout=0.1, strata="joint")
    return len(make_plan(cohort, request, None).drawn)


def groupby_sample(folder: Path, wanted: int) -> int:
    """No patient cap, no hold-out, no near-duplicates; strata that are too thin are drawn whole."""
    table = pd.read_parquet(folder / "cohort.parquet", columns=["image_id", "patient_id", *STRATA])
    table["age"] = pd.cut(table["age"], [-np.inf, 30, 40, 50, 60, 70, np.inf])
    groups = table.groupby(list(STRATA), observed=True)
    share = wanted // groups.ngroups
    sizes = groups["image_id"].transform("size")
    thin = table[sizes <= share]
    return len(thin) + len(table[sizes > share].groupby(list(STRATA), observed=True).sample(n=share, random_state=0))


def group_split(folder: Path, wanted: int) -> int:
    """scikit-learn's patient-safe hold-out alone."""
    from sklearn.model_selection import GroupShuffleSplit

    table = pd.read_parquet(folder / "cohort.parquet", columns=["image_id", "patient_id", *STRATA])
    train, _ = next(GroupShuffleSplit(n_splits=1, test_size=0.1, random_state=0).split(table, groups=table["patient_id"]))
    return len(train)


CONTENDERS = {"curate": curate, "pandas groupby.sample": groupby_sample, "scikit-learn GroupShuffleSplit": group_split}


def largest_memory() -> float:
    """The most memory this process has held, in GB (`getrusage` would count what its parent held when it was started)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


def run_one(name: str, folder: Path, wanted: int) -> None:
    started = time.perf_counter()
    drawn = CONTENDERS[name](folder, wanted)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "gigabytes": largest_memory(), "drawn": drawn}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.one[0], Path(arguments.one[1]), int(arguments.one[2]))
        return
    from timing import machine

    print(f"{machine()}; pandas {pd.__version__}")
    work = Path(tempfile.mkdtemp())
    try:
        for rows in arguments.rows:
            make_cohort(work / "cohort", rows)
            wanted = rows // 5
            seen: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
            for number in range(arguments.repeats + 1):
                for name, results in seen.items():
                    command = [sys.executable, __file__, "--one", name, str(work / "cohort"), str(wanted)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    if number:
                        results.append(json.loads(done.stdout))
            shutil.rmtree(work / "cohort")
            print(f"\n### {rows:,} rows, {3 * rows // 10:,} patients, {wanted:,} wanted\n")
            print("| | seconds (median) | range | largest memory, GB | rows given |\n|---|---:|---:|---:|---:|")
            for name, results in seen.items():
                seconds = [r["seconds"] for r in results]
                memory = max(r["gigabytes"] for r in results)
                given = int(results[0]["drawn"])
                print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f}-{max(seconds):.2f} | {memory:.2f} | {given:,} |")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
