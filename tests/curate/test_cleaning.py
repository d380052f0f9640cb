"""The faults that real tables have, one by one: repaired by a named rule, or refused; and what --check says of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from archives import draw_photograph, people
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.ledger import RULES

Archive = Callable[..., Path]


def ingested(manifest: Path, **options: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    out = manifest.parent / "cohort"
    ingest_archive(manifest, **{"images": [manifest.parent / "images"], "out": out, "workers": 1, "max_bad": 0.5, **options})  # type: ignore[arg-type]
    read = read_cohort(out)
    return read.table.set_index("image_id"), read.ledger()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1.0", "2.0"], r"in numbers: '1.0' \(6 rows\), '2.0' \(6 rows\)"),
        (["01", "02"], r"in numbers: '01' \(6 rows\)"),
        (["1", "2", "9"], r"in numbers: '1' \(4 rows\), '2' \(4 rows\); say"),
        (["M", "1"], r"in numbers: '1' \(6 rows\)"),
        (["0", "9"], r"in numbers: '0' \(6 rows\); say"),
        (["T", "F"], r"words with two meanings: 'F' \(6 rows\), 'T' \(6 rows\); .* --codes sex=T:male,F:female"),
        (["True", "False"], "words with two meanings"),
        (["H", "M"], "words with two meanings"),
        (["yes", "no"], "words with two meanings"),
        (["blue", "red"], r"does not hold sex: 'blue' \(6 rows\), 'red' \(6 rows\)"),
    ],
)
def test_a_sex_that_could_mean_two_things_stops_with_the_counts(archive: Archive, values: list[str], words: str) -> None:
    rows = [{**row, "sex": values[i % len(values)]} for i, row in enumerate(people(6))]
    with pytest.raises(UserError, match=words):
        ingested(archive(rows))


@pytest.mark.parametrize("word", ["9", "99", "-9", "U", "NK", "NR", "Not Stated", "Not Given", "#N/A"])
def test_words_and_nines_beside_words_stand_for_unknown(archive: Archive, word: str) -> None:
    rows = people(4)
    for column in ("sex", "eye", "ethnicity", "camera"):
        rows[0][column] = word
    table, ledger = ingested(archive(rows))
    first = table.loc["00000_left"]
    assert first[["sex", "laterality", "ethnicity", "device"]].isna().all()
    assert ledger["rule"].tolist() == ["missing-word"] * 4


def test_stated_codes_are_found_however_the_number_is_written(archive: Archive) -> None:
    rows = [{**row, "sex": {"female": "1.0", "male": "02"}[row["sex"]]} for row in people(4)]
    truth = [row["sex"] for row in people(4)]
    table, _ = ingested(archive(rows), codes=["sex=1:female,2:male"])
    assert table["sex"].tolist() == truth


@pytest.mark.parametrize("value", ["1.23E+05", "1.2e5", "1,23E+05"])
def test_an_id_in_scientific_notation_is_refused(archive: Archive, value: str) -> None:
    rows = people(3)
    rows[0]["patient_id"] = value
    table, ledger = ingested(archive(rows))
    assert len(table) == 5
    assert ledger[["row", "column", "before", "rule"]].to_numpy().tolist() == [[2, "patient_id", value, "id-scientific"]]


def test_a_name_cut_short_is_completed_where_one_name_alone_begins_so(archive: Archive) -> None:
    rows = people(4)
    for row in rows:
        row["camera"], row["hospital"] = "Heidelberg Spectralis", "Addenbrooke Hospital"
    rows[0]["camera"], rows[1]["camera"], rows[2]["hospital"] = "Heidelberg Spect", "Heidelberg", "Addenbrooke Hospital 2"
    table, ledger = ingested(archive(rows))
    assert table.loc["00000_left", "device"] == "Heidelberg Spectralis"
    assert table.loc["00000_right", "device"] == "Heidelberg"
    assert set(table["site"]) == {"Addenbrooke Hospital", "Addenbrooke Hospital 2"}
    assert ledger["rule"].tolist() == ["text-truncated"]


@pytest.mark.parametrize(
    ("text", "clean", "rule"),
    [
        ("1900-01-01", None, "date-sentinel"),
        ("9999-12-31", None, "date-sentinel"),
        ("1970-01-01", None, "date-sentinel"),
        ("0001-01-01", None, "date-sentinel"),
        ("2020-02-31", None, "date-unreadable"),
        ("soon", None, "date-unreadable"),
        ("20200315", "2020-03-15", "date-form"),
        ("2020/03/15", "2020-03-15", "date-form"),
        ("2020-03-15T10:30:00", "2020-03-15", "date-form"),
        ("NK", None, "missing-word"),
    ],
)
def test_dates_are_repaired_or_become_missing(archive: Archive, text: str, clean: str | None, rule: str | None) -> None:
    rows = people(4)
    rows[0]["exam_date"] = text
    table, ledger = ingested(archive(rows))
    found = table.loc["00000_left", "acquired_on"]
    assert (None if pd.isna(found) else found) == clean
    assert ledger["rule"].tolist() == ([rule] if rule else [])


def test_ninety_nine_is_an_age_unless_it_is_too_common(archive: Archive) -> None:
    rows = people(12)
    rows[0]["age"] = rows[1]["age"] = "99"
    assert ingested(archive(rows))[0].loc["00000_left", "age"] == 99
    for row in rows[:6]:
        row["age"] = "99"
    table, ledger = ingested(archive(rows), out=rows and archive(rows).parent / "again")
    assert len(table) == 24
    table, ledger = read_cohort(archive(rows).parent / "again").table, read_cohort(archive(rows).parent / "again").ledger()
    assert table["age"].isna().sum() == 6
    assert set(ledger["rule"]) == {"age-placeholder"}


def test_a_header_in_the_middle_of_a_table_is_refused(archive: Archive) -> None:
    rows = people(3)
    table, ledger = ingested(archive([*rows[:2], {c: c for c in rows[0]}, *rows[2:]]))
    assert len(table) == 6
    assert ledger[["row", "rule"]].to_numpy().tolist() == [[4, "header-row"]]


def test_columns_that_differ_only_in_capitals_must_be_told_apart(archive: Archive) -> None:
    rows = [{**row, "Age": str(int(row["age"]) + 1)} for row in people(3)]
    manifest = archive(rows)
    with pytest.raises(UserError, match="columns 'age' and 'Age' both could be age and differ; say which, as --map age=age"):
        ingested(manifest)
    table, _ = ingested(manifest, column_map=["age=Age"])
    assert table["age"].tolist() == [float(row["Age"]) for row in rows]
    assert table["manifest_age"].tolist() == [int(row["age"]) for row in rows]


def test_yes_and_no_stay_words_and_ids_keep_their_zeros(archive: Archive) -> None:
    rows = [{**row, "diabetes": ["yes", "No", ""][i % 3], "accession": f"00{i}", "count": "1.0"} for i, row in enumerate(people(3))]
    table, _ = ingested(archive(rows))
    assert table["diabetes"].fillna("-").tolist() == ["yes", "No", "-"] * 2
    assert table["accession"].tolist() == [f"00{i}" for i in range(6)]
    assert table["count"].dtype == "float64"


def test_wide_tables_give_every_eye_its_own_row_and_keep_the_manifests_row_numbers(archive: Archive, tmp_path: Path) -> None:
    rows = [
        {"id": "1", "L": "1l.jpg", "R": "1r.jpg", "VA left": "6/6", "VA right": "6/9", "age": "50"},
        {"id": "2", "L": "", "R": "2r.jpg", "VA left": "", "VA right": "6/6", "age": "NK"},
        {"id": "3", "L": "n/a", "R": "", "VA left": "", "VA right": "", "age": "70"},
    ]
    for number, name in enumerate(("1l.jpg", "1r.jpg", "2r.jpg")):
        draw_photograph(tmp_path / "images" / name, number)
    manifest = archive(rows, draw=False)
    eyes = ["left:path=L", "right:path=R", "left:acuity=VA left", "right:acuity=VA right"]
    table, ledger = ingested(manifest, eyes=eyes, column_map=["patient_id=id"])
    assert table[["patient_id", "laterality", "acuity"]].to_numpy().tolist() == [
        ["1", "left", "6/6"], ["1", "right", "6/9"], ["2", "right", "6/6"]
    ]  # fmt: skip
    assert not {"L", "R", "VA left"} & set(table.columns)
    assert ledger[["row", "column", "rule"]].to_numpy().tolist() == [[3, "age", "missing-word"], [4, "path", "path-missing"]]
    with pytest.raises(UserError, match=r"no column 'Left' \(wanted for the left eye's path\)"):
        ingested(manifest, eyes=["left:path=Left"], column_map=["patient_id=id"], out=tmp_path / "other")


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("sub\\a.jpg", "path-spelling"),
        ("sub/A.JPG", "path-spelling"),
        ("SUB/a.jpg", "path-spelling"),
        ("sub/A", "path-spelling"),
        ("sub/a", "path-extension"),
        (unicodedata.normalize("NFD", "sub/Müller.jpg"), "path-spelling"),
        ("sub/new\nline.jpg", None),
        ("sub/tab\there.jpg", None),
        ("./sub//a.jpg", None),
        ("sub/../../images/sub/a.jpg", None),
    ],
)
def test_file_names_written_in_another_way_are_found(archive: Archive, tmp_path: Path, written: str, rule: str | None) -> None:
    for number, name in enumerate(("a.jpg", "Müller.jpg", "new\nline.jpg", "tab\there.jpg")):
        draw_photograph(tmp_path / "images" / "sub" / name, number)
    table, ledger = ingested(archive([{"file": written, "patient": "1"}], draw=False))
    assert len(table) == 1
    assert (tmp_path / "images" / table["path"].iloc[0]).is_file()
    assert ledger["rule"].tolist() == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("../secret.jpg", "path-outside"),
        ("sub/../../secret.jpg", "path-outside"),
        ("..\\secret.jpg", "path-outside"),
        ("C:\\secret.jpg", "path-outside"),
        ("/etc/hostname", "path-outside"),
        ("link.jpg", "path-outside"),
        ("folder/secret.jpg", "path-outside"),
        ("sub", "image-missing"),
        ("x" * 5000, None),
        ("a/" * 2000 + "b.jpg", None),
        ("two.jpg", "image-missing"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(archive: Archive, tmp_path: Path, written: str, rule: str | None) -> None:
    good = people(2)
    manifest = archive(good)
    (tmp_path / "images" / "sub").mkdir()
    (tmp_path / "away").mkdir()
    for place in ("secret.jpg", "away/secret.jpg"):
        draw_photograph(tmp_path / place, 99)
    (tmp_path / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "images" / "folder").symlink_to(tmp_path / "away")
    for number, name in enumerate(("TWO.jpg", "Two.jpg"), 50):  # which of them is meant is not guessed
        draw_photograph(tmp_path / "images" / name, number)
    table, ledger = ingested(archive([*good, {**good[0], "image_file": written, "patient_id": "00009"}], draw=False))
    assert len(table) == 4
    assert ledger["row"].tolist() == [6]
    assert rule is None or ledger["rule"].tolist() == [rule]
    assert manifest.exists()


def test_a_link_between_two_image_folders_parents_is_refused(archive: Archive, tmp_path: Path) -> None:
    rows = people(2)
    manifest = archive(rows)
    (tmp_path / "second").mkdir()
    draw_photograph(tmp_path / "secret.jpg", 99)
    (tmp_path / "images" / "00000_left.jpg").unlink()
    (tmp_path / "images" / "00000_left.jpg").symlink_to(tmp_path / "secret.jpg")
    table, ledger = ingested(manifest, images=[tmp_path / "images", tmp_path / "second"])
    assert len(table) == 3
    assert ledger["rule"].tolist() == ["path-outside"]


def test_a_file_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    images = tmp_path / "images"
    draw_photograph(images / "good.jpg", 1)
    try:
        (images / "good.jpg").rename(os.fsdecode(os.fsencode(str(images)) + b"/bad\xff.jpg"))
    except OSError:
        pytest.skip("this file system takes Unicode names alone")
    draw_photograph(images / "good.jpg", 2)
    ingest_archive(images, out=tmp_path / "cohort", workers=1)
    read = read_cohort(tmp_path / "cohort")
    assert read.table["image_id"].tolist() == ["good"]
    assert read.ledger()["rule"].tolist() == ["path-unreadable"]


def test_a_manifest_that_is_mostly_refused_says_so_loudly(archive: Archive, tmp_path: Path) -> None:
    rows = people(5)
    for row in rows[:8]:
        row["patient_id"] = ""
    about = ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    assert "8 of 10 rows were refused (80 %): patient-missing 8" in about["warnings"]
    for row in rows:
        row["patient_id"] = "NA"
    with pytest.raises(UserError, match=r"no row is left after cleaning \(patient-missing 10\)"):
        ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "other", workers=1)


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "curate", "ingest", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)


def test_check_shows_what_would_happen_and_writes_nothing(archive: Archive, tmp_path: Path) -> None:
    rows = people(6)
    for row in rows[:2]:
        row["age"], row["sex"] = "90+", "F"
    rows[2]["patient_id"] = ""
    for row in rows:
        row["Surname"] = "Doe"
    archive(rows)
    done = run("manifest.csv", "--images", "images", "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        "would make 11 images of 6 patients (12 rows, 1 refused, 4 values changed)",
        "age-top-coded        2  age         90+     90",
        "patient-missing      4  patient_id  -       -",
        "Surname  its name",
        "check: nothing was written; the cohort can be made",
    ):
        assert words in done.stdout
    assert "Doe" not in done.stdout + done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "manifest.csv"]


def test_a_check_goes_on_beside_another_cohort_and_says_that_it_is_there(archive: Archive, tmp_path: Path) -> None:
    archive(people(6))
    assert run("manifest.csv", "--images", "images", "--workers", "1", cwd=tmp_path).returncode == 0
    before = (tmp_path / "cohort" / "cohort.json").read_bytes()
    done = run("manifest.csv", "--images", "images", "--check", "--max-bad", "0.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "check: nothing was written; the cohort can be made" in done.stdout
    assert "note: cohort: was made with another specification" in done.stderr
    assert (tmp_path / "cohort" / "cohort.json").read_bytes() == before
    assert run("manifest.csv", "--images", "images", "--max-bad", "0.5", cwd=tmp_path).returncode == 2


def test_check_finds_everything_that_stands_in_the_way_at_once(archive: Archive, tmp_path: Path) -> None:
    rows = [{**row, "sex": "12"[i % 2], "exam_date": "03/04/2020", "age": "abc", "eye": "12"[i % 2]} for i, row in enumerate(people(6))]
    archive(rows)
    for image in sorted((tmp_path / "images").iterdir())[:2]:
        image.write_text("not an image")
    done = run("manifest.csv", "--images", "images", "--check", "--map", "site=Klinik", cwd=tmp_path)
    assert done.returncode == 2
    problems = [line for line in done.stdout.splitlines() if line.startswith("problem: ")]
    for part in (
        "no column 'Klinik'",
        "codes laterality in numbers",
        "not an ISO date",
        "does not hold ages",
        "codes sex in numbers",
        "--max-bad",
    ):
        assert [p for p in problems if part in p], part
    assert len(problems) == 6
    assert done.stderr.splitlines()[-1].startswith("error: no cohort can be made: 6 problem(s); first: the manifest has no column 'Klinik'")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "manifest.csv"]
    done = run("manifest.csv", "--images", "images", "--map", "site=Klinik", cwd=tmp_path)
    assert done.returncode == 2
    assert "(and 4 more: --check shows all)" in done.stderr


def test_the_page_lists_every_rule_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/how-to/clean-a-table.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", page.split("## The rules")[1], re.MULTILINE))
    assert {rule: text[0].lower() + text[1:] for rule, text in listed.items()} == RULES
