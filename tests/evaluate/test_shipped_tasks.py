"""The task files that come with evenfooting: each is evaluated on a cohort made as it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_models import describe_tiny, tiny_loader
from typer.testing import CliRunner

from evaluate.cli import app
from evaluate.labels import class_indices
from evaluate.run import evaluate_models
from evaluate.task import read_task, shipped_tasks

DR = ["anodr", "bmilddr", "cmoderatedr", "dseveredr", "eproliferativedr"]
PUBLIC = {
    "aptos2019": DR,
    "messidor2": DR,
    "idrid": ["anoDR", "bmildDR", "cmoderateDR", "dsevereDR", "eproDR"],
    "glaucoma_fundus": ["anormal_control", "bearly_glaucoma", "cadvanced_glaucoma"],
    "retina": ["anormal", "bcataract", "cglaucoma", "ddretina_disease"],
    "jsiec": [f"{k}.{m}.Finding-{k}" for k in range(13) for m in range(3)],
}


def write_folders(folder: Path, classes: list[str]) -> None:
    """Write train/CLASS/, val/CLASS/ and test/CLASS/ with two small photographs each, brighter from class to class."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(2):
                pixels = rng.normal(60 + 120 * number / len(classes), 25, (40, 40, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{split}_{number}_{i}.png")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_set_is_evaluated_from_its_folders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.ingest import ingest_archive

    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "set", PUBLIC[name])
    path = shipped_tasks()[name]
    ingest_archive("set", out=tmp_path / "cohort", workers=1)
    out = evaluate_models(
        {"A": "stub-1"}, [read_task(path)], cohort=tmp_path / "cohort", shards=tmp_path, out=tmp_path / "evaluation", adapt=["knn"],
        changes=["knn.neighbours=1,5"], replicates=100, workers=1, loader=tiny_loader, describe=describe_tiny,
    )  # fmt: skip
    about = json.loads((out / "evaluation.json").read_text())
    (task,) = about["tasks"]
    assert task["name"] == name
    assert len(task["classes"]) == len(PUBLIC[name])
    assert task["left_out"] == {}
    for split in ("train", "val", "test"):
        assert set(task["counts"][split]["classes"].values()) == {2}
    assert any(note.startswith("patients are unknown: each image counts as a patient") for note in about["notes"])
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert predictions["image_id"].str.contains("val_").eq(predictions["split"] == "val").all()


def test_the_templates_fit_the_columns_that_they_name() -> None:
    for name, column in (("dr-grading", "dr_grade"), ("macular-oedema", "macular_oedema")):
        task = read_task(shipped_tasks()[name])
        labels, _ = class_indices(task, pd.DataFrame({column: [0.0, 1.0, None]}), "cohort")
        assert labels.tolist()[:2] == [0, 1]
    event = read_task(shipped_tasks()["event-within-3-years"])
    people = pd.DataFrame({"years_to_event": [0.0, 3.0, 3.1, None, None, -1.0], "years_followed": [5.0, 3.0, 9.0, 3.0, 2.9, 4.0]})
    labels, left_out = class_indices(event, people, "cohort")
    assert labels.tolist()[:4] == [1, 1, 0, 0]
    assert list(event.classes) == ["no event", "event"]
    assert left_out == {"no rule fits": 2}


def test_every_shipped_task_is_named_as_its_file_and_listed() -> None:
    assert set(shipped_tasks()) == {*PUBLIC, "dr-grading", "macular-oedema", "event-within-3-years"}
    for name, path in shipped_tasks().items():
        assert read_task(path).name == name
    shown = CliRunner().invoke(app, ["tasks"])
    assert shown.exit_code == 0
    for name in shipped_tasks():
        assert name in shown.output
