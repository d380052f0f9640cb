"""The modality that docs/how-to/measure.md prints: built, installed, and a cohort measured, identified and described with it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curate.artefacts import write_json, write_parquet

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "measure.md"


def section() -> str:
    return PAGE.read_text(encoding="utf-8").partition("## Your own modality")[2].partition("\n## ")[0]


def make_cohort(folder: Path, people: int) -> None:
    """Two photographs a patient: men's are redder, one in thirty is black."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "cohort").mkdir()
    rows = []
    for number in range(2 * people):
        patient, sex = number // 2, ("female", "male")[number // 2 % 2]
        pixels = np.clip(rng.normal((150 + 40 * (sex == "male"), 110, 100), 12, (24, 24, 3)) + rng.normal(0, 4, 3), 0, 255)
        Image.fromarray((pixels * (number % 30 > 0)).astype(np.uint8)).save(folder / "images" / f"{number:03d}.png")
        rows.append({"image_id": f"{number:03d}", "path": f"{number:03d}.png", "patient_id": f"p{patient:03d}", "sex": sex})
    table = pd.DataFrame(rows).assign(age=[30 + (7 * (n // 2)) % 50 for n in range(2 * people)], width=24, height=24)
    write_parquet(folder / "cohort" / "cohort.parquet", table)
    write_parquet(folder / "cohort" / "duplicates.parquet", pd.DataFrame(columns=["image_a", "image_b"], dtype=str))
    write_json(folder / "cohort" / "cohort.json", {"images": "../images", "name": "moles"})


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as the page prints it, installed, and a cohort that is measured as the page says."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("clinic")
    package = folder / "package"
    for file, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", section(), re.DOTALL):
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(text, encoding="utf-8")
    install, measure = re.findall(r"```\n(.*?)\n(.*?)\n```", section())[0]
    make_cohort(folder, 60)
    # Beside the environment and without the network; otherwise what the page says.
    more = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target", str(folder / "site")]
    run(folder, sys.executable, "-m", *shlex.split(install), *more, at=package)
    run(folder, sys.executable, "-m", *shlex.split(measure), "--quiet")
    return folder


def run(folder: Path, *command: str, at: Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder / "site")}
    done = subprocess.run(command, cwd=at or folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_prints_a_package_and_how_to_use_it(clinic: Path) -> None:
    assert {p.relative_to(clinic / "package").as_posix() for p in (clinic / "package").rglob("*.*") if p.is_file()} >= {
        "pyproject.toml",
        "melanoscope/measures.py",
    }


def test_the_cohort_is_measured_with_it(clinic: Path) -> None:
    table = pd.read_parquet(clinic / "cohort" / "measurements.parquet")
    assert list(table.columns) == ["image_id", "state", "brightness", "redness"]
    dark = np.arange(120) % 30 == 0
    assert table["state"].tolist() == np.where(dark, "too dark", "ok").tolist()
    assert table["redness"].isna().tolist() == dark.tolist()
    assert table["redness"].median() == pytest.approx(0.44, abs=0.02)
    about = json.loads((clinic / "cohort" / "measurements.json").read_text())
    assert about["states"] == {"ok": 116, "too dark": 4}
    assert about["of_the_photograph"] == ["brightness"]
    assert about["made_by"]["specification"]["modality"] == "skin"


def test_identify_explains_what_is_seen_and_sets_the_photograph_apart(clinic: Path) -> None:
    # No modality is needed to read what one has measured.
    found = json.loads(
        subprocess.run(
            [sys.executable, "-m", "curate", "identify", "--by", "age,sex", "--permutations", "19", "--json"],
            cwd=clinic, check=True, capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    assert found["space"] == {"name": "measures", "images": 116, "dimensions": 1}
    assert found["ranking"][0]["attribute"] == "sex"
    assert found["ranking"][0]["strongest_index"] == "redness"
    assert {"effects.png", "densities.png"} <= set(found["figures"])


def test_describe_draws_what_is_seen(clinic: Path) -> None:
    run(clinic, sys.executable, "-m", "curate", "describe", "--by", "sex,state", "--quiet")
    about = json.loads((clinic / "describe" / "description.json").read_text())
    assert set(about["measures"]) == {"brightness", "redness"}
    assert {p["file"] for p in about["pictures"]} == {"pictures/groups-sex", "pictures/groups-state", "pictures/measure-redness-by-sex"}
