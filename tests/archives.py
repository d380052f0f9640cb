"""Small archives made by hand, for the tests of every room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Rows = Sequence[dict[str, Any]]


def people(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a clean manifest: two eyes a patient, ages spread unevenly, as archives are."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(count):
        age = int(np.clip(rng.normal(60, 16), 18, 95))
        sex, ethnicity = rng.choice(["female", "male"]), rng.choice(["White", "Asian", "Black"], p=[0.7, 0.2, 0.1])
        rows += [
            {
                "image_file": f"{patient:05d}_{eye}.jpg",
                "patient_id": f"{patient:05d}",
                "eye": eye,
                "exam_date": f"2020-{1 + patient % 12:02d}-15",
                "age": str(age),
                "sex": str(sex),
                "ethnicity": str(ethnicity),
                "camera": "Topcon TRC-50" if patient % 2 else "Canon CR-2",
                "hospital": "North",
                "dr_grade": str(patient % 3),
            }
            for eye in ("left", "right")
        ]
    return rows


def draw_photograph(path: Path, number: int, *, side: int = 64) -> None:
    """Write a small smooth JPEG that differs from every other number's."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)
