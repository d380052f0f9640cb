"""Training on photographs: fine-tuning and the paper's linear probe."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from grading_task import TASK
from PIL import Image
from tiny_models import describe_tiny, tiny_loader

from curate import PartDone, UserError, engine, sha256_file
from evaluate.augmentation import Views
from evaluate.classifiers import fit_logistic
from evaluate.features import Model
from evaluate.finetune import ImageCell, _layer_groups, _set_drop_path, _Training, train_cell
from evaluate.heads import Truth, validation_auroc
from evaluate.run import evaluate_models
from evaluate.stored import StoredImages
from evaluate.task import read_task
from evaluate.training import TrainingSettings, stored_shape

QUICK = TrainingSettings(epochs=4, batch=16, rate=2e-3, layer_decay=1.0, drop_path=0.1, augment="none", erase=0.0)
CHANGES = [
    f"{name}.{field}={value}"
    for name in ("finetune", "probe-paper")
    for field, value in (("epochs", 3), ("rate", 2e-3), ("augment", "rand-m3-n1"))
]
SMALL = [*CHANGES, "probe-cached.epochs=10", "logistic.strengths=0.001,0.1"]


class Killed(BaseException):
    """What a killed process would not catch either."""


def make_cell(cohort: Path, folder: Path, **changes: Any) -> ImageCell:
    """A cell on the 120 photographs of the cohort: 60 train, 30 choose, 30 test."""
    table = pd.read_parquet(cohort / "cohort.parquet")
    info = describe_tiny("stub-1")
    folder.mkdir(parents=True, exist_ok=True)
    images = StoredImages(folder / "photographs", [cohort / "images" / path for path in table["path"]], stored_shape(info))
    patient = table["patient_id"].str[1:].astype(int)
    fields: dict[str, Any] = {
        "task": "dr",
        "model": Model("A", "stub-1", info),
        "loader": tiny_loader,
        "images": images,
        "places": np.arange(len(table)),
        "split": np.where(patient < 30, "train", np.where(patient < 45, "val", "test")).astype(object),
        "truth": Truth.of_classes(table["dr_grade"].to_numpy(), 3),
        "settings": QUICK,
        "frozen": False,
        "seed": 0,
        "result": folder / "cell.npy",
        "keep": None,
        "first": 0,
        "threads": 1,
        "talk": False,
    }
    return ImageCell(**{**fields, **changes})


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    """What an uninterrupted fine-tuning gives."""
    cell = make_cell(cohort, tmp_path_factory.mktemp("cell"))
    return train_cell(cell)["chosen"][0], cell.result.read_bytes()


def test_fine_tuning_learns_and_keeps_the_best_epoch(trained: tuple[dict[str, Any], bytes]) -> None:
    chosen, _ = trained
    assert chosen["validation_auroc"] > 0.6  # brightness tells the grade
    assert len(chosen["every_epoch"]) == 4
    assert chosen["validation_auroc"] == max(chosen["every_epoch"])
    assert chosen["epoch"] == 1 + chosen["every_epoch"].index(max(chosen["every_epoch"]))


def test_a_head_that_begins_as_a_probe_gives_what_the_regression_gives_before_anything_is_learned(cohort: Path, tmp_path: Path) -> None:
    cell = make_cell(cohort, tmp_path, settings=dataclasses.replace(QUICK, head="probe"))
    cell.images.fill()
    training = _Training(cell)
    rows = np.arange(len(cell.split))
    features = training._seen_whole(rows, training._features)
    wanted = fit_logistic(features, cell.truth, cell.split == "train", cell.split == "val")
    found = cell.truth.probabilities(training.logits(rows))
    np.testing.assert_allclose(found, wanted.probabilities[0], atol=1e-4)
    assert validation_auroc(training.logits(rows[cell.split == "val"]), cell.truth.of(cell.split == "val")) > 0.6


def test_a_training_that_goes_on_keeps_its_head(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(QUICK, head="probe")
    whole = make_cell(cohort, tmp_path / "whole", settings=settings)
    train_cell(whole)
    trains, monkeypatched = _Training._train_epoch, make_cell(cohort, tmp_path / "killed", settings=settings)

    def killed(training: _Training, epoch: int) -> None:
        if epoch == 2:
            raise Killed
        trains(training, epoch)

    monkeypatch.setattr("evaluate.finetune.SAVE_AFTER", 0.0)
    monkeypatch.setattr(_Training, "_train_epoch", killed)
    with pytest.raises(Killed):
        train_cell(monkeypatched)
    monkeypatch.setattr(_Training, "_train_epoch", trains)
    monkeypatch.setattr("evaluate.finetune.logistic_head", None)  # not asked for again
    train_cell(monkeypatched)
    assert monkeypatched.result.read_bytes() == whole.result.read_bytes()


def test_the_smallest_crop_is_the_smallest_share_of_the_photograph(cohort: Path, tmp_path: Path) -> None:
    shares = {}
    for crop in (0.08, 0.6, 1.0):
        cell = make_cell(cohort, tmp_path / str(crop), settings=dataclasses.replace(QUICK, crop=crop))
        cell.images.fill()
        (cropping,) = (step for step in Views(cell, 0).transform.transforms if hasattr(step, "scale"))
        side = stored_shape(cell.model.info)[0]
        image = Image.fromarray(np.zeros((side, side, 3), np.uint8))
        sizes = [cropping.get_params(image, cropping.scale, cropping.ratio)[2:] for _ in range(300)]
        shares[crop] = [height * width / side**2 for height, width in sizes]
    for crop, found in shares.items():
        assert min(found) > crop - 0.06
    assert min(shares[0.08]) < 0.3


def test_predictions_are_those_of_the_best_epoch_and_not_of_the_last(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([0.6, 0.9, 0.9, 0.7])
    monkeypatch.setattr("evaluate.finetune.validation_auroc", lambda *_: next(told))
    whole = make_cell(cohort, tmp_path / "whole")
    assert train_cell(whole)["chosen"][0]["epoch"] == 2  # the first of equal ones
    seen: list[np.ndarray] = []

    def watched(training: _Training, epoch: int) -> None:
        if epoch == 2:  # as the second epoch has left it
            rows = np.flatnonzero(training.cell.split != "train")
            seen.append(training.cell.truth.probabilities(training.logits(rows)))
        trains(training, epoch)

    trains = _Training._train_epoch
    monkeypatch.setattr(_Training, "_train_epoch", watched)
    told = iter([0.6, 0.9, 0.9, 0.7])
    train_cell(make_cell(cohort, tmp_path / "watched"))
    np.testing.assert_array_equal(np.load(whole.result)[0], seen[0])


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_cell_that_was_killed_goes_on_to_the_same_bytes(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: bool, epoch: int
) -> None:
    monkeypatch.setattr("evaluate.finetune.SAVE_AFTER", 0.0)
    whole = make_cell(cohort, tmp_path / "whole", frozen=frozen, settings=dataclasses.replace(QUICK, augment="rand-m3-n1", erase=0.25))
    chosen = train_cell(whole)
    cell = dataclasses.replace(whole, result=tmp_path / "killed.npy")
    trains = _Training._train_epoch
    epochs: list[int] = []

    def killed(training: _Training, now: int) -> None:
        trains(training, now)
        if now == epoch:
            raise Killed

    def noted(training: _Training, now: int) -> None:
        epochs.append(now)
        trains(training, now)

    with monkeypatch.context() as patch:
        patch.setattr(_Training, "_train_epoch", killed)
        with pytest.raises(Killed):
            train_cell(cell)
    assert not cell.result.exists()
    monkeypatch.setattr(_Training, "_train_epoch", noted)
    assert train_cell(cell) == chosen
    assert epochs == list(range(epoch, 4))  # the epochs before were not trained again
    assert cell.result.read_bytes() == whole.result.read_bytes()
    assert not cell.result.with_suffix(".state").exists()


def test_the_paper_s_probe_leaves_the_backbone_as_it_was_and_fine_tuning_does_not(cohort: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    before = tiny_loader("stub-1")[0].state_dict()
    for frozen in (True, False):
        keep = tmp_path / f"{frozen}.safetensors"
        train_cell(make_cell(cohort, tmp_path / str(frozen), frozen=frozen, keep=keep, settings=dataclasses.replace(QUICK, epochs=1)))
        after = load_file(keep)
        same = [torch.equal(after[f"backbone.{name}"], tensor) for name, tensor in before.items()]
        assert all(same) if frozen else not any(same[1:])
        assert after["head.weight"].abs().max() > 1e-4  # the head began at 2e-5


def test_kept_weights_give_the_predictions(cohort: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    cell = make_cell(cohort, tmp_path, keep=tmp_path / "kept.safetensors")
    train_cell(cell)
    training = _Training(cell)
    training.network.load_state_dict(load_file(tmp_path / "kept.safetensors"))
    rows = np.flatnonzero(cell.split != "train")
    np.testing.assert_array_equal(cell.truth.probabilities(training.logits(rows)), np.load(cell.result)[0])


def test_findings_of_which_some_are_unknown_are_learned(cohort: Path, tmp_path: Path) -> None:
    grades = pd.read_parquet(cohort / "cohort.parquet")["dr_grade"].to_numpy()
    known = np.random.default_rng(0).random((120, 2)) < 0.8
    cell = make_cell(cohort, tmp_path, truth=Truth(grades[:, None] >= [1, 2], known, exclusive=False))
    assert train_cell(cell)["chosen"][0]["validation_auroc"] > 0.6
    given = np.load(cell.result)[0]
    assert given.dtype == np.float64
    assert ((given > 0) & (given < 1)).all()
    assert np.ptp(given.sum(axis=1)) > 1e-6  # each by itself: they don't add up to one


def test_unknown_findings_change_nothing(cohort: Path, tmp_path: Path) -> None:
    grades = pd.read_parquet(cohort / "cohort.parquet")["dr_grade"].to_numpy()
    known = np.random.default_rng(0).random((120, 2)) < 0.8
    truth = grades[:, None] >= [1, 2]
    given = []
    for name, values in (("true", truth & known), ("false", truth | ~known)):
        cell = make_cell(cohort, tmp_path / name, truth=Truth(values, known, False), settings=dataclasses.replace(QUICK, epochs=1))
        train_cell(cell)
        given.append(np.load(cell.result))
    np.testing.assert_array_equal(given[0], given[1])


def test_views_depend_on_seed_epoch_and_photograph_alone(cohort: Path, tmp_path: Path) -> None:
    cell = make_cell(cohort, tmp_path, settings=TrainingSettings())
    cell.images.fill()
    one = Views(cell, 3)[7]
    torch.rand(5)
    assert torch.equal(one, Views(cell, 3)[7])
    assert one.shape == (3, 32, 32)
    for other in (Views(cell, 4)[7], Views(cell, 3)[8], Views(dataclasses.replace(cell, seed=1), 3)[7]):
        assert not torch.equal(one, other)


def test_the_strongest_augmentation_that_can_be_drawn_works(cohort: Path, tmp_path: Path) -> None:
    cell = make_cell(cohort, tmp_path, settings=TrainingSettings(augment="rand-m10-n15-inc1"))
    cell.images.fill()
    views = Views(cell, 0)
    assert all(bool(torch.isfinite(views[row]).all()) for row in range(20))


def test_training_leaves_the_callers_random_numbers_alone(cohort: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    wanted = (torch.rand(1).item(), np.random.random())
    torch.manual_seed(3)
    np.random.seed(3)
    train_cell(make_cell(cohort, tmp_path, settings=dataclasses.replace(QUICK, epochs=1)))
    assert (torch.rand(1).item(), np.random.random()) == wanted


def test_layers_learn_slower_the_further_down_they_are() -> None:
    model = tiny_loader("stub-1")[0]
    groups = _layer_groups(model, TrainingSettings(layer_decay=0.5))
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    of = {name: scale[id(p)] for name, p in model.named_parameters()}
    assert of["norm.weight"] == 0.5  # the head's is 1
    assert of["blocks.1.attn.qkv.weight"] == 0.5
    assert of["blocks.0.attn.qkv.weight"] == 0.25
    assert of["patch_embed.proj.weight"] == 0.125
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {decay[id(p)] for name, p in model.named_parameters() if p.ndim == 1 or name in ("pos_embed", "cls_token")} == {0.0}
    assert decay[id(model.blocks[0].attn.qkv.weight)] == 0.05


def test_blocks_are_skipped_more_often_the_higher_they_are() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, num_classes=0)
    _set_drop_path(model, 0.2)
    assert [block.drop_path2.drop_prob for block in model.blocks] == pytest.approx([0, 0.1, 0.2])


def test_convolutional_models_are_trained_too(cohort: Path, tmp_path: Path) -> None:
    def loader(source: str) -> tuple[Any, dict[str, Any]]:
        torch.manual_seed(0)
        return timm.create_model("resnet10t", num_classes=0).eval(), describe_tiny("stub-1")

    for frozen in (False, True):
        cell = make_cell(cohort, tmp_path / str(frozen), loader=loader, frozen=frozen, settings=dataclasses.replace(QUICK, epochs=1))
        assert len(train_cell(cell)["chosen"][0]["every_epoch"]) == 1


def test_a_training_that_diverges_is_said_to(cohort: Path, tmp_path: Path) -> None:
    cell = make_cell(cohort, tmp_path, settings=dataclasses.replace(QUICK, epochs=2, rate=1e30, warmup=0))
    with pytest.raises(UserError, match=r"task dr: model A diverged in every epoch \(seed 0\); give a lower rate"):
        train_cell(cell)


def test_photographs_are_decoded_once(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.stored.PART", 50)
    cell = make_cell(cohort, tmp_path)
    cell.images.store(workers=1)
    assert cell.images[119].shape == (37, 37, 3)
    monkeypatch.setattr("evaluate.stored.view", lambda *_: pytest.fail("decoded again"))
    cell.images.store(workers=1)
    train_cell(dataclasses.replace(cell, settings=dataclasses.replace(QUICK, epochs=1)))


def test_a_long_training_says_how_long_it_will_take(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evaluate.finetune.SAY_AFTER", 0.0)
    train_cell(make_cell(cohort, tmp_path, talk=True, settings=dataclasses.replace(QUICK, epochs=2)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("note: task dr, model A, fine-tuning, seed 0: epoch 1 of 2, best validation AUROC 0.")
    assert lines[0].endswith(" s left")


def run(cohort: Path, folder: Path, **changes: Any) -> Path:
    """All five adaptations, two models, one seed."""
    folder.mkdir(exist_ok=True)
    (folder / "dr.yaml").write_text(TASK + "metrics: [auroc, brier, sensitivity]\n", encoding="utf-8")
    arguments: dict[str, Any] = {
        "shards": folder / "shards",
        "seeds": 1,
        "replicates": 100,
        "workers": 1,
        "adapt": ["all"],
        "changes": SMALL,
    }
    arguments |= {"models": {"A": "stub-1", "B": "stub-2"}, "loader": tiny_loader, "describe": describe_tiny}
    arguments |= changes
    models = arguments.pop("models")
    return evaluate_models(models, [read_task(folder / "dr.yaml")], cohort=cohort, out=folder / "evaluation", **arguments)


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(cohort, tmp_path_factory.mktemp("five") / "one")


def test_all_five_adaptations_are_in_the_result(finished: Path) -> None:
    about = json.loads((finished / "evaluation.json").read_text())
    five = ["finetune", "knn", "logistic", "probe-cached", "probe-paper"]
    assert sorted(about["adaptations"]) == five
    assert [m["sha256"] for m in about["models"]] == ["1" * 64, "2" * 64]
    assert len(about["chosen"]) == 10
    assert "logistic and knn: no chance in it" not in " ".join(about["notes"])  # one seed was asked for: nothing is left out
    table = pd.read_parquet(finished / "predictions.parquet")
    assert sorted(table["adaptation"].unique()) == five
    assert table.groupby(["model", "adaptation", "seed"]).size().nunique() == 1
    np.testing.assert_allclose(table[["p_0", "p_1", "p_2"]].sum(axis=1), 1, atol=1e-9)
    estimates = pd.read_parquet(finished / "estimates.parquet")
    assert sorted(estimates["adaptation"].unique()) == five
    left = {p.name for p in finished.iterdir()}
    assert left >= {"predictions.parquet", "estimates.parquet", "comparisons.parquet", "evaluation.json"}
    assert not left & {"cells", "photographs", "models"}


def test_another_number_of_workers_gives_the_same_bytes(finished: Path, cohort: Path, tmp_path: Path) -> None:
    assert digests(run(cohort, tmp_path / "other", workers=2)) == digests(finished)


def test_an_array_job_and_one_collecting_call_give_the_same_bytes(
    finished: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in (2, 1):  # in any order
        with engine(part=(task, 2)), pytest.raises(PartDone):
            run(cohort, tmp_path / "array")
    for work in ("evaluate.cells.train_cell", "evaluate.stored._store_part", "evaluate.features._extract_part"):
        monkeypatch.setattr(work, lambda *_: pytest.fail("done again"))
    assert digests(run(cohort, tmp_path / "array")) == digests(finished)


def test_a_dask_cluster_gives_the_same_bytes(finished: Path, cohort: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=None) as cluster,
        engine(scheduler=cluster.scheduler_address),
    ):
        assert digests(run(cohort, tmp_path / "dask")) == digests(finished)


@pytest.mark.parametrize("where", ["evaluate.cells.train_cell", "evaluate.cells._learn_cell", "evaluate.run.write_results"])
def test_a_run_killed_at_work_goes_on_to_the_same_bytes(
    finished: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    calls: list[int] = []
    module, _, name = where.rpartition(".")
    import importlib

    works: Callable[..., Any] = getattr(importlib.import_module(module), name)

    def killed_at_the_second(*arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == 2 or name == "write_results":
            raise Killed
        return works(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(where, killed_at_the_second)
        with pytest.raises(Killed):
            run(cohort, tmp_path / "killed")
    assert digests(run(cohort, tmp_path / "killed")) == digests(finished)


def test_trained_models_are_kept_where_asked(finished: Path, cohort: Path, tmp_path: Path) -> None:
    out = run(cohort, tmp_path / "kept", keep_models=True, models={"A": "stub-1"}, adapt=["probe-paper"], changes=["probe-paper.epochs=1"])
    (kept,) = (out / "models").iterdir()
    assert kept.name.endswith("dr-grade-A-probe-paper-0.safetensors")


def test_adaptations_without_chance_have_one_head_and_a_note(cohort: Path, tmp_path: Path) -> None:
    out = run(cohort, tmp_path / "some", seeds=3, adapt=["knn", "logistic", "probe-cached"], changes=SMALL[-2:], models={"A": "stub-1"})
    about = json.loads((out / "evaluation.json").read_text())
    assert "logistic and knn: no chance in it, so one head and no variation over seeds" in about["notes"]
    seeds = pd.read_parquet(out / "predictions.parquet").groupby("adaptation")["seed"].nunique()
    assert seeds.to_dict() == {"knn": 1, "logistic": 1, "probe-cached": 3}


def test_a_multilabel_task_goes_through_all_five(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    path = tmp_path / "many" / "findings.yaml"
    path.write_text(
        "name: findings\nkind: multilabel\nclasses: {any: dr_grade >= 1, severe: dr_grade == 2}\n"
        "split: {train: 0.5, val: 0.25, test: 0.25}\nsubgroups: [sex]\nintersections: [[sex, age]]\n",
        encoding="utf-8",
    )
    out = evaluate_models(
        {"A": "stub-1"}, [read_task(path)], cohort=cohort, shards=tmp_path, out=tmp_path / "evaluation", adapt=["all"], changes=SMALL,
        seeds=1, replicates=100, workers=1, loader=tiny_loader, describe=describe_tiny,
    )  # fmt: skip
    table = pd.read_parquet(out / "predictions.parquet")
    assert table["label"].isna().all()
    assert set(table["label_0"]) == {0, 1}
    assert (table["label_1"] <= table["label_0"]).all()
    assert table[["p_0", "p_1"]].sum(axis=1).max() > 1.05
    estimates = pd.read_parquet(out / "estimates.parquet")
    assert set(estimates["class"]) == {"any", "severe", "macro"}
    assert "under 40 x female" not in set(estimates["group"])
    assert {"female x under 40", "female x over 70"} <= set(estimates["group"])
