"""Identify: PERMANOVA beside scikit-bio's, and a whole archive of 10^6 rows.

    python benchmarks/identify.py [--repeats 5] [--rows 1000000] [--measures 20]

The first part compares the statistic and the time of one test with 199 permutations at n = 5,000, d = 64; scikit-bio's time includes the
matrix of distances that it needs, and is given without it as well. The second is what no matrix fits: n = 100,000. The third is the
analysis of `curate identify` (everything but its pictures) on a made-up archive, in a process of its own: as many images as asked,
three tenths as many patients, age, sex, ethnicity, device and site, 20 measures of which age drives a half. `--rows 0` leaves it out.

    python benchmarks/identify.py --archives 20 [--patients 300]

So many simulated archives, each with another seed, their photographs measured: how often age ranks first, and sex and ethnicity stay at
the noise floor. Twice: as they are simulated (two sites that differ in age, ethnicity and cameras), and with the labels of ethnicity dealt
out anew so that they go with age at a correlation of 0.6.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

PERMUTATIONS = 199


def with_scikit_bio(repeats: int) -> None:
    from scipy.spatial.distance import pdist, squareform
    from skbio.stats.distance import DistanceMatrix
    from skbio.stats.distance import permanova as theirs

    from curate.identify.permanova import permanova as ours

    rng = np.random.default_rng(0)
    n, d = 5000, 64
    x, group, people = rng.standard_normal((n, d)), rng.integers(0, 4, n), np.arange(n)
    x[group == 1, :8] += 0.2
    seconds: dict[str, list[float]] = {"curate": [], "scikit-bio": [], "of which its permutations": []}
    statistic: dict[str, float] = {}
    for number in range(repeats + 1):
        started = time.perf_counter()
        found = ours(x, group, people, permutations=PERMUTATIONS)
        ended = time.perf_counter()
        matrix = DistanceMatrix(squareform(pdist(x)))
        between = time.perf_counter()
        other = theirs(matrix, group, permutations=PERMUTATIONS)
        last = time.perf_counter()
        assert found is not None
        statistic = {"curate": found.f, "scikit-bio": float(other["test statistic"])}
        if number:
            seconds["curate"].append(ended - started)
            seconds["scikit-bio"].append(last - ended)
            seconds["of which its permutations"].append(last - between)
    print(f"\n### PERMANOVA, n = {n:,}, d = {d}, {PERMUTATIONS} permutations\n")
    print("| | seconds (median) | range | ratio to curate | pseudo-F |\n|---|---:|---:|---:|---:|")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds["curate"], strict=True))
        f = f"{statistic[name]:.12f}" if name in statistic else ""
        print(f"| {name} | {statistics.median(values):.3f} | {min(values):.3f}-{max(values):.3f} | {ratio:.1f} | {f} |")
    print(f"\nrelative difference of F: {abs(statistic['curate'] / statistic['scikit-bio'] - 1):.1e}")


def large(repeats: int) -> None:
    from curate.identify.permanova import permanova

    rng = np.random.default_rng(0)
    n, d = 100_000, 64
    x, group = rng.standard_normal((n, d)), rng.integers(0, 4, n)
    people, strata, z = np.arange(n) // 2, (np.arange(n) // 2) % 60, rng.standard_normal((n, 6))
    of_people = rng.integers(0, 4, n)[people]
    cases = {
        "one image a patient": lambda: permanova(x, group, np.arange(n), permutations=PERMUTATIONS),
        "two images a patient, 60 strata, 6 covariates": lambda: permanova(
            x, of_people, people, strata=strata, covariates=z, permutations=PERMUTATIONS
        ),
        "the same, groups that differ within patients": lambda: permanova(
            x, group, people, strata=strata, covariates=z, permutations=PERMUTATIONS
        ),
    }
    print(f"\n### PERMANOVA, n = {n:,}, d = {d}, {PERMUTATIONS} permutations\n")
    print("| | seconds (median) | range |\n|---|---:|---:|")
    for name, case in cases.items():
        seconds = []
        for number in range(repeats + 1):
            started = time.perf_counter()
            case()
            if number:
                seconds.append(time.perf_counter() - started)
        print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f}-{max(seconds):.2f} |")


def make_cohort(folder: Path, rows: int, measures: int) -> None:
    from curate.artefacts import write_json, write_parquet

    rng = np.random.default_rng(rows)
    people = 3 * rows // 10
    patient = rng.integers(0, people, rows)
    age = np.clip(rng.normal(55, 15, people), 18, 95).round(1)
    site = rng.random(people) < 0.5
    devices = np.array(["A", "B", "C", "D", "E"])
    folder.mkdir()
    ids = [f"im{i:08d}" for i in range(rows)]
    table = pd.DataFrame(
        {
            "image_id": ids,
            "patient_id": pd.Series([f"p{i:07d}" for i in range(people)])[patient].to_numpy(),
            "age": age[patient],
            "sex": rng.choice(["female", "male"], people)[patient],
            "ethnicity": rng.choice(["White", "Asian", "Black", "Mixed", "Other"], people, p=[0.6, 0.2, 0.1, 0.06, 0.04])[patient],
            "device": devices[np.where(site[patient], 0, 2) + rng.integers(0, 3, rows)],
            "site": np.where(site, "North", "South")[patient],
        }
    )
    write_parquet(folder / "cohort.parquet", table)
    values = {
        f"m{m}": (m % 2) * 0.02 * age[patient] + rng.standard_normal(people)[patient] + rng.standard_normal(rows) for m in range(measures)
    }
    write_parquet(folder / "measurements.parquet", pd.DataFrame({"image_id": ids, **values}))
    write_parquet(folder / "duplicates.parquet", pd.DataFrame({"image_a": [], "image_b": [], "distance": [], "similarity": []}, dtype=str))
    write_json(folder / "cohort.json", {"name": "random", "counts": {"rows": rows}, "images": "."})


def analyse_one(folder: Path) -> None:
    from curate.identify.archive import read_archive
    from curate.identify.run import analyse

    started = time.perf_counter()
    archive = read_archive(folder, (), (), None)
    read = time.perf_counter()
    found = analyse(archive, PERMUTATIONS, 0)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - started,
                "reading": read - started,
                "gigabytes": int(line.split()[1]) / 1e6,
                "ranking": [r["attribute"] for r in found["ranking"]],
                "suggested": found["suggested_balance"],
            }
        )
    )


def from_photographs(seed: int, patients: int, work: Path) -> dict[str, list[dict[str, object]]]:
    """Simulate, measure and rank one archive: variant -> the ranked table."""
    from curate.console import mode
    from curate.identify.archive import read_archive
    from curate.identify.run import analyse
    from curate.ingest import ingest_archive
    from curate.measure import measure_cohort
    from curate.phantom import simulate_archive

    mode.quiet = True
    simulate_archive(work / "phantom", patients=patients, seed=seed, workers=0)
    cohort = work / "cohort"
    ingest_archive(work / "phantom" / "manifest.csv", images=[work / "phantom" / "images"], out=cohort, workers=0)
    measure_cohort(cohort)
    found = {"as simulated": analyse(read_archive(cohort, (), (), None), PERMUTATIONS, seed)["ranking"]}
    table = pd.read_parquet(cohort / "cohort.parquet")
    people = table.groupby("patient_id")[["age", "ethnicity"]].first().dropna()
    rng = np.random.default_rng(seed)
    age = people["age"].rank() / len(people)
    order = (0.6 * (age - age.mean()) / age.std() + 0.8 * rng.standard_normal(len(people))).argsort()
    dealt = pd.Series(people["ethnicity"].sort_values().to_numpy(), index=people.index[order])
    table["ethnicity"] = table["patient_id"].map(dealt).astype(table["ethnicity"].dtype)
    table.to_parquet(cohort / "cohort.parquet", index=False)
    found["ethnicity goes with age"] = analyse(read_archive(cohort, (), (), None), PERMUTATIONS, seed)["ranking"]
    return found


def archives(count: int, patients: int) -> None:
    """Count over archives what ranks first and what stays at the floor."""
    tally: dict[str, dict[str, int]] = {}
    for seed in range(count):
        with tempfile.TemporaryDirectory() as work:
            for variant, ranking in from_photographs(seed, patients, Path(work)).items():
                verdicts = {str(r["attribute"]): r["verdict"] for r in ranking}
                row = tally.setdefault(variant, dict.fromkeys(("age first", "sex at the floor", "ethnicity at the floor"), 0))
                row["age first"] += ranking[0]["attribute"] == "age" and verdicts["age"] == "matters"
                for name in ("sex", "ethnicity"):
                    row[f"{name} at the floor"] += verdicts[name] == "at the noise floor"
                shares = "; ".join(f"{r['attribute']} {r['r2_conditional']} ({r['noise_floor']})" for r in ranking)
                print(f"seed {seed}, {variant}: {shares}", file=sys.stderr)
    print(f"\n### {count} simulated archives of {patients} patients, measured photographs\n")
    print("| | age first, and matters | sex at the noise floor | ethnicity at the noise floor |\n|---|---:|---:|---:|")
    for variant, row in tally.items():
        print(f"| {variant} | " + " | ".join(str(v) for v in row.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--measures", type=int, default=20)
    parser.add_argument("--archives", type=int, default=0, help="simulated archives whose photographs are measured; nothing else is run")
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        analyse_one(Path(arguments.one))
        return
    from timing import machine

    print(machine())
    if arguments.archives:
        archives(arguments.archives, arguments.patients)
        return
    with_scikit_bio(arguments.repeats)
    large(arguments.repeats)
    if not arguments.rows:
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "cohort"
        make_cohort(folder, arguments.rows, arguments.measures)
        done = subprocess.run([sys.executable, __file__, "--one", str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    seen = json.loads(done.stdout)
    print(f"\n### identify, {arguments.rows:,} rows, {arguments.measures} measures, 5 attributes, {PERMUTATIONS} permutations\n")
    print("| seconds | of which reading | largest memory, GB | ranking | suggested |\n|---:|---:|---:|---|---|")
    ranking, suggested = ", ".join(seen["ranking"]), ", ".join(seen["suggested"])
    print(f"| {seen['seconds']:.0f} | {seen['reading']:.0f} | {seen['gigabytes']:.1f} | {ranking} | {suggested} |")


if __name__ == "__main__":
    main()
