from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from archives import Rows, draw_photograph


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Make an archive from rows: writes its manifest and an image for every file name; gives the manifest's path."""

    def make(rows: Rows, *, name: str = "manifest.csv", draw: bool = True) -> Path:
        manifest = tmp_path / name
        (tmp_path / "images").mkdir(exist_ok=True)
        with open(manifest, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
        for number, row in enumerate(rows):
            image = tmp_path / "images" / str(row.get("image_file", row.get("file", "")))
            if draw and not image.exists() and image.suffix:
                draw_photograph(image, number)
        return manifest

    return make
