"""Modalities of other packages, named among their entry points."""

from __future__ import annotations

import importlib.metadata
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from curate.artefacts import write_json, write_parquet
from curate.errors import UserError
from curate.measure import measure_cohort


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    import cv2

    (tmp_path / "images").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((32, 32, 3), 40 * number, np.uint8))
    folder = tmp_path / "cohort"
    folder.mkdir()
    names = [f"{number}.png" for number in range(3)]
    write_parquet(folder / "cohort.parquet", pd.DataFrame({"image_id": names, "path": names, "width": 32, "height": 32}))
    write_json(folder / "cohort.json", {"images": "../images", "name": "grey"})
    return folder


def install(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    point = types.SimpleNamespace(name="skin", value="melanoscope.measures", load=lambda: module)
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **asked: [point] if asked == {"group": "evenfooting.modalities"} else real(**asked)
    )


def test_a_modality_of_another_package_measures_the_cohort(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.SimpleNamespace(
        MEASURES={"state": "string", "redness": "float64"},
        measure_image=lambda rgb, *, resolution: {"state": "ok", "redness": float(rgb[..., 0].mean())},
    )
    install(monkeypatch, module)
    measure_cohort(cohort, modality="skin", workers=1)
    assert pd.read_parquet(cohort / "measurements.parquet")["redness"].tolist() == [0, 40, 80]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (types.SimpleNamespace(MEASURES={"redness": "float64"}, measure_image=None), "must have a column 'state'"),
        (types.SimpleNamespace(MEASURES={"state": "string"}), "melanoscope.measures can't be used: .*measure_image"),
    ],
    ids=["no state", "no function"],
)
def test_a_modality_that_cannot_be_used_is_said_in_one_line(
    cohort: Path, monkeypatch: pytest.MonkeyPatch, module: object, said: str
) -> None:
    install(monkeypatch, module)
    with pytest.raises(UserError, match=f"--modality skin: .*{said}"):
        measure_cohort(cohort, modality="skin", workers=1)


def test_an_unknown_modality_is_named_with_the_nearest_known_one(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    with pytest.raises(UserError, match="--modality skim: unknown; did you mean 'skin'"):
        measure_cohort(cohort, modality="skim", workers=1)
