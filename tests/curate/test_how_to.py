"""The how-to pages for ingest: every command in them runs and prints what the page says."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import sqlite3
import sys
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from archives import draw_photograph, people
from curate.cli import app
from curate.command import run
from forms import as_dicom, as_excel, as_json_lines, as_parquet, data_set, dataset_of, fill, save_dicom

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
NEEDS = {"hf:OWNER": "the network", "db.hospital.example": "a server"}


def examples() -> list[tuple[str, str, str]]:
    """List (page, command, what it prints)."""
    found = []
    for page in sorted(PAGES.glob("ingest-*.md")):
        for block in re.findall(r"```\n\$ (curate ingest .*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            command, _, printed = block.partition("\n")
            found.append((page.stem, command, printed.strip()))
    return found


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the pages name, in one folder."""
    folder, rows = tmp_path_factory.mktemp("clinic"), people(60)
    for number, row in enumerate(rows):
        draw_photograph(folder / "photographs" / row["image_file"], number)

    def as_csv(name: str, chosen: list[dict[str, str]], **form: str) -> None:
        with open(folder / name, "w", newline="", encoding=form.get("encoding", "utf-8")) as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=form.get("delimiter", ","))
            writer.writeheader()
            writer.writerows(chosen)

    as_csv("patients.csv", rows)
    as_csv("export.csv", [{**row, "hospital": "München"} for row in rows], delimiter=";", encoding="cp1252")
    for side in ("left", "right"):
        as_csv(f"{side}.csv", [row for row in rows if row["eye"] == side])
    as_parquet(rows, folder / "patients.parquet")
    as_json_lines(rows, folder / "patients.jsonl")
    as_excel(rows, folder / "patients.xlsx")
    book = openpyxl.load_workbook(folder / "patients.xlsx")
    book.worksheets[0].title, book.worksheets[1].title = "images", "staff"
    book["staff"].append(["name", "room"])
    book.save(folder / "patients.xlsx")
    connection = sqlite3.connect(folder / "clinic.db")
    fill(connection.execute, rows, date="TEXT")
    connection.commit()
    connection.close()
    duckdb = pytest.importorskip("duckdb").connect(str(folder / "clinic.duckdb"))
    fill(duckdb.execute, rows)
    duckdb.close()
    dataset = dataset_of(rows, folder / "photographs")
    dataset.save_to_disk(str(folder / "fundus-saved"))
    (folder / "fundus-parquet").mkdir()
    dataset.select(range(100)).to_parquet(str(folder / "fundus-parquet" / "train-00000-of-00001.parquet"))
    dataset.select(range(100, 120)).to_parquet(str(folder / "fundus-parquet" / "test-00000-of-00001.parquet"))
    shutil.copytree(folder / "photographs", folder / "imagefolder")
    pd.DataFrame(rows).rename(columns={"image_file": "file_name"}).to_csv(folder / "imagefolder" / "metadata.csv", index=False)
    as_dicom(rows, folder / "photographs", folder / "dicom")
    report = data_set(None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    del report.Rows, report.Columns
    save_dicom(report, folder / "dicom" / "report")
    save_dicom(data_set(None, SOPClassUID="1.2.840.10008.1.3.10"), folder / "dicom" / "DICOMDIR")
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("page", "command", "printed"), examples())
def test_a_page_says_what_its_command_prints(
    clinic: Path, page: str, command: str, printed: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for sign, needed in NEEDS.items():
        if sign in command:
            pytest.skip(f"needs {needed}")
    monkeypatch.chdir(clinic)
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), "--workers", "1"])
    shutil.rmtree(clinic / "cohort", ignore_errors=True)
    capfd.readouterr()
    with pytest.raises(SystemExit) as left:
        run(app, "curate")
    said = capfd.readouterr()
    assert left.value.code == (2 if printed.startswith("error: ") else 0), said.err
    assert sorted((said.out + said.err).split("\n")) == sorted(["", *printed.split("\n")])
