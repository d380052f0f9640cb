"""Ingest: every fault is repaired by a named rule, refused, or stops the command in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from archives import draw_photograph, people
from curate.cohort import COLUMNS, read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive

Archive = Callable[..., Path]


def ingested(manifest: Path, **options: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    out = manifest.parent / "cohort"
    ingest_archive(manifest, **{"images": [manifest.parent / "images"], "out": out, "workers": 1, "max_bad": 0.5, **options})  # type: ignore[arg-type]
    cohort = read_cohort(out)
    return cohort.table.set_index("image_id"), cohort.ledger()


def test_a_clean_manifest_becomes_a_cohort_with_an_empty_ledger(archive: Archive) -> None:
    table, ledger = ingested(archive(people(4)))
    assert len(table) == 8
    assert ["image_id", *table.columns[: len(COLUMNS) - 1]] == list(COLUMNS)
    assert ledger.empty
    row = table.loc["00001_left"]
    assert (row["patient_id"], row["laterality"], row["device"], row["site"]) == ("00001", "left", "Topcon TRC-50", "North")
    assert pd.api.types.is_integer_dtype(table["dr_grade"])
    assert table["age"].dtype == "float64"


@pytest.mark.parametrize("name", ["manifest.tsv", "manifest.csv"])
def test_text_tables_give_the_same_cohort(archive: Archive, name: str) -> None:
    table, _ = ingested(archive(people(2), name=name))
    assert table["patient_id"].tolist() == ["00000", "00000", "00001", "00001"]


def test_a_parquet_table_keeps_whole_numbers_whole(archive: Archive) -> None:
    manifest = archive(people(2))
    frame = pd.read_csv(manifest, dtype={"patient_id": str})
    frame.loc[0, "age"] = float("nan")
    frame.to_parquet(manifest.with_suffix(".parquet"))
    table, ledger = ingested(manifest.with_suffix(".parquet"))
    assert table["age"].isna().sum() == 1
    assert ledger.empty


@pytest.mark.parametrize(
    ("text", "age", "rule"),
    [
        ("045Y", 45.0, "age-text"),
        ("61 years", 61.0, "age-text"),
        ("90+", 90.0, "age-top-coded"),
        ("-9", None, "age-sentinel"),
        ("999", None, "age-sentinel"),
        ("120", None, "age-sentinel"),
        ("1950", 70.0, "age-birth-year"),
        ("Not Given", None, "missing-word"),
        ("abc", None, "age-unreadable"),
        ("1", None, "age-placeholder"),
        ("63.5", 63.5, None),
    ],
)
def test_ages_are_repaired_or_become_missing_by_a_named_rule(archive: Archive, text: str, age: float | None, rule: str | None) -> None:
    rows = people(6)
    rows[0]["age"] = rows[1]["age"] = text
    table, ledger = ingested(archive(rows))
    found = table.loc["00000_left", "age"]
    assert (None if pd.isna(found) else found) == age
    assert ledger["rule"].tolist() == ([rule, rule] if rule else [])
    if rule:
        assert ledger.iloc[0][["row", "column", "before"]].tolist() == [2, "age", text]


def test_infants_in_a_paediatric_archive_keep_their_age(archive: Archive) -> None:
    rows = people(4)
    for row, age in zip(rows, ["0", "0", "1", "1", "3", "3", "5", "5"], strict=True):
        row["age"] = age
    table, ledger = ingested(archive(rows))
    assert sorted(table["age"].unique()) == [0, 1, 3, 5]
    assert ledger.empty


@pytest.mark.parametrize("coding", [("0", "1"), ("1", "2")])
def test_sex_coded_in_numbers_stops_with_the_counts(archive: Archive, coding: tuple[str, str]) -> None:
    rows = [{**row, "sex": coding[row["sex"] == "male"]} for row in people(6)]
    manifest = archive(rows)
    with pytest.raises(UserError, match=rf"column 'sex' codes sex in numbers: '{coding[0]}' \(\d+ rows\).*--codes sex="):
        ingested(manifest)
    assert not (manifest.parent / "cohort").exists()
    assert not (manifest.parent / "cohort.partial").exists()
    table, _ = ingested(manifest, codes=[f"sex={coding[0]}:female,{coding[1]}:male"])
    assert set(table["sex"]) == {"female", "male"}


def test_words_for_sex_and_eye_are_understood(archive: Archive) -> None:
    rows = people(3)
    for row, sex, eye in zip(rows, ["F", "f", "M", "Male", "U", "U"], ["OS", "OD", "LE", "RE", "L", "r"], strict=True):
        row["sex"], row["eye"] = sex, eye
    table, ledger = ingested(archive(rows))
    assert table["sex"].fillna("-").tolist() == ["female", "female", "male", "male", "-", "-"]
    assert table["laterality"].tolist() == ["left", "right"] * 3
    assert set(ledger["rule"]) == {"coding", "missing-word"}


def test_a_camera_spelt_in_several_ways_is_one_camera(archive: Archive) -> None:
    rows = people(4)
    rows[0]["camera"], rows[1]["camera"] = "canon CR2", "CANON-CR-2"
    table, ledger = ingested(archive(rows))
    assert set(table["device"]) == {"Canon CR-2", "Topcon TRC-50"}
    assert (ledger["rule"] == "spelling").sum() == 2


def test_ids_get_back_what_a_spreadsheet_took(archive: Archive) -> None:
    rows = people(12)
    for row in rows[:2]:
        row["patient_id"] = "0.0" if row is rows[0] else "0"
    table, ledger = ingested(archive(rows))
    assert table.loc["00000_left", "patient_id"] == table.loc["00000_right", "patient_id"] == "00000"
    assert set(ledger["rule"]) == {"id-float", "id-padding"}


def test_a_sex_that_differs_within_a_patient_becomes_missing(archive: Archive) -> None:
    rows = people(3)
    rows[0]["sex"], rows[1]["sex"] = "female", "male"
    table, ledger = ingested(archive(rows))
    assert table.loc[["00000_left", "00000_right"], "sex"].isna().all()
    assert ledger["rule"].tolist() == ["sex-conflict"] * 2


def test_two_people_under_one_id_and_eye_on_one_day_are_refused(archive: Archive) -> None:
    rows = people(3)
    rows.append({**rows[0], "image_file": "other.jpg", "age": str(int(rows[0]["age"]) - 20)})
    table, ledger = ingested(archive(rows))
    assert "00000_left" not in table.index
    assert "other" not in table.index
    assert ledger["rule"].tolist() == ["identity-conflict"] * 2


def test_ages_that_fall_over_time_become_missing(archive: Archive) -> None:
    rows = people(3)
    later = {**rows[0], "image_file": "later.jpg", "exam_date": "2022-01-15", "age": str(int(rows[0]["age"]) - 9)}
    table, ledger = ingested(archive([*rows, later]))
    assert table[table["patient_id"] == "00000"]["age"].isna().all()
    assert set(ledger["rule"]) == {"age-falls"}


def test_one_file_for_two_patients_is_refused_and_a_repeated_row_dropped(archive: Archive) -> None:
    rows = people(3)
    rows += [{**rows[0], "patient_id": "77777"}, dict(rows[5])]
    table, ledger = ingested(archive(rows))
    assert "00000_left" not in table.index
    assert ledger["rule"].value_counts().to_dict() == {"duplicate-image": 2, "duplicate-row": 1}


def test_copies_of_a_file_are_refused_within_a_patient_and_noted_across(archive: Archive) -> None:
    rows = people(3)
    manifest = archive([*rows, {**rows[0], "image_file": "copy.jpg"}, {**rows[2], "image_file": "again.jpg", "patient_id": "99999"}])
    images = manifest.parent / "images"
    (images / "copy.jpg").write_bytes((images / "00000_left.jpg").read_bytes())
    (images / "again.jpg").write_bytes((images / "00001_left.jpg").read_bytes())
    table, ledger = ingested(manifest)
    assert "copy" not in table.index
    assert {"again", "00001_left"} <= set(table.index)
    assert ledger["rule"].value_counts().to_dict() == {"same-photograph": 2, "duplicate-file": 1}


def test_missing_and_damaged_images_are_recorded_and_limited(archive: Archive) -> None:
    rows = people(10)
    manifest = archive(rows)
    images = manifest.parent / "images"
    (images / "00001_left.jpg").unlink()
    whole = (images / "00002_left.jpg").read_bytes()
    (images / "00002_left.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "00003_left.jpg").write_text("not an image")
    with pytest.raises(
        UserError, match=r"3 of 20 images are missing or damaged \(15 %\), more than --max-bad 1%; first: row 4, 00001_left.jpg"
    ):
        ingested(manifest, max_bad=0.01)
    assert sorted(p.name for p in manifest.parent.iterdir()) == ["images", "manifest.csv"]
    table, ledger = ingested(manifest, max_bad=0.2)
    assert len(table) == 17
    assert ledger["rule"].value_counts().to_dict() == {"image-damaged": 2, "image-missing": 1}


def test_a_part_of_an_archive_can_be_ingested(archive: Archive) -> None:
    manifest = archive(people(5))
    for image in sorted((manifest.parent / "images").iterdir())[:6]:
        image.unlink()
    table, ledger = ingested(manifest, subset=True, max_bad=0.01)
    assert len(table) == 4
    assert set(ledger["rule"]) == {"image-elsewhere"}


def test_two_image_folders_make_one_cohort(archive: Archive) -> None:
    manifest = archive(people(4))
    other = manifest.parent / "second"
    other.mkdir()
    for image in sorted((manifest.parent / "images").iterdir())[:3]:
        image.rename(other / image.name)
    table, _ = ingested(manifest, images=[manifest.parent / "images", other])
    assert sorted({Path(p).parent.name for p in table["path"]}) == ["images", "second"]
    assert len(table) == 8


def test_file_names_without_ending_are_found(archive: Archive) -> None:
    rows = people(2)
    manifest = archive(rows)
    archive([{**row, "image_file": row["image_file"].removesuffix(".jpg")} for row in rows], draw=False)
    table, ledger = ingested(manifest)
    assert len(table) == 4
    assert set(ledger["rule"]) == {"path-extension"}


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/hostname"])
def test_paths_that_leave_the_image_folder_are_refused(archive: Archive, path: str) -> None:
    rows = people(3)
    manifest = archive(rows)
    draw_photograph(manifest.parent / "secret.jpg", 99)
    archive([*rows, {**rows[0], "image_file": path, "patient_id": "9"}], draw=False)
    table, ledger = ingested(manifest)
    assert len(table) == 6
    assert "path-outside" in set(ledger["rule"])


def test_a_link_that_leaves_the_image_folder_is_refused(archive: Archive) -> None:
    rows = people(3)
    manifest = archive(rows)
    draw_photograph(manifest.parent / "secret.jpg", 99)
    link = manifest.parent / "images" / "00000_left.jpg"
    link.unlink()
    link.symlink_to(manifest.parent / "secret.jpg")
    table, ledger = ingested(manifest)
    assert "00000_left" not in table.index
    assert ledger["rule"].tolist() == ["path-outside"]


def test_columns_that_identify_people_are_not_copied(archive: Archive) -> None:
    rows = [{**row, "Surname": "Doe", "date_of_birth": "1950-01-01", "lens_name": "x"} for row in people(2)]
    table, ledger = ingested(archive(rows))
    assert not {"Surname", "date_of_birth"} & set(table.columns)
    assert "lens_name" in table.columns
    assert "direct-identifier" in set(ledger["rule"])


def test_a_missing_column_is_named_with_the_nearest(archive: Archive) -> None:
    manifest = archive(people(2))
    with pytest.raises(UserError, match=r"no column 'Patient Agee' \(wanted for age\)"):
        ingested(manifest, column_map=["age=Patient Agee"])
    with pytest.raises(UserError, match=r"a cohort has no column 'aeg'; did you mean 'age'\?"):
        ingested(manifest, column_map=["aeg=age"])


def test_a_table_without_patients_is_refused(archive: Archive) -> None:
    rows = [{k: v for k, v in row.items() if k != "patient_id"} for row in people(2)]
    with pytest.raises(UserError, match="no column of patients; name it with --map patient_id=COLUMN"):
        ingested(archive(rows))


def test_a_column_that_does_not_hold_ages_is_refused(archive: Archive) -> None:
    with pytest.raises(UserError, match="column 'camera' does not hold ages: row 2 says 'Canon CR-2'"):
        ingested(archive(people(3)), column_map=["age=camera"])


def test_a_ragged_row_is_named(archive: Archive) -> None:
    manifest = archive(people(2))
    with open(manifest, "a") as file:
        file.write("only,three,fields\n")
    with pytest.raises(UserError, match="row 6 has 3 fields, the header has 10"):
        ingested(manifest)


def test_a_table_in_another_encoding_asks_for_its_name(archive: Archive) -> None:
    manifest = archive([{**row, "hospital": "München"} for row in people(2)])
    manifest.write_bytes(manifest.read_text(encoding="utf-8").encode("cp1252"))
    with pytest.raises(UserError, match=r"not utf-8 .* --encoding cp1252"):
        ingested(manifest)
    table, _ = ingested(manifest, encoding="cp1252")
    assert set(table["site"]) == {"München"}


def test_dates_of_another_form_ask_for_it(archive: Archive) -> None:
    manifest = archive([{**row, "exam_date": "15/03/2020"} for row in people(3)])
    with pytest.raises(UserError, match="--date-format %d/%m/%Y"):
        ingested(manifest)
    table, _ = ingested(manifest, date_format="%d/%m/%Y")
    assert set(table["acquired_on"]) == {"2020-03-15"}


def test_a_folder_of_images_is_an_archive_whose_patients_a_pattern_can_name(tmp_path: Path) -> None:
    for number in range(6):
        draw_photograph(tmp_path / "images" / f"{number // 2}_{('left', 'right')[number % 2]}.jpg", number)
    about = ingest_archive(tmp_path / "images", out=tmp_path / "plain", workers=1)
    assert about["counts"]["patients"] == 6
    assert about["patients_known"] is False
    about = ingest_archive(
        tmp_path / "images", out=tmp_path / "named", pattern=r"(?P<patient_id>\d+)_(?P<laterality>left|right)", workers=1
    )
    assert about["counts"]["patients"] == 3
    assert about["patients_known"] is True


def test_the_cohort_is_the_same_for_any_number_of_workers(archive: Archive, tmp_path: Path) -> None:
    manifest = archive(people(8))
    ingested(manifest)
    ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "two", workers=2, max_bad=0.5)
    first, second = (tmp_path / "cohort"), (tmp_path / "two")
    for name in ("cohort.parquet", "ledger.parquet", "cohort.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_asking_again_does_nothing_and_asking_otherwise_is_refused(archive: Archive, tmp_path: Path) -> None:
    manifest = archive(people(3))
    ingested(manifest)
    before = (tmp_path / "cohort" / "cohort.json").stat().st_mtime_ns
    about = ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1, max_bad=0.5)
    assert about["done_before"]
    assert (tmp_path / "cohort" / "cohort.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"made with another specification .*max_bad: there 0.5, asked 0.01"):
        ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)


def test_a_folder_that_holds_something_else_is_not_touched(archive: Archive, tmp_path: Path) -> None:
    manifest = archive(people(2))
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists and is not an artefact of this command"):
        ingested(manifest)
    assert (tmp_path / "cohort" / "thesis.txt").read_text() == "years of work"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
@pytest.mark.parametrize(("options", "words"), [("size=16k", "no space left on the disk"), ("size=16k,ro", "read-only")])
def test_a_full_disk_or_a_read_only_folder_is_one_line_and_leaves_nothing_whole(
    archive: Archive, tmp_path: Path, options: str, words: str
) -> None:
    manifest = archive(people(20))
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(small)], check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        command = [
            sys.executable,
            "-m",
            "curate",
            "ingest",
            str(manifest),
            "--images",
            str(tmp_path / "images"),
            "--out",
            str(small / "cohort"),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.strip().count("\n") == 0
        assert words in done.stderr
        assert not (small / "cohort").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_what_made_a_cohort_is_recorded(archive: Archive, tmp_path: Path) -> None:
    ingested(archive(people(2)))
    about = json.loads((tmp_path / "cohort" / "cohort.json").read_text())
    assert set(about["made_by"]) == {"tool", "version", "python", "command", "seed", "specification", "inputs"}
    assert len(about["made_by"]["inputs"]["manifest.csv"]) == 64
    assert about["images"] == "../images"
