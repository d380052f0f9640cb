"""A run's folder: finished, interrupted, killed, refused, exported."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from curate import UserError, open_shards, read_json, sha256_file
from pretrain import checkpoint, load_backbone, run_pretraining
from pretrain.export import export_backbone
from pretrain.mae import Mae, MaeViews
from pretrain.plan import plan_pretraining


def run(shards: Path, out: Path, tiny: list[str], **more: Any) -> dict[str, Any]:
    return run_pretraining(shards, recipe="mae-tiny", overrides=tiny, out=out, **{"workers": 1, "device": "cpu", **more})


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_finished_run_holds_what_the_format_says(finished: Path, shards: Path) -> None:
    about = read_json(finished / "run.json", "a run")
    assert about["status"] == "finished"
    assert about["shards"] == {"name": "shards", "digest": open_shards(shards).digest, "images": 30, "path": str(shards)}
    assert about["result"]["steps"] == 12
    assert about["result"]["samples_seen"] == 96
    assert about["result"]["backbone_sha256"] == sha256_file(finished / "backbone.safetensors")
    assert about["result"]["final_loss"] == lines(finished)[-1]["loss"]
    assert [line["step"] for line in lines(finished)] == [2, 4, 6, 8, 10, 12]
    assert len(list(finished.glob("events.out.tfevents.*"))) == 1
    assert (finished / "pictures" / "step-12.png").exists()
    assert [p.name for p in checkpoint.list_checkpoints(finished / "checkpoints")] == ["step-9", "step-12"]


def test_the_same_command_on_a_finished_run_does_nothing(
    finished: Path, shards: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    result = run(shards, finished, tiny)
    assert "finished already" in capsys.readouterr().out
    assert result["status"] == "finished"
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 4}, "seed: there 0, asked 4"),
        ({"overrides": ["optim.weight_decay=0.1"]}, "optim.weight_decay: there 0.05, asked 0.1"),
        ({"samples": 160}, "optim.samples: there 96, asked 160"),
    ],
)
def test_another_specification_on_the_same_folder_is_refused(
    finished: Path, shards: Path, tiny: list[str], change: dict[str, Any], words: str
) -> None:
    more = dict(change)
    with pytest.raises(UserError, match=words):
        run(shards, finished, tiny + more.pop("overrides", []), **more)


def test_another_shard_set_on_the_same_folder_is_refused(
    finished: Path, make_shards: Callable[[list[bytes]], Path], shards: Path, tiny: list[str]
) -> None:
    opened = open_shards(shards)
    with pytest.raises(UserError, match=r"inputs.shards: there"):
        run(make_shards([opened.read(i) for i in range(10)]), finished, tiny)


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path: Path, shards: Path, tiny: list[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a run"):
        run(shards, tmp_path / "out", tiny)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("wrong", [["model.architecture=vit_tinny_patch16_224"], ["model.arguments.depht=3"], ["data.size=30"]])
def test_a_recipe_that_cannot_be_built_leaves_nothing_behind(tmp_path: Path, shards: Path, tiny: list[str], wrong: list[str]) -> None:
    with pytest.raises(UserError, match="architecture"):
        run(shards, tmp_path / "out", tiny + wrong)
    assert not (tmp_path / "out").exists()


def test_workers_and_logging_do_not_change_the_weights(finished: Path, shards: Path, tiny: list[str], tmp_path: Path) -> None:
    run(shards, tmp_path / "out", [*tiny, "log={every: 5, checkpoint_every: 4}"], workers=3)
    assert sha256_file(tmp_path / "out" / "backbone.safetensors") == sha256_file(finished / "backbone.safetensors")


def test_another_seed_gives_other_weights(finished: Path, shards: Path, tiny: list[str], tmp_path: Path) -> None:
    run(shards, tmp_path / "out", tiny, seed=1)
    assert sha256_file(tmp_path / "out" / "backbone.safetensors") != sha256_file(finished / "backbone.safetensors")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_the_same_command_goes_on(
    finished: Path, shards: Path, tiny: list[str], tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    loss, steps = Mae.loss, []

    def interrupted(self: Mae, batch: Any, step: int) -> torch.Tensor:
        steps.append(step)
        if len(steps) == 5:
            os.kill(os.getpid(), number)
        return loss(self, batch, step)

    monkeypatch.setattr(Mae, "loss", interrupted)
    stopped = run(shards, tmp_path / "out", tiny)
    assert (stopped["status"], stopped["step"]) == ("interrupted", 5)
    assert f"{number.name}: checkpoint written after step 5 of 12; run the same command again" in capsys.readouterr().err
    assert read_json(tmp_path / "out" / "run.json", "a run")["status"] == "running"
    assert run(shards, tmp_path / "out", tiny)["status"] == "finished"
    assert steps == list(range(12))
    assert (tmp_path / "out" / "backbone.safetensors").read_bytes() == (finished / "backbone.safetensors").read_bytes()
    kept = ("step", "samples", "loss", "lr")
    assert [[line[k] for k in kept] for line in lines(tmp_path / "out")] == [[line[k] for k in kept] for line in lines(finished)]


def test_killed_ten_times_at_random_moments_gives_the_same_weights(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    whole, out, moments = tmp_path / "whole", tmp_path / "out", random.Random(0)
    tiny = [*tiny, "optim.samples=640"]
    run(shards, whole, tiny)
    for _ in range(10):
        before = checkpoint.list_checkpoints(out / "checkpoints")[-1:]
        child = multiprocessing.get_context("fork").Process(target=run, args=(shards, out, [*tiny, "log.checkpoint_every=1"]))
        child.start()
        # Most of a start goes by before there is something to lose: wait for one more checkpoint, then for a random moment.
        while child.is_alive() and checkpoint.list_checkpoints(out / "checkpoints")[-1:] == before:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    run(shards, out, tiny)
    assert (out / "backbone.safetensors").read_bytes() == (whole / "backbone.safetensors").read_bytes()
    results = [read_json(folder / "run.json", "a run")["result"] for folder in (out, whole)]
    assert results[0] == results[1]


def test_lines_after_the_checkpoint_are_dropped_on_resume(
    shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Mae.loss

    def fails(self: Mae, batch: Any, step: int) -> torch.Tensor:
        if step == 5:
            raise RuntimeError("power cut")
        return loss(self, batch, step)

    monkeypatch.setattr(Mae, "loss", fails)
    with pytest.raises(RuntimeError, match="power cut"):
        run(shards, tmp_path / "out", tiny)
    assert [line["step"] for line in lines(tmp_path / "out")] == [2, 4]  # the last checkpoint is of step 3
    with open(tmp_path / "out" / "log.jsonl", "a") as file:
        file.write('{"step": 4, "broken')
    monkeypatch.setattr(Mae, "loss", loss)
    run(shards, tmp_path / "out", tiny)
    assert [line["step"] for line in lines(tmp_path / "out")] == [2, 4, 6, 8, 10, 12]


def test_a_full_disk_leaves_the_last_good_checkpoint(
    finished: Path, shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = checkpoint.write_safetensors, []

    def full(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        calls.append(path)
        if len(calls) == 4:  # the optimiser of the second checkpoint
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, tensors)

    monkeypatch.setattr(checkpoint, "write_safetensors", full)
    with pytest.raises(OSError, match="No space left"):
        run(shards, tmp_path / "out", tiny)
    assert [p.name for p in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-3"]
    monkeypatch.setattr(checkpoint, "write_safetensors", write)
    run(shards, tmp_path / "out", tiny)
    assert sha256_file(tmp_path / "out" / "backbone.safetensors") == sha256_file(finished / "backbone.safetensors")


def test_an_unreadable_checkpoint_is_passed_over(
    finished: Path, shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = Mae.loss

    def interrupted(self: Mae, batch: Any, step: int) -> torch.Tensor:
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, batch, step)

    monkeypatch.setattr(Mae, "loss", interrupted)
    run(shards, tmp_path / "out", tiny)
    monkeypatch.setattr(Mae, "loss", loss)
    model = tmp_path / "out" / "checkpoints" / "step-8" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1000])
    run(shards, tmp_path / "out", tiny)
    assert "passed over" in capsys.readouterr().err
    assert sha256_file(tmp_path / "out" / "backbone.safetensors") == sha256_file(finished / "backbone.safetensors")


def test_three_losses_in_a_row_that_are_no_number_stop_with_step_and_keys(
    shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Mae.loss
    monkeypatch.setattr(Mae, "loss", lambda self, batch, step: loss(self, batch, step) * (math.nan if step in (1, 4, 5, 6) else 1.0))
    with pytest.raises(UserError, match=r"the loss is nan in steps 4, 5, 6 .*the last batch holds [0-9a-f]{16}, .*optim.lr"):
        run(shards, tmp_path / "out", tiny)
    kept = checkpoint.read_safetensors(tmp_path / "out" / "checkpoints" / "step-3" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())


def test_one_loss_that_is_no_number_costs_its_step_and_no_more(
    shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Mae.loss
    monkeypatch.setattr(Mae, "loss", lambda self, batch, step: loss(self, batch, step) * (math.inf if step == 4 else 1.0))
    assert math.isfinite(run(shards, tmp_path / "out", tiny)["final_loss"])
    assert [line["skipped_steps"] for line in lines(tmp_path / "out")] == [0, 0, 1, 0, 0, 0]


def test_damaged_samples_are_reported(
    own_shards: Path, tiny: list[str], tmp_path: Path, damage_row: Callable[[Path, int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    key = damage_row(own_shards, 3)
    assert run(own_shards, tmp_path / "out", tiny)["damaged_samples"] == [key]
    assert f"1 damaged samples were replaced by others ({key})" in capsys.readouterr().err


def test_too_many_damaged_samples_stop(own_shards: Path, tiny: list[str], tmp_path: Path, damage_row: Callable[[Path, int], str]) -> None:
    for row in range(11):
        damage_row(own_shards, row)
    with pytest.raises(UserError, match=r"11 damaged samples, more than data.max_damaged"):
        run(own_shards, tmp_path / "out", tiny)


def test_a_second_process_in_the_same_folder_is_refused(
    shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, refused = Mae.loss, []

    def second(self: Mae, batch: Any, step: int) -> torch.Tensor:
        if step == 0:
            with pytest.raises(UserError, match="another process is training here"):
                run(shards, tmp_path / "out", tiny)
            refused.append(step)
        return loss(self, batch, step)

    monkeypatch.setattr(Mae, "loss", second)
    run(shards, tmp_path / "out", tiny)
    assert refused == [0]


def test_parts_of_a_batch_give_the_same_training_but_for_rounding(finished: Path, shards: Path, tiny: list[str], tmp_path: Path) -> None:
    run(shards, tmp_path / "out", [*tiny, "optim.micro_batch=3"])
    for a, b in zip(lines(tmp_path / "out"), lines(finished), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_training_lowers_the_loss(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    run(shards, tmp_path / "out", [*tiny, "optim.lr=3e-3"], samples=640)
    losses = [line["loss"] for line in lines(tmp_path / "out")]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_bfloat16_trains_too(shards: Path, tiny: list[str], tmp_path: Path, finished: Path) -> None:
    run(shards, tmp_path / "out", [*tiny, "optim.precision=bfloat16"])
    assert lines(tmp_path / "out")[0]["loss"] == pytest.approx(lines(finished)[0]["loss"], rel=0.05)


@pytest.mark.parametrize("way", ["local-dir", "checkpoint_path", "exported"])
def test_plain_timm_gives_the_features_of_the_trained_encoder(finished: Path, tmp_path: Path, way: str) -> None:
    trained, info = load_backbone(finished)
    if way == "local-dir":
        plain = timm.create_model(f"local-dir:{finished}", pretrained=True)
    elif way == "checkpoint_path":
        arguments = json.loads((finished / "config.json").read_text())["model_args"]
        plain = timm.create_model(
            "vit_tiny_patch16_224", num_classes=0, checkpoint_path=str(finished / "backbone.safetensors"), **arguments
        )
    else:
        export_backbone(finished, tmp_path / "model")
        plain = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    encoder = checkpoint.read_safetensors(finished / "checkpoints/step-12/model.safetensors")
    assert all(torch.equal(encoder[f"backbone.{name}"], tensor) for name, tensor in plain.state_dict().items())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), trained(images))
    if way != "checkpoint_path":  # there timm knows the weights alone
        data = timm.data.resolve_model_data_config(plain)
        assert [list(data[k]) for k in ("mean", "std", "input_size")] == [info[k] for k in ("mean", "std", "input_size")]


def test_load_backbone_says_what_it_is(finished: Path, shards: Path) -> None:
    model, info = load_backbone(finished)
    assert not model.training
    assert model.num_classes == 0
    assert info == {
        "architecture": "vit_tiny_patch16_224",
        "sha256": sha256_file(finished / "backbone.safetensors"),
        "input_size": [3, 32, 32],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "source": str(finished),
        "shards_digest": open_shards(shards).digest,
    }


def test_the_untrained_baseline_is_the_same_every_time_and_not_the_trained_one(finished: Path) -> None:
    (a, info), (b, _), (trained, _) = load_backbone(f"random:{finished}"), load_backbone(f"random:{finished}"), load_backbone(finished)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(a(images), b(images))
        assert not torch.allclose(a(images), trained(images), atol=1e-2)
    assert len(info["sha256"]) == 64
    assert info["shards_digest"] is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [("runs/nowhere", "no such run"), ("random:vit_tinny_patch16_224", "did you mean"), ("timm:vit_tinny_patch16_224", "did you mean")],
)
def test_a_backbone_that_is_not_there_is_one_line(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_backbone(spec)


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("Network is unreachable\nand so on")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"^timm:vit_tiny_patch16_224: .* cannot be had \(OSError: Network is unreachable and so on\)$"):
        load_backbone("timm:vit_tiny_patch16_224")


def test_an_unfinished_run_is_no_backbone(shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mae, "loss", lambda self, batch, step: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(shards, tmp_path / "out", tiny)
    with pytest.raises(UserError, match="not finished"):
        load_backbone(tmp_path / "out")
    with pytest.raises(UserError, match="not finished"):
        export_backbone(tmp_path / "out", tmp_path / "model")


def test_export_refuses_weights_that_were_changed(finished: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(finished, tmp_path / "copy")
    with open(tmp_path / "copy" / "backbone.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="changed since"):
        export_backbone(tmp_path / "copy", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_exported_model_card_names_the_shard_set(finished: Path, tmp_path: Path, shards: Path) -> None:
    export_backbone(finished, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert open_shards(shards).digest in card
    assert sha256_file(tmp_path / "model" / "model.safetensors") in card


def test_plan_writes_nothing_and_counts_as_the_run_does(
    finished: Path, shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan_pretraining(shards, recipe="mae-tiny", overrides=tiny, device="cpu")
    result = read_json(finished / "run.json", "a run")["result"]
    assert (planned["steps"], planned["samples"]) == (result["steps"], result["samples_seen"])
    stored = checkpoint.read_safetensors(finished / "checkpoints/step-12/model.safetensors")
    assert planned["parameters"] == sum(t.numel() for n, t in stored.items() if n != "backbone.pos_embed")
    assert planned["here"]["seconds"] == pytest.approx(planned["samples"] / planned["here"]["images_per_s"])
    assert list(tmp_path.iterdir()) == []


def test_pictures_show_the_whole_photograph(shards: Path) -> None:
    from pretrain.data import Loader
    from pretrain.recipe import Data
    from pretrain.run import _pictured

    batch = _pictured(Loader(open_shards(shards), MaeViews(Data(size=32), patches=16, kept=4), batch=1, seed=0), 0)
    assert batch["images"].shape == (6, 3, 32, 32)
    assert int(batch["images"][:, :, 0, 0].max()) < 40  # the black corner of each
