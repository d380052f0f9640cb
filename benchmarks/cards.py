"""The card of 10^6 images: time, memory, size and first paint, beside ydata-profiling and evidently on the same table.

    python -m venv peers && peers/bin/pip install ydata-profiling evidently setuptools
    python benchmarks/cards.py [--images 1000000] [--repeats 5] [--peers peers/bin/python]

The artefacts are made up: seven tenths of the people have two photographs, two sites that differ in age and ethnicity, three cameras,
four measures, a set drawn evenly by age, two runs, an evaluation of 12 groups. Every contender is a process of its own that reads Parquet
and writes a page; they take turns. The peers get the cohort's table without its ids and digests; ydata-profiling runs in its minimal mode,
which is what it asks for at this size. Without `--peers` the card stands alone.

Pages are opened in headless Chromium: first contentful paint (median of five), what they ask of other hosts, and, for a table of 2,000 rows
whose column names and categories are the payloads of tests/cards/payloads.py, how many of them run. No page has its own policy removed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cards"))

from card_artefacts import make_project  # noqa: E402

from browser import CHROMIUM, Browser  # noqa: E402
from payloads import payloads  # noqa: E402

PEERS = {
    "ydata-profiling": """
import sys, pandas as pd
from ydata_profiling import ProfileReport
table = pd.read_parquet(sys.argv[1])
ProfileReport(table, minimal=True, progress_bar=False, title="Profile").to_file(sys.argv[2], silent=True)
""",
    "evidently": """
import sys, pandas as pd
from evidently import Dataset, DataDefinition, Report
from evidently.presets import DataSummaryPreset
table = pd.read_parquet(sys.argv[1])
Report([DataSummaryPreset()]).run(Dataset.from_pandas(table, data_definition=DataDefinition())).save_html(sys.argv[2])
""",
}
SHOWN = ["laterality", "acquired_on", "age", "sex", "ethnicity", "device", "site", "width", "height", "dr_grade"]


def archive(images: int) -> pd.DataFrame:
    """Make a cohort's table of so many rows."""
    rng = np.random.default_rng(0)
    people = int(images / 1.7) + 1
    person = np.repeat(np.arange(people), 1 + (rng.random(people) < 0.7))[:images]
    n = len(person)
    site = rng.integers(0, 2, people)
    age = np.clip(rng.normal(np.where(site == 0, 66, 48), 14), 18, 96).round()
    age[::97] = np.nan
    sex = rng.choice(np.array(["female", "male", None], dtype=object), people, p=[0.53, 0.465, 0.005])
    groups = np.array(["White", "South Asian", "Black", "Mixed", None], dtype=object)
    ethnicity = np.where(site == 0, rng.choice(groups, people, p=[0.55, 0.2, 0.13, 0.004, 0.116]), "Chinese")
    second = np.r_[False, person[1:] == person[:-1]]
    digits = [f"{i:032x}" for i in rng.permutation(n).tolist()]
    days = (np.datetime64("2008-01-01") + rng.integers(0, 4000, n)).astype(str)
    return pd.DataFrame(
        {
            "image_id": [f"img{i:08d}" for i in range(n)], "path": [f"{i}.jpg" for i in range(n)],
            "patient_id": [f"P{p:08d}" for p in person.tolist()], "laterality": np.where(second, "right", "left"), "acquired_on": days,
            "age": age[person], "sex": sex[person], "ethnicity": ethnicity[person],
            "device": np.array(["Camera A", "Camera B", "Camera C"], dtype=object)[rng.integers(0, 3, people)[person]],
            "site": np.array(["London", "Shanghai"], dtype=object)[site[person]], "width": 512, "height": 512,
            "sha256": [d * 2 for d in digits], "phash": [d[16:] for d in digits], "dr_grade": rng.integers(0, 5, n).astype(float),
        }
    )  # fmt: skip


def hostile_table(rows: int = 2000) -> tuple[pd.DataFrame, list[str]]:
    """Make a table whose categories and further columns are payloads, each of which would leave its number in the page."""
    names = [p.replace("RUN", f"(window.ran=window.ran||{{}})[{i}]=1") for i, p in enumerate(payloads(run="RUN")) if "RUN" in p]
    table = archive(rows)
    person = table["patient_id"].str[1:].astype(int)
    for shift, column in enumerate(("device", "site", "ethnicity")):
        table[column] = [names[(p + 40 * shift) % len(names)] for p in person]
    extra = {name: np.where(person % 3 == 0, names[(i + 7) % len(names)], "b") for i, name in enumerate(names)}
    return pd.concat([table, pd.DataFrame(extra)], axis=1), names


def timed(command: list[str], cwd: Path) -> tuple[float, float, float]:
    """Run a command; seconds, seconds of CPU time and largest memory in GB."""
    started = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert child.stderr is not None
    said = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command[:4]}: {said[-2000:]}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def opened(page: Path, repeats: int = 5) -> dict[str, Any]:
    """Open a page several times: first paint in ms, hosts asked, payloads that ran."""
    paints, hosts, ran = [], set(), 0
    with Browser() as browser:
        for _ in range(repeats):
            tab = browser.tab()
            tab.call("Page.navigate", {"url": page.resolve().as_uri()})
            browser.wait("Page.loadEventFired", tab.session, timeout=300)
            time.sleep(1)
            tab.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
            paints.append(tab.first_paint())
            ran = max(ran, tab.evaluate("Object.keys(window.ran || {}).length"))
            hosts |= {urlsplit(url).netloc for url in tab.requests() if not url.startswith(("data:", "blob:"))}
            tab.close()
    return {"paint": statistics.median(paints) if paints else None, "hosts": sorted(hosts), "ran": ran}


def commands(folder: Path, python: str | None) -> dict[str, tuple[list[str], Path]]:
    """Give each contender's command and the page that it writes."""
    own = [sys.executable, "-m", "cards", "build", "--quiet"]
    found = {"cards": (own, folder / "card" / "card.html")}
    if python:
        for name, script in PEERS.items():
            page = folder / f"{name}.html"
            found[name] = ([python, "-c", script, str(folder / "table.parquet"), str(page)], page)
    return found


def artefacts(folder: Path, images: int) -> None:
    table = archive(images)
    make_project(folder, table)
    table[SHOWN].to_parquet(folder / "table.parquet", index=False)


def compare(folder: Path, images: int, repeats: int, python: str | None) -> None:
    # Made in a process of its own: what a process has held counts as its children's largest memory too.
    maker = multiprocessing.get_context("spawn").Process(target=artefacts, args=(folder, images))
    maker.start()
    maker.join()
    contenders = commands(folder, python)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    busy: dict[str, list[float]] = {name: [] for name in contenders}
    memory: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeats + 1):
        for name, (command, _) in contenders.items():
            took, cpu, largest = timed(command, folder)
            if number:
                seconds[name].append(took)
                busy[name].append(cpu)
                memory[name].append(largest)
    print(f"\n### A page of {images:,} images\n")
    print("| | seconds (median) | range | of CPU time | largest memory, GB | page, MB | first paint, ms | other hosts asked |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for name, (_, page) in contenders.items():
        took, seen = seconds[name], opened(page) if CHROMIUM else {"paint": None, "hosts": []}
        paint = "-" if seen["paint"] is None else f"{seen['paint']:.0f}"
        size = page.stat().st_size / 1e6
        span = f"{min(took):.1f}-{max(took):.1f}"
        hosts = ", ".join(seen["hosts"]) or "none"
        spent = f"{statistics.median(took):.1f} | {span} | {statistics.median(busy[name]):.1f} | {max(memory[name]):.2f}"
        print(f"| {name} | {spent} | {size:.2f} | {paint} | {hosts} |")
    print(flush=True)


def growth(folder: Path) -> None:
    print("\n### The card's page by number of images\n\n| images | page, kB |\n|---:|---:|")
    for images in (1_000, 10_000, 100_000):
        artefacts(folder / str(images), images)
        timed([sys.executable, "-m", "cards", "build", "--quiet"], folder / str(images))
        print(f"| {images:,} | {(folder / str(images) / 'card' / 'card.html').stat().st_size / 1e3:.0f} |", flush=True)


def hostile(folder: Path, python: str | None) -> None:
    table, names = hostile_table()
    make_project(folder, table)
    table.drop(columns=["image_id", "path", "patient_id", "sha256", "phash"]).to_parquet(folder / "table.parquet", index=False)
    print(f"\n### {len(names)} payloads as column names and categories\n\n| | payloads that run |\n|---|---:|")
    for name, (command, page) in commands(folder, python).items():
        timed(command, folder)
        print(f"| {name} | {opened(page, 1)['ran']} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", help="the Python of an environment that has ydata-profiling and evidently")
    given = parser.parse_args()
    if given.peers:
        code = "import json; from importlib.metadata import version as v; print(json.dumps([v('ydata-profiling'), v('evidently')]))"
        found = subprocess.run([given.peers, "-c", code], capture_output=True, text=True, check=True)
        print("ydata-profiling {}, evidently {}".format(*json.loads(found.stdout)))
    with tempfile.TemporaryDirectory() as scratch:
        if CHROMIUM:
            hostile(Path(scratch) / "hostile", given.peers)
        growth(Path(scratch))
        compare(Path(scratch) / "large", given.images, given.repeats, given.peers)


if __name__ == "__main__":
    main()
