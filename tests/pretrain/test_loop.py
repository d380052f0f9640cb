"""The loop for any method: rates, clipping, accumulation, faults named, what is logged, a disk that is full."""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from curate import UserError, sha256_file
from curate.command import run as command
from pretrain import checkpoint, loop, read_recipe, run_pretraining
from pretrain.cli import app
from pretrain.journal import Events
from pretrain.loop import Outcome, Outcomes, blown_up, clip_gradients, drawing_seed
from pretrain.mae import Mae
from pretrain.operations import peak_flops
from pretrain.schedule import half_cosine, set_rates


def run(shards: Path, out: Path, tiny: list[str], **more: Any) -> dict[str, Any]:
    return run_pretraining(shards, recipe="mae-tiny", overrides=tiny, out=out, **{"workers": 1, "device": "cpu", **more})


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def multiplied(factor: Callable[[int], float]) -> Callable[..., torch.Tensor]:
    """MAE's loss times a factor of the step."""
    loss = Mae.loss
    return lambda self, batch, step: loss(self, batch, step) * factor(step)


@pytest.fixture(params=[0, 1], ids=["at once", "a step late"])
def looking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Outcomes looked at as on a CPU, and as on a GPU."""
    monkeypatch.setattr(loop.Outcomes, "on", lambda device: loop.Outcomes(delay=request.param))
    return int(request.param)


# Rates.


def test_groups_have_rates_and_decay_of_their_own() -> None:
    optim = read_recipe("mae-tiny", ["optim.lr=1.0", "optim.warmup_samples=0"], samples=1600).optim

    def fresh() -> torch.optim.Optimizer:
        a, b, c = ([nn.Parameter(torch.zeros(2))] for _ in range(3))
        groups: list[dict[str, Any]] = [
            {"params": a, "weight_decay": 0.1},
            {"params": b, "weight_decay": 0.04, "weight_decay_end": 0.2, "lr_scale": 0.25},
            {"params": c, "weight_decay": 0.0, "frozen_steps": 3},
        ]
        return torch.optim.AdamW(groups, lr=0.0)

    optimizer, seen = fresh(), {}
    for step in range(optim.steps):
        lr = set_rates(optimizer, step, optim)
        assert [group["lr"] for group in optimizer.param_groups] == [lr, 0.25 * lr, 0.0 if step < 3 else lr]
        seen[step] = [group["weight_decay"] for group in optimizer.param_groups]
    assert seen[0] == pytest.approx([0.1, 0.04, 0.0])
    assert seen[50][1] == pytest.approx(0.12)
    assert [seen[step][0] for step in seen] == [0.1] * optim.steps
    resumed = fresh()
    set_rates(resumed, 73, optim)
    assert resumed.param_groups[1]["weight_decay"] == seen[73][1]


def test_half_a_cosine_at_its_corners() -> None:
    assert [half_cosine(0.04, 0.2, done) for done in (0, 0.5, 1)] == pytest.approx([0.04, 0.12, 0.2])


def test_each_process_draws_other_numbers_and_the_first_those_of_a_single_one() -> None:
    seeds = [drawing_seed(7, step, rank) for step in range(20) for rank in range(4)]
    assert len(set(seeds)) == 80
    assert drawing_seed(7, 3, 0) == (7 << 32) + 3
    for seed in seeds:
        torch.manual_seed(seed)


# Clipping.


def with_gradient(*values: float) -> nn.Module:
    module = nn.Linear(len(values), 1, bias=False)
    module.weight.grad = torch.tensor([values])
    return module


def test_each_module_is_clipped_by_its_own_norm() -> None:
    large, small = with_gradient(3.0, 4.0), with_gradient(0.3, 0.4)
    assert clip_gradients([large, small], 1.0).tolist() == pytest.approx([5.0, 0.5])
    assert large.weight.grad.tolist()[0] == pytest.approx([0.6, 0.8])
    assert small.weight.grad.tolist()[0] == pytest.approx([0.3, 0.4])


def test_without_a_limit_norms_are_measured_and_nothing_is_clipped() -> None:
    module = with_gradient(30.0, 40.0)
    assert clip_gradients([module], None).tolist() == [50.0]
    assert module.weight.grad.tolist() == [[30.0, 40.0]]


def test_a_gradient_that_is_not_finite_stays_where_it_began() -> None:
    broken, sound = with_gradient(math.inf, 1.0), with_gradient(3.0, 4.0)
    norms = clip_gradients([broken, sound], 1.0)
    assert not math.isfinite(float(norms[0]))
    assert broken.weight.grad.tolist() == [[math.inf, 1.0]]
    assert blown_up(nn.ModuleDict({"first": sound, "second": broken})) == (["second"], 2)


def test_a_recipes_limit_changes_the_training(finished: Path, shards: Path, tiny: list[str], tmp_path: Path) -> None:
    run(shards, tmp_path / "out", [*tiny, "optim.clip=1e-3"])
    assert lines(tmp_path / "out")[0]["gradient_norm"] == pytest.approx(lines(finished)[0]["gradient_norm"])
    assert sha256_file(tmp_path / "out" / "backbone.safetensors") != sha256_file(finished / "backbone.safetensors")


# A method's hooks.


def test_the_end_of_a_step_comes_once_after_the_optimiser_and_before_the_checkpoint(
    shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[Any] = []
    loss, step, save = Mae.loss, torch.optim.AdamW.step, checkpoint.save_checkpoint
    monkeypatch.setattr(Mae, "loss", lambda self, batch, at: happened.append("loss") or loss(self, batch, at))
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a: happened.append("optimiser") or step(self, *a))
    monkeypatch.setattr(Mae, "end_step", lambda self, at: happened.append(at))
    monkeypatch.setattr("pretrain.run.save_checkpoint", lambda *a, **k: happened.append("checkpoint") or save(*a, **k))
    run(shards, tmp_path / "out", [*tiny, "optim.micro_batch=3", "optim.samples=24"])
    one = ["loss", "loss", "loss", "optimiser"]
    assert happened == [*one, 0, *one, 1, *one, 2, "checkpoint"]


def test_monitors_are_logged_and_shown(
    shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Mae, "monitors", lambda self: {"teacher_entropy": 0.5, "broken": math.nan})
    run(shards, tmp_path / "out", tiny)
    assert lines(tmp_path / "out")[-1]["monitors"] == {"teacher_entropy": 0.5, "broken": None}
    assert "teacher entropy 0.5" in capsys.readouterr().err
    assert events(tmp_path / "out")["monitor/teacher_entropy"] == [(step, 0.5) for step in (2, 4, 6, 8, 10, 12)]


# Faults.


def test_a_step_that_fails_costs_itself_and_no_more(
    looking: int, shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mae, "loss", multiplied(lambda step: math.nan if step in (2, 3, 7) else 1.0))
    assert math.isfinite(run(shards, tmp_path / "out", tiny)["final_loss"])
    assert [line["skipped_steps"] for line in lines(tmp_path / "out")] == [0, 2, 0, 1, 0, 0]
    for tensor in checkpoint.read_safetensors(tmp_path / "out" / "backbone.safetensors").values():
        assert bool(tensor.isfinite().all())


def test_looking_a_step_late_trains_the_same(looking: int, finished: Path, shards: Path, tiny: list[str], tmp_path: Path) -> None:
    run(shards, tmp_path / "out", tiny)
    assert sha256_file(tmp_path / "out" / "backbone.safetensors") == sha256_file(finished / "backbone.safetensors")
    assert [line["loss"] for line in lines(tmp_path / "out")] == [line["loss"] for line in lines(finished)]


def test_the_third_failure_stops_in_its_own_step_with_keys_and_module(
    looking: int, shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    wrong = multiplied(lambda step: math.inf if step in (1, 4, 5, 6) else 1.0)
    monkeypatch.setattr(Mae, "loss", lambda self, batch, step: asked.append(step) or wrong(self, batch, step))
    keys = r"the last batch holds ([0-9a-f]{16}, ){7}[0-9a-f]{16};"
    with pytest.raises(UserError, match=rf"the loss is inf in steps 4, 5, 6 \(.*\); the gradient of \S+ .*blew up; {keys}"):
        run(shards, tmp_path / "out", tiny)
    assert asked == [0, 1, 2, 3, 4, 5, 6]


def test_the_module_whose_gradient_blew_up_is_named_where_the_loss_is_a_number(
    looking: int, shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Mae.loss

    def blows_up(self: Mae, batch: Any, step: int) -> torch.Tensor:
        value = loss(self, batch, step)
        if step >= 3:  # a square root of nothing: its value is 0, its slope infinite
            value = value + (self.decoder_head.weight * 0).square().sum().sqrt() * 0
        return value

    monkeypatch.setattr(Mae, "loss", blows_up)
    words = r"gradient is not finite, though the loss is, in steps 3, 4, 5 .*gradient of decoder_head blew up;"
    with pytest.raises(UserError, match=words):
        run(shards, tmp_path / "out", tiny)
    kept = checkpoint.read_safetensors(tmp_path / "out" / "checkpoints" / "step-3" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())


def test_a_loss_alone_that_is_no_number_is_said_so(shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Mae.loss
    monkeypatch.setattr(Mae, "loss", lambda self, batch, step: loss(self, batch, step) + math.nan)
    with pytest.raises(UserError, match="every gradient is finite, the loss alone is not"):
        run(shards, tmp_path / "out", tiny)


def test_outcomes_are_given_in_order_and_late_only_while_all_is_well() -> None:
    def outcome(step: int, value: float) -> Outcome:
        return Outcome(step, torch.tensor([value, 1.0]), 1, [], 0.0)

    outcomes, given = Outcomes(delay=1), []
    for step, value in enumerate([1.0, 1.0, math.nan, math.nan, 1.0, 1.0]):
        outcomes.add(outcome(step, value))
        given.append([o.step for o in outcomes.settled(everything=False)])
    assert given == [[], [0], [1], [2, 3], [4], []]
    assert [o.step for o in outcomes.settled(everything=True)] == [5]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_is_one_line(
    small_disk: Path, shards: Path, tiny: list[str], finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, ballast = small_disk / "out", small_disk / "ballast"
    loss = Mae.loss

    def filling(self: Mae, batch: Any, step: int) -> torch.Tensor:
        if step == 4:
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
            ballast.write_bytes(b"0" * max(0, free - 60_000))
        return loss(self, batch, step)

    monkeypatch.setattr(Mae, "loss", filling)
    options = [part for override in tiny for part in ("--set", override)]
    monkeypatch.setattr("sys.argv", ["pretrain", "run", str(shards), "--recipe", "mae-tiny", "--out", str(out), "--workers", "1", *options])
    with pytest.raises(SystemExit) as left:
        command(app, "pretrain")
    assert left.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("step ")]
    assert len(told) == 1
    assert "no space left on the disk; free some and run the same command again" in told[0]
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["step-3"]
    ballast.unlink()
    monkeypatch.setattr(Mae, "loss", loss)
    run(shards, out, [*tiny, "log.keep_last=1"])
    assert sha256_file(out / "backbone.safetensors") == sha256_file(finished / "backbone.safetensors")


# What is written down.


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read TensorBoard's scalars with TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_reads_the_events_and_no_file_names_the_machine(finished: Path) -> None:
    losses = events(finished)["train/loss"]
    assert [step for step, _ in losses] == [2, 4, 6, 8, 10, 12]
    assert [value for _, value in losses] == pytest.approx([line["loss"] for line in lines(finished)])
    [file] = finished.glob("events.out.tfevents.*")
    assert socket.gethostname() not in file.name
    assert all(part.isdigit() for part in file.name.split(".")[3:])
    assert socket.gethostname().encode() not in file.read_bytes()


def test_events_after_the_checkpoint_are_forgotten_on_resume(tmp_path: Path) -> None:
    for first, values in ((1, [1.0, 2.0, 3.0]), (3, [30.0, 40.0])):
        file = Events(tmp_path, purge_step=first)
        for step, value in enumerate(values, first):
            file.scalar("train/loss", value, step)
        file.close()
    assert events(tmp_path)["train/loss"] == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA L4", 121e12), ("Quadro 1", None)],
)
def test_the_peak_of_a_gpu_is_known_by_its_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def test_utilisation_and_memory_are_logged_where_there_is_a_known_gpu(
    shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: Path
) -> None:
    monkeypatch.setattr("pretrain.journal.device_peak", lambda device: 1e9)
    monkeypatch.setattr("pretrain.journal.peak_memory", lambda device: 1234)
    run(shards, tmp_path / "out", tiny)
    last = lines(tmp_path / "out")[-1]
    assert last["peak_memory_bytes"] == 1234
    assert last["mfu"] > 0
    assert " MFU " in capsys.readouterr().err
    assert not {"mfu", "peak_memory_bytes"} & lines(finished)[-1].keys()  # a CPU


def test_the_number_of_checkpoints_that_stay_is_an_option(
    shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [part for override in tiny for part in ("--set", override)]
    arguments = ["pretrain", "run", str(shards), "--recipe", "mae-tiny", "--out", str(tmp_path / "out"), "--keep-last", "3", *options]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as left:
        command(app, "pretrain")
    assert left.value.code == 0
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path / "out" / "checkpoints")] == ["step-6", "step-9", "step-12"]


def test_activation_checkpointing_changes_nothing_but_memory(finished: Path, shards: Path, tiny: list[str], tmp_path: Path) -> None:
    run(shards, tmp_path / "out", [*tiny, "engine.activation_checkpointing=true"])
    assert sha256_file(tmp_path / "out" / "backbone.safetensors") == sha256_file(finished / "backbone.safetensors")


def test_a_run_goes_on_with_another_engine(
    finished: Path, shards: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*args: Any) -> None:
        raise OSError(errno.EIO, "power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Mae, "end_step", lambda self, step: power_cut() if step == 4 else None)
        with pytest.raises(OSError, match="power cut"):
            run(shards, tmp_path / "out", tiny)
    run(shards, tmp_path / "out", [*tiny, "engine.activation_checkpointing=true", "engine.fsdp=true"])
    assert sha256_file(tmp_path / "out" / "backbone.safetensors") == sha256_file(finished / "backbone.safetensors")
