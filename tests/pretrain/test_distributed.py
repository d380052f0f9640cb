"""Several processes that train one model: equal to one process, resumed by another number, stopped and ended together."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from curate import UserError, open_shards, read_json
from pretrain import checkpoint, run_pretraining
from pretrain.data import Loader
from pretrain.distributed import Place, find_place
from pretrain.mae import Mae, MaeViews
from pretrain.recipe import Data

ROOT = Path(__file__).parents[2]
EVERY_STEP = "log={every: 1, checkpoint_every: 3, pictures_every: 1000}"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def process(rank: int, world: int, port: int, said: Path, shards: Path, out: Path, tiny: list[str], prepare: Any) -> None:
    """Be one process of a job: what the command does, with what it says in a file and the result of `run` as exit code 0."""
    os.environ.update({"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    sys.stderr = sys.stdout = open(said, "a", buffering=1)  # noqa: SIM115 - until the process ends
    if prepare is not None:
        prepare(rank)
    try:
        run_pretraining(shards, recipe="mae-tiny", overrides=tiny, out=out, workers=1, device="cpu")
    except SystemExit as left:
        os._exit(int(left.code or 0))
    except Exception as error:
        print(f"error: {error}")
        os._exit(2)
    os._exit(0)


@contextmanager
def job(
    world: int, shards: Path, out: Path, tiny: list[str], prepare: Callable[[int], None] | None = None
) -> Iterator[tuple[list[Any], Path]]:
    """Start the processes of a job as forks, which have torch already; gives them and the file of what they say."""
    said, port = out.with_suffix(".said"), free_port()
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=process, args=(rank, world, port, said, shards, out, tiny, prepare)) for rank in range(world)]
    for one in started:
        one.start()
    try:
        yield started, said
    finally:
        for one in started:
            one.join(60)
            if one.is_alive():
                one.kill()


def train(world: int, shards: Path, out: Path, tiny: list[str], prepare: Callable[[int], None] | None = None) -> tuple[list[int], str]:
    """Run a job to its end; gives the exit codes and what was said."""
    with job(world, shards, out, tiny, prepare) as (started, said):
        pass
    return [one.exitcode for one in started], said.read_text()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same_training(a: Path, b: Path) -> None:
    """Compare two runs step by step, and their weights."""
    for x, y in zip(lines(a), lines(b), strict=True):
        assert x["step"] == y["step"]
        assert x["loss"] == pytest.approx(y["loss"], rel=1e-5)
        assert x["gradient_norm"] == pytest.approx(y["gradient_norm"], rel=1e-4)
    weights = [checkpoint.read_safetensors(folder / "backbone.safetensors") for folder in (a, b)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place()),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, Place(5, 8, 1, 4, True)),
        ({"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "x"}, Place(0, 1, 0, 1, True)),
        (
            {"SLURM_PROCID": "9", "SLURM_STEP_NUM_TASKS": "16", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "8(x2)"},
            Place(9, 16, 1, 8, True),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "16"}, Place()),  # a batch script, not a step
    ],
)
def test_a_process_finds_its_place(environment: dict[str, str], place: Place) -> None:
    assert find_place(environment) == place


@pytest.mark.parametrize("environment", [{"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}])
def test_a_place_that_cannot_be_is_one_line(environment: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"RANK.*unset them to train in one process"):
        find_place(environment)


@pytest.mark.parametrize("world", [2, 4])
def test_the_slices_of_the_processes_make_up_the_global_batch(shards: Path, world: int) -> None:
    views = MaeViews(Data(size=32), patches=16, kept=4)
    opened = open_shards(shards)
    whole = list(Loader(opened, views, batch=12, seed=5, workers=1).batches(0, 4))
    slices = [list(Loader(opened, views, batch=12, seed=5, workers=2, rank=r, world=world).batches(0, 4)) for r in range(world)]
    for step, batch in enumerate(whole):
        assert [key for part in slices for key in part[step].keys] == batch.keys
        for name, tensor in batch.tensors.items():
            assert torch.equal(torch.cat([part[step][name] for part in slices]), tensor)


def test_a_batch_that_cannot_be_shared_out_evenly_is_one_line(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    codes, said = train(3, shards, tmp_path / "out", tiny)
    assert codes == [2, 2, 2]
    assert said.splitlines() == ["error: optim.batch=8 cannot be shared out evenly to 3 processes; start a number that divides it"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [[], ["optim.micro_batch=2", "optim.clip=0.5"], ["engine.fsdp=true", "optim.micro_batch=2"]])
def test_two_processes_agree_with_one_step_by_step(shards: Path, tiny: list[str], tmp_path: Path, more: list[str]) -> None:
    tiny = [*tiny, EVERY_STEP, *more]
    run_pretraining(shards, recipe="mae-tiny", overrides=tiny, out=tmp_path / "one", workers=1, device="cpu")
    codes, said = train(2, shards, tmp_path / "two", tiny)
    assert codes == [0, 0], said
    same_training(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "pictures" / "step-12.png").exists()


@pytest.mark.parametrize(("before", "after"), [("engine.fsdp=true", "engine.fsdp=false"), ("engine.fsdp=false", "engine.fsdp=true")])
@pytest.mark.parametrize("worlds", [(1, 2), (2, 1)])
def test_a_checkpoint_resumes_on_another_number_of_processes(
    shards: Path, tiny: list[str], tmp_path: Path, worlds: tuple[int, int], before: str, after: str
) -> None:
    tiny = [*tiny, EVERY_STEP]
    run_pretraining(shards, recipe="mae-tiny", overrides=tiny, out=tmp_path / "one", workers=1, device="cpu")
    first, second = worlds
    codes, said = train(first, shards, tmp_path / "out", [*tiny, before], prepare=interrupt(rank=first - 1, step=6))
    assert codes == [0] * first, said
    assert said.splitlines()[-1].startswith("note: SIGTERM: checkpoint written after step 7 of 12")
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path / "out" / "checkpoints")] == ["step-6", "step-7"]
    codes, said = train(second, shards, tmp_path / "out", [*tiny, after])
    assert codes == [0] * second, said
    assert "goes on after step 7 of 12" in said
    same_training(tmp_path / "one", tmp_path / "out")


def interrupt(*, rank: int, step: int, number: signal.Signals = signal.SIGTERM) -> Callable[[int], None]:
    """Make what sends one process of the job a signal in a step."""

    def prepare(own: int) -> None:
        loss = Mae.loss

        def interrupted(self: Mae, batch: Any, at: int) -> torch.Tensor:
            if own == rank and at == step:
                os.kill(os.getpid(), number)
            return loss(self, batch, at)

        Mae.loss = interrupted  # type: ignore[method-assign]

    return prepare


def test_a_signal_to_one_process_stops_all_at_the_same_step(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    codes, said = train(2, shards, tmp_path / "out", tiny, prepare=interrupt(rank=1, step=4, number=signal.SIGUSR1))
    assert codes == [0, 0]
    assert [line for line in said.splitlines() if "SIGUSR1" in line] == [
        "note: SIGUSR1: checkpoint written after step 5 of 12; run the same command again to go on"
    ]
    assert read_json(tmp_path / "out" / "checkpoints" / "step-5" / "state.json", "a checkpoint")["step"] == 5
    assert read_json(tmp_path / "out" / "run.json", "a run")["environment"]["processes"] == 2


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_job_with_one_line_and_the_job_goes_on(
    shards: Path, tiny: list[str], tmp_path: Path, killed: int
) -> None:
    out, tiny = tmp_path / "out", [*tiny, EVERY_STEP]
    started = time.monotonic()
    codes, said = train(2, shards, out, tiny, prepare=interrupt(rank=killed, step=5, number=signal.SIGKILL))
    assert time.monotonic() - started < 60
    assert (codes[killed], codes[1 - killed]) == (-signal.SIGKILL, 2)
    told = [line for line in said.splitlines() if not line.startswith("step ")]
    assert len(told) == 1
    assert told[0].startswith("error: one of the 2 processes of this job has gone")
    codes, said = train(2, shards, out, tiny)
    assert codes == [0, 0]
    assert "goes on after step 3 of 12" in said
    run_pretraining(shards, recipe="mae-tiny", overrides=tiny, out=tmp_path / "one", workers=1, device="cpu")
    same_training(tmp_path / "one", out)


def test_a_fault_of_one_process_is_told_once(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    def prepare(rank: int) -> None:
        loss = Mae.loss

        def fails(self: Mae, batch: Any, step: int) -> torch.Tensor:
            if rank == 1 and step == 4:
                raise UserError("a cable came loose")
            return loss(self, batch, step)

        Mae.loss = fails  # type: ignore[method-assign]

    codes, said = train(2, shards, tmp_path / "out", tiny, prepare=prepare)
    assert codes == [2, 2]
    assert [line for line in said.splitlines() if not line.startswith("step ")] == ["error: a cable came loose"]


def test_a_disk_that_is_full_for_the_first_process_is_told_once(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    def prepare(rank: int) -> None:
        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device", "model.safetensors")

        checkpoint.write_safetensors = full

    codes, said = train(2, shards, tmp_path / "out", tiny, prepare=prepare)
    assert codes == [2, 2]
    assert [line for line in said.splitlines() if not line.startswith("step ")] == [
        "error: [Errno 28] No space left on device: 'model.safetensors'"
    ]


def test_a_loss_that_is_no_number_in_one_process_stops_all_and_names_everything(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    def prepare(rank: int) -> None:
        loss = Mae.loss

        def blown(self: Mae, batch: Any, step: int) -> torch.Tensor:
            return loss(self, batch, step) * (math.nan if rank == 1 and step in (4, 5, 6) else 1.0)

        Mae.loss = blown  # type: ignore[method-assign]

    codes, said = train(2, shards, tmp_path / "out", tiny, prepare=prepare)
    assert codes == [2, 2]
    told = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "the loss is nan in steps 4, 5, 6 " in told[0]
    listed = told[0].split("the last batch holds ")[1].split(";")[0]
    assert len(listed.split(", ")) == 8  # of both processes


def test_damaged_samples_of_all_processes_are_reported(
    own_shards: Path, tiny: list[str], tmp_path: Path, damage_row: Callable[[Path, int], str]
) -> None:
    keys = [damage_row(own_shards, row) for row in range(6)]
    codes, said = train(2, own_shards, tmp_path / "out", tiny)
    assert codes == [0, 0], said
    assert read_json(tmp_path / "out" / "run.json", "a run")["result"]["damaged_samples"] == sorted(keys)


def test_a_finished_run_is_found_finished_by_all(finished: Path, shards: Path, tiny: list[str], tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    with job(2, shards, finished, tiny) as (started, said):
        pass
    assert [one.exitcode for one in started] == [0, 0]
    assert said.read_text().count("finished already") == 1
    said.unlink()
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_torchrun_ends_within_a_minute_of_a_kill_and_goes_on(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = [part for override in [*tiny, "optim.samples=160", "log.checkpoint_every=2"] for part in ("--set", override)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pretrain", "run", str(shards)]
    command += ["--recipe", "mae-tiny", "--out", str(out), "--workers", "1", "--device", "cpu", *options]
    # One process of the first start is killed by itself, in its fifth step, through a module that Python loads at its start.
    (tmp_path / "sitecustomize.py").write_text(KILLED_IN_STEP_FIVE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    broken = subprocess.run(
        command, cwd=ROOT, env={**environment, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert time.monotonic() - started < 60
    assert broken.returncode != 0
    assert broken.stderr.count("error: one of the 2 processes of this job has gone") == 1
    assert [p.name for p in checkpoint.list_checkpoints(out / "checkpoints")] == ["step-2", "step-4"]
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert "goes on after step 4 of 20" in again.stdout
    assert read_json(out / "run.json", "a run")["status"] == "finished"


KILLED_IN_STEP_FIVE = """
import os, signal, sys, threading
if os.environ.get("RANK") == "1":
    def wait():
        import time
        while not (module := sys.modules.get("pretrain.mae.method")) or not hasattr(module, "Mae"):
            time.sleep(0.001)
        loss = module.Mae.loss
        def killed(self, batch, step):
            if step == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return loss(self, batch, step)
        module.Mae.loss = killed
    threading.Thread(target=wait, daemon=True).start()
"""
