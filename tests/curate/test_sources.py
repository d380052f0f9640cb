"""Sources: the same archive in any form gives the same cohort, and what can't be read is refused in one line."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import sys
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archives import draw_photograph, people
from commands import run
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.manifest import read_source
from forms import as_excel, as_json_lines, as_parquet, dataset_of

Archive = Callable[..., Path]
COMPARED = ["image_id", "patient_id", "laterality", "acquired_on", "age", "sex", "ethnicity", "device", "site", "sha256"]


def cohort_of(*manifest: Path | str, out: Path, **options: Any) -> pd.DataFrame:
    ingest_archive(manifest, out=out, workers=1, **options)
    return read_cohort(out).table[COMPARED]


def rows_of(path: Path | str, **options: Any) -> list[dict[str, str]]:
    return read_source(path, **options).table.to_dict("records")


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# --- every kind of table gives what the CSV gives ---


def as_json_array(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text(json.dumps(rows, indent=1))


def as_gzip(rows: list[dict[str, Any]], path: Path) -> None:
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def as_semicolons(rows: list[dict[str, Any]], path: Path) -> None:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    path.write_bytes(("sep=;\r\n" + "".join(";".join(line) + "\r\n" for line in lines)).encode("utf-16"))


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("table.xlsx", as_excel),
        ("table.parquet", as_parquet),
        ("table.jsonl", as_json_lines),
        ("table.ndjson.gz", as_json_lines),
        ("table.json", as_json_array),
        ("table.csv.gz", as_gzip),
        ("table.csv", as_semicolons),
    ],
)
def test_every_kind_of_table_gives_the_cohort_that_its_csv_gives(
    archive: Archive, tmp_path: Path, name: str, convert: Callable[[list[dict[str, Any]], Path], None]
) -> None:
    rows = people(6)
    manifest = archive(rows)
    expected = cohort_of(manifest, images=[tmp_path / "images"], out=tmp_path / "from-csv")
    convert(rows, tmp_path / name)
    found = cohort_of(tmp_path / name, images=[tmp_path / "images"], out=tmp_path / "cohort")
    pd.testing.assert_frame_equal(found, expected)
    assert read_cohort(tmp_path / "cohort").ledger().empty


def test_the_command_line_reads_a_workbook_and_samples_from_it(archive: Archive, tmp_path: Path) -> None:
    rows = people(8)
    archive(rows)
    as_excel(rows, tmp_path / "table.xlsx")
    said = run("curate", "ingest", "table.xlsx", "--images", "images", cwd=tmp_path)
    assert "16 images of 8 patients (16 rows, 0 refused, 0 values changed)" in said
    said = run("curate", "sample", "--balance", "sex", "--holdout", "0", "--quality", "any", "--size", "0", cwd=tmp_path)
    assert "shards: " in said


# --- text ---


def test_a_text_table_is_read_whatever_separates_its_values(tmp_path: Path) -> None:
    expected = [{"file": "a.jpg", "note": "x,y"}, {"file": "b.jpg", "note": ""}]
    assert rows_of(write(tmp_path / "a.csv", 'file,note\na.jpg,"x,y"\nb.jpg,\n')) == expected
    assert rows_of(write(tmp_path / "b.csv", "file;note\r\na.jpg;x,y\r\nb.jpg;\r\n")) == expected
    assert rows_of(write(tmp_path / "c.csv", "file\tnote\na.jpg\tx,y\nb.jpg\t\n")) == expected
    assert rows_of(write(tmp_path / "d.txt", "file|note\na.jpg|x,y\nb.jpg|\n")) == expected
    assert rows_of(write(tmp_path / "e.csv", 'sep=;\nfile;note\na.jpg;"x,y"\nb.jpg;\n')) == expected


def test_what_separates_the_values_is_said_where_it_is_unusual(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_source(write(tmp_path / "a.csv", 'file;"age, in years"\na.jpg;50\n'))
    assert capsys.readouterr().err.endswith("a.csv: columns are separated by semicolons\n")
    read_source(write(tmp_path / "b.csv", "file,age\na.jpg,50\n"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path = write(tmp_path / "a.csv", mark + "file,site\na.jpg,München\n", encoding)
    assert rows_of(path) == [{"file": "a.jpg", "site": "München"}]


def test_quoted_line_ends_stay_and_blank_rows_count_but_are_left_out(tmp_path: Path) -> None:
    table = read_source(write(tmp_path / "a.csv", 'file,note\na.jpg,"one\ntwo"\n\n,\nb.jpg,""""\n')).table
    assert table["note"].tolist() == ["one\ntwo", '"']
    assert table.index.tolist() == [2, 5]


def test_a_header_cell_may_hold_a_line_end(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.csv", 'file,"age\nin years"\na.jpg,50\n')) == [{"file": "a.jpg", "age in years": "50"}]


def test_an_unnamed_column_is_left_out_where_it_is_empty_and_numbered_where_not(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.csv", "file,,\na.jpg,,7\n")) == [{"file": "a.jpg", "column 3": "7"}]


def test_rows_above_the_header_are_skipped_and_give_names_where_it_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "Export of the eye clinic,,\nID,Person,\n,Age,Sex\n#002,47,0\n")
    table = read_source(path, skip_rows=2).table
    assert table.to_dict("records") == [{"ID": "#002", "Age": "47", "Sex": "0"}]
    assert table.index.tolist() == [4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty"),
        (b"\n\n", r"is empty|no header"),
        (b"file,age\n", r"holds no rows"),
        (b"file,age\na.jpg,1\nb.jpg\n", r"row 3 has 1 fields, the header has 2"),
        (b'file,age\na.jpg,1\n"b.jpg,2\n', r"row 3: not a table \(unexpected end of data\)"),
        (b'file,age\na.jpg,1\n"b"x,2\n', r"row 3: not a table"),
        (b"file,age\na.jpg,\x001\n", r"line 2 holds NUL characters"),
        (b"file,age\na.jpg,\xff\n", r"not utf-8 .* --encoding cp1252"),
        (b"file,file\na.jpg,b\n", r"two columns are called 'file'"),
    ],
)
def test_a_broken_text_table_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_source(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}: ")


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(b"file,age\n" + b"".join(b"%d.jpg,%d\n" % (i, i * 7919) for i in range(1000)))
    lines = gzip.compress(b"".join(b'{"file": "%d.jpg", "age": %d}\n' % (i, i * 7919) for i in range(1000)))
    for name, content in {"short.csv.gz": packed[:-100], "plain.csv.gz": b"file,age\na.jpg,1\n", "short.jsonl.gz": lines[:-100]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be unpacked"):
            read_source(tmp_path / name)


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--encoding latin-99: no such encoding"):
        read_source(write(tmp_path / "a.csv", "file,age\na.jpg,1\n"), encoding="latin-99")


def test_a_long_table_keeps_every_row_and_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "file,age\n" + "".join(f"{i:06d},{i % 90}\n" for i in range(120_000)))
    table = read_source(path).table
    assert table["file"].tolist() == [f"{i:06d}" for i in range(120_000)]
    assert table.index.tolist() == list(range(2, 120_002))


# --- Excel ---


def workbook(path: Path, **sheets: list[list[Any]]) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook_keeps_ids_dates_and_whole_numbers(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["file", "id", "number", "when", "moment", "share", "yes", "count"])
    sheet.append(["a.jpg", "007", 7, date(2020, 3, 15), datetime(2020, 3, 15, 10, 30), 0.1 + 0.2, True, 12.0])
    sheet["C2"].number_format = "00000"
    book.save(tmp_path / "a.xlsx")
    assert rows_of(tmp_path / "a.xlsx") == [
        {
            "file": "a.jpg", "id": "007", "number": "00007", "when": "2020-03-15", "moment": "2020-03-15T10:30:00",
            "share": "0.3", "yes": "True", "count": "12",
        }
    ]  # fmt: skip


def test_one_of_several_sheets_must_be_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", right=[["file"], ["r.jpg"]], left=[["file"], ["l.jpg"]], empty=[])
    with pytest.raises(UserError, match=r"has 2 sheets; choose one with --sheet NAME: 'right', 'left'$"):
        read_source(path)
    assert rows_of(path, sheet="left") == [{"file": "l.jpg"}]
    with pytest.raises(UserError, match=r"has no sheet 'lefft'; did you mean 'left'\?"):
        read_source(path, sheet="lefft")


def test_a_doubled_header_and_blank_rows_of_a_workbook(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "a.xlsx",
        data=[
            ["ID", None, "Defect", None],
            [None, "Age", "first", "second"],
            ["#002", 47, 0.75, -1.25],
            [None] * 4,
            ["#004", 58, 1, 2],
        ],
    )
    table = read_source(path, skip_rows=1).table
    assert list(table.columns) == ["ID", "Age", "first", "second"]
    assert table["second"].tolist() == ["-1.25", "2"]
    assert table.index.tolist() == [3, 5]


def test_a_formula_without_a_stored_result_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", data=[["file", "age"], ["a.jpg", "=2020-1970"]])
    with pytest.raises(UserError, match="cell B2 of sheet 'data' is a formula without a stored result"):
        read_source(path)


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read as an Excel workbook .* save it as \.xlsx or \.csv"):
        read_source(write(tmp_path / "a.xlsx", "file,age\n"))
    with pytest.raises(UserError, match=r"save it as \.xlsx or \.csv"):
        read_source(write(tmp_path / "a.xls", "anything"))


# --- Parquet and JSON ---


def test_a_parquet_table_of_every_type_becomes_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(
        pa.table(
            {
                "file": pa.array([b"a.jpg", b"b.jpg"]),
                "id": pa.array(["007", None]).dictionary_encode(),
                "age": pa.array([63.0, None]),
                "share": pa.array([0.1, float("nan")], pa.float32()),
                "when": pa.array([datetime(2020, 3, 15), None]),
                "big": pa.array([2**62 + 1, 0]),
                "flag": pa.array([True, None]),
                "none": pa.nulls(2),
                "list": pa.array([[1], [2, 3]]),
            }
        ),
        tmp_path / "a.parquet",
    )
    expected = [
        {
            "file": "a.jpg",
            "id": "007",
            "age": "63",
            "share": "0.1",
            "when": "2020-03-15",
            "big": str(2**62 + 1),
            "flag": "True",
            "none": "",
        },
        {"file": "b.jpg", "id": "", "age": "", "share": "", "when": "", "big": "0", "flag": "", "none": ""},
    ]
    assert rows_of(tmp_path / "a.parquet") == expected
    assert "column 'list' holds nested values and is left out" in capsys.readouterr().err


def test_a_named_index_of_a_data_frame_is_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"file": ["a.jpg"]}, index=pd.Index(["007"], name="patient_id")).to_parquet(tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [{"file": "a.jpg", "patient_id": "007"}]


def test_keys_of_json_lines_may_turn_up_late_and_numbers_stay_as_written(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        '{"file": "a.jpg", "age": 63.50}\n\n{"id": 12345678901234567, "file": "b.jpg", "well": true, "age": null}\n',
    )
    table = read_source(path).table
    assert table.to_dict("records") == [
        {"file": "a.jpg", "age": "63.50", "id": "", "well": ""},
        {"file": "b.jpg", "age": "", "id": "12345678901234567", "well": "True"},
    ]
    assert table.index.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file": "a.jpg"}\n{"file": {"name": "b.jpg"}}\n', r"line 2: 'file' holds nested values"),
        ('{"file": "a.jpg"}\n["b.jpg"]\n', r"line 2: not an object"),
        ('{"file": "a.jpg"}\n{"file": \n', r"line 2: not JSON \(Expecting value"),
        ('{"file": "a.jpg", "file": "b.jpg"}\n', r"line 1: has 'file' twice"),
        ("[" * 100_000, r"nested too deeply|not JSON"),
        ('{"file": "\\ud800"}\n', r"not Unicode text"),
        ('[{"file": "a.jpg"},]', r"not JSON"),
    ],
)
def test_broken_json_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_source(write(tmp_path / "a.json", text))
    assert "\n" not in str(caught.value)


# --- several files ---


def test_several_files_are_stacked_and_say_which_row_came_from_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = workbook(tmp_path / "od.xlsx", data=[["file", "age"], ["1r.jpg", 47], [None, None], ["2r.jpg", 58]])
    left = write(tmp_path / "os.csv", "age,file,note\n47,1l.jpg,x\n")
    source = read_source([right, left])
    assert source.table.to_dict("records") == [
        {"file": "1r.jpg", "age": "47", "manifest_file": "od", "note": ""},
        {"file": "2r.jpg", "age": "58", "manifest_file": "od", "note": ""},
        {"file": "1l.jpg", "age": "47", "manifest_file": "os", "note": "x"},
    ]
    assert source.table.index.tolist() == [2, 4, 5]
    assert source.rows == {"od.xlsx": (2, 4), "os.csv": (5, 5)}
    assert set(source.inputs) == {"od.xlsx", "os.csv"}
    assert "os.csv: rows 5 to 5 of the ledger" in capsys.readouterr().err


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for site in ("north", "south"):
        (tmp_path / site).mkdir()
        write(tmp_path / site / "table.csv", f"file,age\n{site}.jpg,50\n")
    source = read_source([tmp_path / "north" / "table.csv", tmp_path / "south" / "table.csv"])
    assert source.table["manifest_file"].tolist() == ["north/table", "south/table"]
    assert source.folder is None
    with pytest.raises(UserError, match="say where its images are, with --images FOLDER"):
        ingest_archive([tmp_path / "north" / "table.csv", tmp_path / "south" / "table.csv"], out=tmp_path / "cohort")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv", "file,age\na.jpg,50\n"), write(tmp_path / "b.csv", "x,y\n1,2\n")
    with pytest.raises(UserError, match=r"b\.csv: has none of the columns of .*a\.csv"):
        read_source([first, second])
    with pytest.raises(UserError, match="given twice"):
        read_source([first, first])
    draw_photograph(tmp_path / "images" / "a.jpg", 1)
    with pytest.raises(UserError, match="only tables in files can be read several at a time"):
        read_source([first, tmp_path / "images"])


def test_two_eyes_in_two_files_give_the_cohort_of_one_table(archive: Archive, tmp_path: Path) -> None:
    rows = people(6)
    manifest = archive(rows)
    expected = cohort_of(manifest, images=[tmp_path / "images"], out=tmp_path / "from-csv")
    for side in ("left", "right"):
        as_gzip([row for row in rows if row["eye"] == side], tmp_path / f"{side}.csv.gz")
    said = run("curate", "ingest", "left.csv.gz", "right.csv.gz", "--images", "images", cwd=tmp_path)
    assert "12 images of 6 patients" in said
    pd.testing.assert_frame_equal(read_cohort(tmp_path / "cohort").table[COMPARED], expected)
    rows_of_files = json.loads((tmp_path / "cohort" / "cohort.json").read_text())["made_by"]["specification"]["source"]["rows"]
    assert rows_of_files == {"left.csv.gz": [2, 7], "right.csv.gz": [8, 13]}


# --- which kind it is ---


def test_an_option_of_another_kind_of_input_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "file,age\na.jpg,1\n")
    for options, option in (({"sheet": "x"}, "--sheet"), ({"split": "x"}, "--split"), ({"query": "x"}, "--query")):
        with pytest.raises(UserError, match=f"{option} belongs to"):
            read_source(path, **options)
    with pytest.raises(UserError, match="--encoding belongs to text files"):
        read_source(workbook(tmp_path / "a.xlsx", data=[["file"], ["a.jpg"]]), encoding="cp1252")


def test_a_file_of_no_known_kind_is_refused_with_the_kinds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a manifest is a table \(\.csv, .* or a database"):
        read_source(write(tmp_path / "notes.docx", "x"))
    with pytest.raises(UserError, match="no such file or folder"):
        read_source(tmp_path / "absent.csv")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="no images in it"):
        read_source(tmp_path / "nothing")


def test_a_folder_of_two_kinds_asks_which(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    draw_photograph(folder / "a.jpg", 1)
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(100))
    with pytest.raises(UserError, match=rf"holds 1 images, 1 DICOM files .* images:{folder} or dicom:{folder}"):
        read_source(folder)
    assert rows_of(f"images:{folder}") == [{"path": "a.jpg"}]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_not_utf8_go_to_the_ledger(tmp_path: Path) -> None:
    for number in range(3):
        draw_photograph(tmp_path / "images" / f"{number}\n.jpg", number)
    os.rename(tmp_path / "images" / "0\n.jpg", os.fsencode(tmp_path / "images") + b"/\xff.jpg")
    ingest_archive(tmp_path / "images", out=tmp_path / "cohort", max_bad=0.5, workers=1)
    cohort = read_cohort(tmp_path / "cohort")
    assert cohort.table["path"].tolist() == ["1\n.jpg", "2\n.jpg"]
    assert cohort.ledger()[["before", "rule"]].to_numpy().tolist() == [["%FF.jpg", "path-unreadable"]]


# --- Hugging Face datasets ---


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("form", ["saved", "parquet", "imagefolder"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_dataset_gives_the_cohort_that_its_csv_gives(archive: Archive, tmp_path: Path, form: str, workers: int) -> None:
    rows = people(6)
    manifest = archive(rows)
    expected = cohort_of(manifest, images=[tmp_path / "images"], out=tmp_path / "from-csv")
    folder = tmp_path / "dataset"
    if form == "saved":
        dataset_of(rows, tmp_path / "images").save_to_disk(str(folder), num_shards=2)
    elif form == "parquet":
        (folder / "data").mkdir(parents=True)
        dataset_of(rows, tmp_path / "images").to_parquet(str(folder / "data" / "train.parquet"), batch_size=5)
    else:
        (tmp_path / "images").rename(folder)
        pd.DataFrame(rows).rename(columns={"image_file": "file_name"}).to_csv(folder / "metadata.csv", index=False)
    ingest_archive(folder, out=tmp_path / "cohort", workers=workers)
    cohort = read_cohort(tmp_path / "cohort")
    pd.testing.assert_frame_equal(cohort.table[COMPARED], expected)  # the SHA-256 too: bytes are as they were
    assert cohort.ledger().empty
    assert all((cohort.images / path).is_file() for path in cohort.table["path"])
    assert not list((tmp_path / "cohort").rglob("*.tmp"))


def test_one_of_several_splits_must_be_named(archive: Archive, tmp_path: Path) -> None:
    import datasets

    rows = people(3)
    archive(rows)
    whole = dataset_of(rows, tmp_path / "images")
    datasets.DatasetDict({"train": whole.select(range(4)), "test": whole.select(range(4, 6))}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(UserError, match=r"has 2 splits; choose with --split NAME or --split all: train, test"):
        read_source(tmp_path / "saved")
    with pytest.raises(UserError, match=r"has no split 'trian'; did you mean 'train'\?"):
        read_source(tmp_path / "saved", split="trian")
    assert len(read_source(tmp_path / "saved", split="test").table) == 2
    both = read_source(tmp_path / "saved", split="all").table
    assert both["split"].tolist() == ["train"] * 4 + ["test"] * 2


def test_metadata_in_the_folder_of_each_split(tmp_path: Path) -> None:
    for number, split in enumerate(["train", "train", "test"]):
        draw_photograph(tmp_path / "set" / split / f"{number}.jpg", number)
    write(tmp_path / "set" / "train" / "metadata.csv", "file_name,patient_id\n0.jpg,000\n1.jpg,001\n")
    write(tmp_path / "set" / "test" / "metadata.jsonl", '{"file_name": "2.jpg", "patient_id": "002"}\n')
    table = read_source(tmp_path / "set", split="all").table
    assert sorted(table["file_name"]) == ["test/2.jpg", "train/0.jpg", "train/1.jpg"]
    assert set(table["patient_id"]) == {"000", "001", "002"}
    assert read_source(tmp_path / "set", split="test").table["file_name"].tolist() == ["test/2.jpg"]


def test_images_without_names_are_called_by_an_id_or_by_their_row(tmp_path: Path) -> None:
    import datasets

    draw_photograph(tmp_path / "a.jpg", 1)
    draw_photograph(tmp_path / "b.jpg", 2)
    features = datasets.Features({"image": datasets.Image(), "id": datasets.Value("string"), "patient_id": datasets.Value("string")})
    rows = [
        {"image": {"bytes": (tmp_path / name).read_bytes(), "path": None}, "id": f"eye/{name[0]}", "patient_id": name}
        for name in ("a.jpg", "b.jpg")
    ]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "with-id"))
    assert read_source(tmp_path / "with-id").table["image"].tolist() == ["a.jpg", "b.jpg"]
    datasets.Dataset.from_list(rows, features=features).remove_columns("id").save_to_disk(str(tmp_path / "without"))
    assert read_source(tmp_path / "without").table["image"].tolist() == ["00000000.jpg", "00000001.jpg"]


def test_one_of_several_columns_of_images_must_be_mapped(tmp_path: Path) -> None:
    import datasets

    draw_photograph(tmp_path / "a.jpg", 1)
    image = {"bytes": (tmp_path / "a.jpg").read_bytes(), "path": "a.jpg"}
    features = datasets.Features({"fundus": datasets.Image(), "mask": datasets.Image(), "patient_id": datasets.Value("string")})
    rows = [{"fundus": image, "mask": image, "patient_id": "1"}]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(UserError, match="has 2 columns of images; choose one with --map path=COLUMN: fundus, mask"):
        ingest_archive(tmp_path / "saved", out=tmp_path / "cohort", workers=1)
    ingest_archive(tmp_path / "saved", out=tmp_path / "cohort", column_map=["path=fundus"], workers=1)
    assert read_cohort(tmp_path / "cohort").table["path"].tolist() == ["a.jpg"]


def test_an_image_that_is_named_but_lies_outside_the_dataset_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"\xff\xd8\xff secret")
    (tmp_path / "set").mkdir()
    inside = {"bytes": b"\xff\xd8\xff inside", "path": "a.jpg"}
    outside = {"bytes": None, "path": str(tmp_path / "secret.jpg")}
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array([inside, outside], kind), "patient_id": ["1", "2"]}), tmp_path / "set" / "train.parquet")
    source = read_source(tmp_path / "set")
    assert source.extract is not None
    (tmp_path / "to" / "images").mkdir(parents=True)
    source.extract(tmp_path / "to" / "images", 1)
    assert [p.name for p in (tmp_path / "to" / "images").iterdir()] == ["a.jpg"]


def test_a_killed_extraction_goes_on_where_it_was(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.manifest import huggingface

    monkeypatch.setattr(huggingface, "PART", 4)
    rows = people(6)
    archive(rows)
    dataset_of(rows, tmp_path / "images").save_to_disk(str(tmp_path / "saved"))
    source = read_source(tmp_path / "saved")
    to = tmp_path / "work" / "images"
    to.mkdir(parents=True)
    source.extract(to, 1)  # type: ignore[misc]
    markers = sorted((tmp_path / "work" / "parts").glob("extract-*.done"))
    assert len(markers) == 3
    contents = {p.name: p.read_bytes() for p in to.iterdir()}
    markers[1].unlink()
    for name in sorted(contents)[:8]:  # of two parts: only the part without a marker is written again
        (to / name).unlink()
    source.extract(to, 1)  # type: ignore[misc]
    assert {p.name: p.read_bytes() for p in to.iterdir()} == {n: c for n, c in contents.items() if n not in sorted(contents)[:4]}


def test_a_dataset_of_no_known_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "state.json", "{}")
    with pytest.raises(UserError, match="cannot be read as a Hugging Face dataset") as caught:
        read_source(tmp_path / "set")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["table.csv", "table.xlsx", "table.parquet", "table.jsonl"])
def test_a_damaged_table_is_read_or_refused_in_one_line(archive: Archive, tmp_path: Path, name: str) -> None:
    rows = people(4)
    archive(rows, name="table.csv")
    if name != "table.csv":
        {".xlsx": as_excel, ".parquet": as_parquet, ".jsonl": as_json_lines}[Path(name).suffix](rows, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    rng = random.Random(name)
    messages = []
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 3, 20])):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        (tmp_path / name).write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(1, len(damaged))])])
        try:
            read_source(tmp_path / name)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert not [m for m in messages if "\n" in m]
