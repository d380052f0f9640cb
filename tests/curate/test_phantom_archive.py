"""The archive that ``curate simulate`` writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from curate.errors import UserError
from curate.phantom import simulate_archive
from curate.phantom.archive import MANIFEST
from curate.phantom.dirt import COMMON, sow_faults
from curate.phantom.people import draw_photos, make_sites, random_numbers


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clean") / "archive"
    simulate_archive(out, patients=26, seed=3, workers=1)
    return out


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dirty") / "archive"
    simulate_archive(out, patients=135, seed=3, workers=1, dirt=True)
    return out


def text(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_the_archive_holds_what_it_promises(clean: Path) -> None:
    manifest = text(clean / "manifest.csv")
    assert tuple(manifest.columns) == MANIFEST
    assert not (clean / "truth" / "dirt.csv").exists()
    assert sorted(p.name for p in clean.iterdir()) == ["images", "manifest.csv", "simulation.json", "task.yaml", "truth"]
    truth = pd.read_parquet(clean / "truth" / "truth.parquet")
    assert truth["image_file"].tolist() == manifest["image_file"].tolist()
    assert {p.name for p in (clean / "images").iterdir()} == set(manifest["image_file"])
    for mask in ("vessels", "artery_vein", "disc"):
        assert {p.stem for p in (clean / "truth" / mask).iterdir()} == {Path(f).stem for f in manifest["image_file"]}


def test_values_of_the_clean_manifest_are_plain(clean: Path) -> None:
    manifest = text(clean / "manifest.csv")
    assert set(manifest["eye"]) == {"left", "right"}
    assert set(manifest["sex"]) <= {"female", "male", ""}
    assert manifest["age"].str.fullmatch(r"\d\d").all()
    assert manifest["exam_date"].str.fullmatch(r"20\d\d-\d\d-\d\d").all()
    assert manifest["patient_id"].str.fullmatch(r"\d{6}").all()
    assert (manifest.groupby("patient_id")["hospital"].nunique() == 1).all()
    assert (manifest.groupby("patient_id")["sex"].nunique() == 1).all()
    assert manifest["image_file"].is_unique
    assert manifest["patient_id"].nunique() == 26


def test_images_have_the_size_asked_and_masks_fit_them(clean: Path) -> None:
    truth = pd.read_parquet(clean / "truth" / "truth.parquet").head(6)
    for row in truth.itertuples():
        stem = Path(row.image_file).stem
        picture = cv2.imread(str(clean / "images" / row.image_file))
        vessels = cv2.imread(str(clean / "truth" / "vessels" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE) > 0
        disc = cv2.imread(str(clean / "truth" / "disc" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE) > 0
        assert picture.shape == (256, 256, 3)
        assert vessels.shape == disc.shape == (256, 256)
        field = picture.max(2) > 12
        assert vessels.sum() / field.sum() == pytest.approx(row.vessel_density, rel=0.06)
        assert abs(np.nonzero(disc)[1].mean() - row.disc_x) < 6
        assert (row.disc_x < 128) == (row.eye == "left")


def test_the_task_asks_for_the_five_grades(clean: Path) -> None:
    task = yaml.safe_load((clean / "task.yaml").read_text())
    assert task["label"] == "dr_grade"
    assert task["classes"] == {"none": [0], "mild": [1], "moderate": [2], "severe": [3], "proliferative": [4]}
    assert task["split"] == {"test": "holdout", "val": 0.2}


def test_bytes_do_not_depend_on_the_number_of_workers(clean: Path, tmp_path: Path) -> None:
    simulate_archive(tmp_path / "archive", patients=26, seed=3, workers=2)
    assert digests(tmp_path / "archive") == digests(clean)


def test_issued_again_it_does_nothing_and_counts_the_same(clean: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in clean.rglob("*")}
    counts = simulate_archive(clean, patients=26, seed=3, workers=2)
    assert counts["patients"] == 26
    assert counts["images"] == len(text(clean / "manifest.csv"))
    assert {p: p.stat().st_mtime_ns for p in clean.rglob("*")} == before


def test_an_interrupted_archive_is_resumed_to_the_same_bytes(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.phantom import archive as module

    real, calls = module._simulate_part, []

    def stops(*arguments):
        calls.append(arguments[2])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "_simulate_part", stops)
    with pytest.raises(KeyboardInterrupt):
        simulate_archive(tmp_path / "archive", patients=26, seed=3, workers=1)
    assert not (tmp_path / "archive").exists()
    monkeypatch.setattr(module, "_simulate_part", real)
    simulate_archive(tmp_path / "archive", patients=26, seed=3, workers=1)
    assert digests(tmp_path / "archive") == digests(clean)


def test_another_specification_on_the_same_folder_is_refused(clean: Path) -> None:
    with pytest.raises(UserError, match="patients: there 26, asked 27"):
        simulate_archive(clean, patients=27, seed=3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 200}, "--size 200"),
        ({"sites": 0}, "--sites 0"),
        ({"sites": 5, "patients": 4}, "--patients 4"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(tmp_path: Path, arguments: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        simulate_archive(tmp_path / "archive", **arguments)
    assert not list(tmp_path.iterdir())


FAULTS = {
    "age as an open interval", "age falls across visits", "age as text with a unit", "age not given", "sentinel in the age column",
    "birth year in the age column", "date that stands for unknown", "sex conflicts within a patient", "sex as a letter",
    "sex in capitals", "sex unknown as a code", "ethnicity not stated", "eye as an abbreviation", "camera spelt differently",
    "patient id without its leading zeros", "patient id read as a number", "same photograph under two patient ids",
    "file name without its extension", "image cut short", "image missing",
}  # fmt: skip


def test_every_kind_of_fault_is_written(dirty: Path) -> None:
    faults = text(dirty / "truth" / "dirt.csv")
    assert set(faults["fault"]) == FAULTS
    assert set(faults.loc[faults["column"] == "eye", "dirty"]) == {"OD", "OS", "RE", "LE", "R", "L"}
    assert {"-9", "120", "999"} <= set(faults["dirty"])


def test_every_fault_stands_in_the_manifest_and_nothing_else_changed(dirty: Path, tmp_path: Path) -> None:
    manifest, faults = text(dirty / "manifest.csv"), text(dirty / "truth" / "dirt.csv")
    for fault in faults.itertuples():
        found = manifest.at[int(fault.row) - 2, fault.column]
        assert found == (fault.image_file if fault.dirty in ("truncated", "absent") else fault.dirty)
    truth = pd.read_parquet(dirty / "truth" / "truth.parquet")
    assert len(manifest) == len(truth) + faults["fault"].str.startswith("same photograph").sum()
    struck = set(zip(faults["row"].astype(int) - 2, faults["column"], strict=True))
    for column in ("patient_id", "eye", "exam_date", "camera", "hospital"):
        for row, value in enumerate(truth[column]):
            assert (manifest.at[row, column] == value) or (row, column) in struck


def test_damaged_and_missing_images_are_few_and_really_so(dirty: Path) -> None:
    manifest, faults = text(dirty / "manifest.csv"), text(dirty / "truth" / "dirt.csv")
    cut = faults.loc[faults["fault"] == "image cut short", "image_file"]
    absent = faults.loc[faults["fault"] == "image missing", "image_file"]
    assert 0 < len(cut) + len(absent) < 0.008 * len(manifest)
    assert all(not (dirty / "images" / file).exists() for file in absent)
    assert all(not (dirty / "images" / file).read_bytes().endswith(b"\xff\xd9") for file in cut)


def test_the_same_photograph_stands_under_two_patients(dirty: Path) -> None:
    manifest, faults = text(dirty / "manifest.csv"), text(dirty / "truth" / "dirt.csv")
    for fault in faults[faults["fault"].str.startswith("same photograph")].itertuples():
        copy = manifest.iloc[int(fault.row) - 2]
        original = copy["image_file"].replace(fault.dirty, fault.clean)
        assert (dirty / "images" / original).read_bytes() == (dirty / "images" / copy["image_file"]).read_bytes()
        assert copy["patient_id"] == fault.dirty != fault.clean


def test_ages_that_fall_do_fall(dirty: Path) -> None:
    faults = text(dirty / "truth" / "dirt.csv")
    truth = pd.read_parquet(dirty / "truth" / "truth.parquet")
    for fault in faults[faults["fault"] == "age falls across visits"].itertuples():
        row = truth.iloc[int(fault.row) - 2]
        first = truth[(truth["patient_id"] == row["patient_id"]) & (truth["visit"] == 1)]
        assert int(fault.dirty) < first["age"].min()


def test_faults_keep_to_their_share_in_a_large_archive() -> None:
    photos = [photo for site in make_sites(2, 0) for patient in range(1, 800) for photo in draw_photos(site, patient, 1)]
    person = [(f"{p.patient:06d}", "left" if p.left else "right", p.day.isoformat(), str(int(p.age)), p.sex or "") for p in photos]
    place = [(p.ethnicity or "", p.device, p.site, str(p.grade)) for p in photos]
    rows = [(f"{number}.jpg", *who, *where) for number, (who, where) in enumerate(zip(person, place, strict=True))]
    soiled = sow_faults(pd.DataFrame(rows, columns=list(MANIFEST)), random_numbers(0, 0, 0))
    faults = pd.DataFrame(soiled.faults)
    assert not faults.duplicated(["row", "column"]).any()
    assert 0.5 * COMMON < (faults["fault"] == "camera spelt differently").mean() * len(faults) / len(rows) < 1.1 * COMMON
    assert (len(soiled.missing) + len(soiled.truncated)) / len(rows) < 0.008
    assert soiled.missing
    assert soiled.truncated
