"""Modalities of other packages, named among their entry points."""

from __future__ import annotations

import importlib.metadata
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from curate.artefacts import read_json, write_json, write_parquet
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.generic import OF_THE_PHOTOGRAPH
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
        (
            types.SimpleNamespace(MEASURES={"state": "string", "redness": "number"}, measure_image=None),
            "gives 'redness' the type 'number', which pandas doesn't know; most are 'float64'",
        ),
        (
            types.SimpleNamespace(MEASURES={"state": "string"}, measure_image=None, OF_THE_PHOTOGRAPH=["glare"]),
            "lacks 'glare', which its OF_THE_PHOTOGRAPH names",
        ),
    ],
    ids=["no state", "no function", "no such type", "a stranger"],
)
def test_a_modality_that_cannot_be_used_is_said_in_one_line(
    cohort: Path, monkeypatch: pytest.MonkeyPatch, module: object, said: str
) -> None:
    install(monkeypatch, module)
    with pytest.raises(UserError, match=f"--modality skin: .*{said}"):
        measure_cohort(cohort, modality="skin", workers=1)


@pytest.mark.parametrize(
    ("measure_image", "said"),
    [
        (
            lambda rgb, *, resolution: {"state": "ok", "redness": 1 / (int(rgb.max()) - 40)},
            "fails at 1.png: ZeroDivisionError: division by",
        ),
        (lambda rgb, *, resolution: {"state": "ok", "rednes": 1.0}, "gives 'rednes', which is not in its MEASURES"),
        (lambda rgb, *, resolution: {"state": "ok", "redness": "much"}, "'redness' was measured as something that is no float64: .*much"),
    ],
    ids=["fails", "misspells", "wrong type"],
)
def test_a_modality_that_fails_at_an_image_is_said_in_one_line(
    cohort: Path, monkeypatch: pytest.MonkeyPatch, measure_image: object, said: str
) -> None:
    install(monkeypatch, types.SimpleNamespace(MEASURES={"state": "string", "redness": "float64"}, measure_image=measure_image))
    with pytest.raises(UserError, match=f"--modality skin: .*{said}"):
        measure_cohort(cohort, modality="skin", workers=1)
    assert not (cohort / "measurements.parquet").exists()


def test_a_number_that_is_not_finite_is_missing(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = types.SimpleNamespace(
        MEASURES={"state": "string", "redness": "float64", "lesions": "Int64"},
        measure_image=lambda rgb, *, resolution: {"state": "ok", "redness": float("inf"), "lesions": None if rgb.max() else 3},
    )
    install(monkeypatch, endless)
    about = measure_cohort(cohort, modality="skin", workers=1)
    table = pd.read_parquet(cohort / "measurements.parquet")
    assert table["redness"].isna().all()
    assert table["lesions"].isna().tolist() == [False, True, True]
    assert about["medians"]["redness"] is None
    assert about["of_the_photograph"] == []


def test_what_is_of_the_photograph_is_known_of_cohorts_measured_before_it_was_written_down(cohort: Path) -> None:
    measure_cohort(cohort, modality="generic", workers=1)
    about = read_json(cohort / "measurements.json", "measures")
    listed = about.pop("of_the_photograph")
    assert read_cohort(cohort).of_the_photograph() == set(listed) == set(OF_THE_PHOTOGRAPH)
    write_json(cohort / "measurements.json", about)
    assert read_cohort(cohort).of_the_photograph() == set(listed)
    (cohort / "measurements.json").unlink()
    assert read_cohort(cohort).of_the_photograph() == set()


def test_an_unknown_modality_is_named_with_the_nearest_known_one(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    with pytest.raises(UserError, match="--modality skim: unknown; did you mean 'skin'"):
        measure_cohort(cohort, modality="skim", workers=1)
