"""docs/start.md and docs/notebooks: what they tell the reader to do is done, from the first command to the last, on a small archive."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from commands_of_docs import ROOT, Command, blocks, commands, generator

PAGE = ROOT / "docs" / "start.md"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def steps() -> list[tuple[Command, list[str]]]:
    """List the commands of the marked blocks, each with the smaller sizes that its marker gives for here."""
    return [(command, shlex.split(block.run)) for block in blocks(PAGE) if block.run is not None for command in commands(block)]


def smaller(words: list[str], sizes: list[str]) -> list[str]:
    """Put options in the place of those that the page gives, or add them."""
    words = list(words)
    for option, value in zip(sizes[::2], sizes[1::2], strict=True):
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every marked command has been run, in the page's order."""
    folder = tmp_path_factory.mktemp("start")
    for command, sizes in steps():
        words = smaller(list(command.words), sizes)
        ran = subprocess.run([sys.executable, "-m", *words], cwd=folder, check=False, capture_output=True, text=True)
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
    return folder


def test_every_command_of_the_page_but_the_plan_is_run() -> None:
    written = [command for block in blocks(PAGE) for command in commands(block)]
    left_out = [command.words for command in written if command not in [step for step, _ in steps()]]
    assert left_out == [("pretrain", "plan", "shards/", "--recipe", "mae-vit-large")]  # builds a model of 300 million weights
    assert len(steps()) > 10


def test_the_page_ends_with_a_card(done: Path) -> None:
    assert "the people do not exist" in (done / "card" / "card.html").read_text(encoding="utf-8")
    assert (done / "card" / "card.yaml").exists()


def test_both_sets_are_of_one_size_and_leave_the_same_people_out(done: Path) -> None:
    balanced, found = (json.loads((done / name / "sample.json").read_text()) for name in ("shards", "shards-as-found"))
    assert balanced["images"] == found["images"]
    held = [pq.read_table(done / name / "private/holdout.parquet").to_pylist() for name in ("shards", "shards-as-found")]
    assert held[0] == held[1]


FOLDERS = {"cohort/": "cohort", "shards/": "shards", "runs/NAME/": "runs/balanced", "evaluation/": "evaluation"}


def test_the_reference_has_the_columns_and_types_of_the_artefacts(done: Path) -> None:
    for one in generator().artefacts():
        for file, about in one.get("tables", {}).items():
            schema = pq.read_schema(done / FOLDERS[one["folder"]] / file)
            told = {column: said[0] for column, said in about["columns"].items()}
            there = {field.name: str(field.type).removeprefix("large_") for field in schema}
            assert {column: there.get(column) for column in told} == told, file
            if file not in ("cohort.parquet", "predictions.parquet"):  # which go on with columns of the table, the task
                assert list(there) == list(told), file


def test_the_reference_has_the_fields_of_the_artefacts(done: Path) -> None:
    for one in generator().artefacts():
        for file, fields in one["json"].items():
            assert set(json.loads((done / FOLDERS[one["folder"]] / file).read_text())) == set(fields), file


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(notebook: Path, tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells
    # The last line of a cell is what a notebook shows.
    shown = "\n".join("".join(cell["source"]).rstrip() + "\n" for cell in cells)
    script = tmp_path / "cells.py"
    script.write_text(
        f"if __name__ == '__main__':\n{_indented(shown)}\n    assert estimates['value'].between(0, 1).any()\n", encoding="utf-8"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
