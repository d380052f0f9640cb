"""Small cohorts written by hand: brightness shows the class, and each patient has two eyes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grading_task import TASK
from PIL import Image

from curate import write_json, write_parquet

WriteCohort = Callable[..., Path]


def _write_cohort(folder: Path, *, patients: int = 60, classes: int = 3, size: int = 32, seed: int = 0) -> Path:
    """Write a cohort of two images a patient; grade g is about 70 + 30 g grey levels bright, give or take 30."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for p in range(patients):
        grade = p % classes
        age, sex = float(rng.integers(25, 85)), ("female", "male")[p % 2]
        ethnicity = ("a", "b", None)[rng.integers(3)]
        for eye in ("left", "right"):
            image_id = f"im-{p:04d}-{eye}"
            pixels = rng.normal(70 + 30 * grade + rng.normal(0, 30), 20, (size, size, 1)).clip(0, 255).astype(np.uint8).repeat(3, axis=2)
            path = folder / "images" / f"{image_id}.jpg"
            Image.fromarray(pixels).save(path, quality=90)
            sha = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append(
                (
                    image_id,
                    path.name,
                    f"P{p:04d}",
                    eye,
                    "2020-01-01",
                    age,
                    sex,
                    ethnicity,
                    "camera",
                    "site",
                    size,
                    size,
                    sha,
                    "0" * 16,
                    grade,
                )
            )
    columns = [
        "image_id",
        "path",
        "patient_id",
        "laterality",
        "acquired_on",
        "age",
        "sex",
        "ethnicity",
        "device",
        "site",
        "width",
        "height",
    ]
    write_parquet(folder / "cohort.parquet", pd.DataFrame(rows, columns=[*columns, "sha256", "phash", "dr_grade"]))
    counts = {"rows": len(rows), "images": len(rows), "patients": patients, "refused_rows": 0, "repaired_values": 0}
    write_json(folder / "cohort.json", {"made_by": {}, "name": folder.name, "images": "images", "counts": counts, "patients_known": True})
    return folder


@pytest.fixture(scope="session")
def write_cohort() -> WriteCohort:
    """A function that writes a cohort folder."""
    return _write_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 60 patients, 120 images, 3 grades. Not to be changed."""
    return _write_cohort(tmp_path_factory.mktemp("cohort") / "cohort")


@pytest.fixture
def task_file(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a task file, with a text replaced where two are given."""

    def write(text: str = TASK) -> Path:
        path = tmp_path / "dr.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
