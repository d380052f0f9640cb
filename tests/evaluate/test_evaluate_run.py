"""``evaluate run`` from a cohort folder to the finished evaluation folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from grading_task import TASK

from curate import PartDone, UserError, engine, sha256_file, write_json
from evaluate.features import Loader
from evaluate.run import evaluate_models, finished_runs, parse_models
from evaluate.task import read_task

ARCHITECTURE = "vit_tiny_patch16_224"


def tiny_loader(source: str) -> tuple[Any, dict[str, Any]]:
    """Untrained transformers of 8 x 8 patches: the seed is the last character of the source."""
    import timm

    torch.manual_seed(int(source[-1]))
    model = timm.create_model(ARCHITECTURE, img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=0).eval()
    digest = str(int(source[-1])) * 64
    info = {
        "architecture": ARCHITECTURE,
        "sha256": digest,
        "input_size": [3, 32, 32],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "shards_digest": None,
    }
    return model, info


def describe_tiny(source: str) -> dict[str, Any]:
    return tiny_loader(source)[1]


def run(cohort: Path, task: Path, out: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {"shards": out.parent / "shards", "seeds": 2, "replicates": 100, "workers": 1}
    arguments |= {"loader": tiny_loader, "describe": describe_tiny}
    models = changes.pop("models", {"A": "stub-1", "B": "stub-2"})
    return evaluate_models(models, [read_task(task)], cohort=cohort, out=out, **{**arguments, **changes})


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "dr.yaml").write_text(TASK, encoding="utf-8")
    return run(cohort, folder / "dr.yaml", folder / "evaluation")


def test_predictions_hold_val_and_test_of_every_model_and_seed(finished: Path) -> None:
    table = pd.read_parquet(finished / "predictions.parquet")
    assert list(table.columns) == [
        *(
            "task",
            "model",
            "adaptation",
            "seed",
            "split",
            "image_id",
            "patient_id",
            "label",
            "p_0",
            "p_1",
            "p_2",
            "age",
            "sex",
            "ethnicity",
        ),
    ]
    assert set(table["split"]) == {"val", "test"}
    assert table.groupby(["model", "seed"]).size().nunique() == 1
    assert set(table["model"]) == {"A", "B"}
    assert set(table["seed"]) == {0, 1}
    assert set(table["adaptation"]) == {"probe-cached"}
    np.testing.assert_allclose(table[["p_0", "p_1", "p_2"]].sum(axis=1), 1, atol=1e-12)
    assert not table.duplicated(["model", "seed", "image_id"]).any()


def test_no_patient_is_in_two_splits(finished: Path) -> None:
    table = pd.read_parquet(finished / "predictions.parquet")
    assert (table.groupby("patient_id")["split"].nunique() == 1).all()
    counts = json.loads((finished / "evaluation.json").read_text())["tasks"][0]["counts"]
    assert sum(part["patients"] for part in counts.values()) == 60


def test_estimates_cover_everyone_and_every_group_unknown_included(finished: Path) -> None:
    table = pd.read_parquet(finished / "estimates.parquet")
    macro = table[(table["class"] == "macro") & (table["model"] == "A") & (table["metric"] == "auroc")]
    groups = list(zip(macro["attribute"], macro["group"], strict=True))
    assert groups[:4] == [("all", "all"), ("age", "under 40"), ("age", "40 to 70"), ("age", "over 70")]
    assert ("ethnicity", "unknown") in groups
    assert macro.loc[macro["attribute"] == "sex", "n"].sum() == macro["n"].iloc[0]
    assert macro["value"].iloc[0] > 0.6  # brightness tells the grade, and any backbone sees brightness


def test_the_description_names_models_adaptation_and_task(finished: Path) -> None:
    about = json.loads((finished / "evaluation.json").read_text())
    assert [m["name"] for m in about["models"]] == ["A", "B"]
    assert about["models"][0]["sha256"] == "1" * 64
    assert about["adaptations"]["probe-cached"]["seeds_vary"] == "initial weights and order of the batches, nothing else"
    assert about["tasks"][0]["classes"] == ["none", "mild", "severe"]
    assert about["tasks"][0]["counts"]["train"]["classes"] == {"none": 20, "mild": 20, "severe": 20}
    assert [(c["model"], c["adaptation"], c["seed"]) for c in about["chosen"]] == [(m, "probe-cached", s) for m in "AB" for s in (0, 1)]
    assert all(0.5 < c["validation_auroc"] <= 1 and c["rate"] > 0 for c in about["chosen"])


def test_the_comparison_has_both_methods_for_each_group(finished: Path) -> None:
    table = pd.read_parquet(finished / "comparisons.parquet")
    assert (table.groupby(["attribute", "group", "metric", "threshold"]).size() == 2).all()
    assert set(zip(table["model_a"], table["model_b"], strict=True)) == {("A", "B")}


def test_the_same_command_again_does_nothing(finished: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests(finished)
    monkeypatch.setattr("evaluate.cells.extract_features", lambda *a, **k: pytest.fail("features again"))
    run(cohort, finished.parent / "dr.yaml", finished, loader=lambda source: pytest.fail("a model was loaded"))
    assert digests(finished) == before


def test_another_number_of_workers_gives_the_same_bytes(finished: Path, cohort: Path, tmp_path: Path) -> None:
    out = run(cohort, finished.parent / "dr.yaml", tmp_path / "evaluation", workers=2)
    assert digests(out) == digests(finished)


def test_an_array_job_does_the_features_and_a_final_run_gives_the_same_bytes(
    finished: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "evaluation"
    for task in (1, 2):
        with engine(part=(task, 2)), pytest.raises(PartDone):
            run(cohort, finished.parent / "dr.yaml", out)
    monkeypatch.setattr("evaluate.features._extract_part", lambda *_: pytest.fail("features again"))
    run(cohort, finished.parent / "dr.yaml", out)
    assert digests(out) == digests(finished)


@pytest.mark.parametrize("where", ["evaluate.cells.run_parts", "evaluate.run.write_results"])
def test_a_run_that_was_killed_resumes_to_the_same_bytes(
    finished: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def killed(*arguments: Any, **keywords: Any) -> Any:
        raise KeyboardInterrupt

    out = tmp_path / "evaluation"
    with monkeypatch.context() as patch:
        patch.setattr(where, killed)
        with pytest.raises(KeyboardInterrupt):
            run(cohort, finished.parent / "dr.yaml", out)
    assert not out.exists()
    monkeypatch.setattr("evaluate.features._extract_part", killed)  # features are there already
    run(cohort, finished.parent / "dr.yaml", out)
    assert digests(out) == digests(finished)


def test_another_specification_on_the_same_folder_is_refused_with_the_difference(finished: Path, cohort: Path) -> None:
    with pytest.raises(UserError, match=r"adaptations\.probe-cached\.seeds: there 2, asked 3"):
        run(cohort, finished.parent / "dr.yaml", finished, seeds=3)


def test_our_own_predictions_score_to_the_same_estimates(finished: Path, tmp_path: Path) -> None:
    from evaluate.score import score_file

    out = score_file(
        finished / "predictions.parquet",
        scores="p_",
        classes="none,mild,severe",
        out=tmp_path / "scored",
        replicates=100,
        by="age,sex,ethnicity",
    )
    keys = ["model", "attribute", "group", "metric", "threshold", "class"]
    there = pd.read_parquet(out / "estimates.parquet").set_index(keys)
    here = pd.read_parquet(finished / "estimates.parquet").set_index(keys)
    there = there.reindex(here.index[here["n"] > 0])
    numbers = ["value", "low", "high", "se", "n", "n_pos", "n_patients"]
    pd.testing.assert_frame_equal(there[numbers], here.loc[here["n"] > 0, numbers])


def pretrained(folder: Path, cohort_digest: str, keys: pd.DataFrame) -> Path:
    """Write a finished run and the shard set it was trained on."""
    shards = folder / "shards"
    (shards / "private").mkdir(parents=True)
    keys.to_parquet(shards / "private" / "keys.parquet")
    index = pd.DataFrame({"key": ["k"], "shard": ["shard-000000.tar"], "offset": [512], "size": [9], "sha256": ["0"]})
    index.to_parquet(shards / "index.parquet")
    write_json(shards / "sample.json", {"cohort": {"name": "archive", "digest": cohort_digest}})
    run_folder = folder / "runs" / "mae1"
    run_folder.mkdir(parents=True)
    source = {"name": "shards", "digest": sha256_file(shards / "index.parquet"), "path": str(shards)}
    write_json(run_folder / "run.json", {"status": "finished", "shards": source})
    return run_folder


def test_patients_of_the_pre_training_set_are_refused_in_the_test_split(cohort: Path, tmp_path: Path, finished: Path) -> None:
    test = pd.read_parquet(finished / "predictions.parquet").query("split == 'test'")
    keys = test[["image_id", "patient_id"]].drop_duplicates().iloc[:2].assign(key="k")
    folder = pretrained(tmp_path, sha256_file(cohort / "cohort.parquet"), keys)
    with pytest.raises(UserError, match=r"task dr-grade: \d patients \(P\d+.*\) of the test split are in the pre-training set of model A"):
        run(cohort, finished.parent / "dr.yaml", tmp_path / "evaluation", models={"A": str(folder)})
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.parametrize(
    ("digest", "lost", "note"),
    [
        ("own", False, "A: no test patient is in its pre-training set"),
        ("other", False, "A: pre-trained on another cohort (archive); patient ids of two cohorts cannot be compared"),
        ("own", True, "A: its pre-training set (shards) is not at hand, so shared patients were not looked for"),
    ],
)
def test_what_could_be_checked_about_pre_training_is_noted(
    cohort: Path, tmp_path: Path, finished: Path, digest: str, lost: bool, note: str
) -> None:
    keys = pd.DataFrame({"key": ["k"], "image_id": ["elsewhere"], "patient_id": ["someone"]})
    folder = pretrained(tmp_path, sha256_file(cohort / "cohort.parquet") if digest == "own" else digest, keys)
    if lost:
        shutil.rmtree(tmp_path / "shards")
    out = run(cohort, finished.parent / "dr.yaml", tmp_path / "evaluation", models={"A": str(folder)})
    assert note in json.loads((out / "evaluation.json").read_text())["notes"]


def test_a_split_of_one_class_is_refused_before_any_work(cohort: Path, tmp_path: Path, task_file: Callable[[str], Path]) -> None:
    def refuse(source: str) -> Any:
        pytest.fail("a model was loaded")

    path = task_file(TASK.replace("{none: [0], mild: [1], severe: [2]}", "{none: [0], severe: [2]}").replace("split: {train: 0.5, val: 0.25, test: 0.25}", "split: {column: part}"))  # fmt: skip  # noqa: E501
    folder = tmp_path / "cohort"
    shutil.copytree(cohort, folder)
    table = pd.read_parquet(folder / "cohort.parquet")
    number = table["patient_id"].str[1:].astype(int)
    table["part"] = np.where(number < 30, "train", np.where(number < 50, "val", "test"))
    table.loc[(table["part"] == "val") & (table["dr_grade"] == 2), "part"] = None
    table.to_parquet(folder / "cohort.parquet")
    with pytest.raises(UserError, match="images of the split 'val' are of class 'none': nothing to tell apart"):
        run(folder, path, tmp_path / "evaluation", loader=refuse, describe=refuse)


def test_unknown_patients_are_said_to_be_unknown(write_cohort: Callable[..., Path], tmp_path: Path, task_file: Callable[[], Path]) -> None:
    folder = write_cohort(tmp_path / "cohort", patients=30)
    about = json.loads((folder / "cohort.json").read_text())
    write_json(folder / "cohort.json", {**about, "patients_known": False})
    out = run(folder, task_file(), tmp_path / "evaluation", models={"A": "stub-1"})
    assert "patients are unknown" in json.loads((out / "evaluation.json").read_text())["notes"][0]
    table = pd.read_parquet(out / "estimates.parquet")
    assert (table["n"] == table["n_patients"]).all()
    assert len(pd.read_parquet(out / "comparisons.parquet")) == 0


def test_a_missing_subgroup_column_names_the_nearest(cohort: Path, tmp_path: Path, task_file: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="no column 'ethnicty'; did you mean 'ethnicity'"):
        run(cohort, task_file(TASK.replace("ethnicity]", "ethnicty]")), tmp_path / "evaluation")


def test_models_are_named_and_named_once() -> None:
    assert parse_models(["A=runs/a", "base=timm:vit_small_patch16_224"]) == {"A": "runs/a", "base": "timm:vit_small_patch16_224"}
    for options, message in (
        (["runs/a"], "expected NAME=RUN"),
        (["a/b=runs/a"], "expected NAME=RUN"),
        (["A=x", "A=y"], "'A' is given twice"),
    ):
        with pytest.raises(UserError, match=message):
            parse_models(options)


def test_without_models_every_finished_run_is_taken(tmp_path: Path) -> None:
    for name, status in (("b", "finished"), ("a", "finished"), ("c", "running")):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "run.json", {"status": status})
    assert finished_runs(tmp_path) == {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    with pytest.raises(UserError, match="no finished run here"):
        finished_runs(tmp_path / "none")


def test_the_real_loader_serves_untrained_models(cohort: Path, tmp_path: Path) -> None:
    from evaluate.features import load_features_model

    loader: Loader = load_features_model
    backbone, info = loader("random:vit_tiny_patch16_224")
    assert info["input_size"] == [3, 224, 224]
    assert len(info["sha256"]) == 64
    assert not backbone.training
