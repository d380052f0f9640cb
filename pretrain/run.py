"""A training run from beginning to end: its folder, its identity, going on where it stopped, its result."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curate import UserError, provenance, read_json, same_or_refuse, sweep, worker_count, write_json
from curate.console import say, warn
from pretrain.backbone import write_backbone
from pretrain.batch import Batch
from pretrain.checkpoint import State, resume, save_checkpoint, whole_tensors
from pretrain.data import Loader
from pretrain.distributed import Job, Place, find_place, processes, shard_parameters, spread
from pretrain.hardware import block_parts, prepare, set_up_gpu
from pretrain.initial import describe_start, start_from
from pretrain.journal import Journal, last_logged_loss
from pretrain.loop import train
from pretrain.method import Method, build_method
from pretrain.order import batch_generator, view_generator
from pretrain.recipe import METHODS, Recipe, read_recipe
from pretrain.source import Source, open_source
from pretrain.stream import Stream

_PICTURED = 6  # images in a reconstruction picture
_LARGE = 50_000  # images from which a large model is the default on a GPU


def pick_recipe(device: torch.device, images: int | None, method: str = "mae") -> tuple[str, str]:
    """Choose a method's recipe for the hardware and the shard set.

    Args:
        device: where it will be trained.
        images: in the shard set; a large model has nothing to learn from a few thousand, and its recipe is weeks long. None:
            nobody has counted them, as of a stream, which is taken to be large.
        method: ``"mae"`` or ``"dinov2"``.

    Returns:
        Its name, and the sentence that says why.
    """
    tiny, large = f"{method}-tiny", f"{method}-vit-base"
    if device.type != "cuda":
        return tiny, f"recipe {tiny}, as there is no GPU ({torch.get_num_threads()} CPU threads); choose another with --recipe"
    if images is not None and images < _LARGE:
        return tiny, f"recipe {tiny}, as there are only {images:,} images; choose another with --recipe"
    name = torch.cuda.get_device_name(device)
    counted = f"there are {images:,} images and" if images is not None else "the images are streamed and there is"
    return large, f"recipe {large}, as {counted} a GPU ({name}); choose another with --recipe"


def name_recipe(recipe: str | None, device: torch.device, images: int | None) -> str:
    """Give the recipe that was named, or where there is none, or only a method, the one for the hardware, and say so.

    Args:
        recipe: name or path of a recipe, ``"mae"`` or ``"dinov2"``, or None.
        device: as for `pick_recipe`.
        images: likewise.
    """
    if recipe is not None and recipe not in METHODS:
        return recipe
    name, reason = pick_recipe(device, images, recipe or "mae")
    say(reason)
    return name


def pick_device(name: str | None, place: Place | None = None) -> torch.device:
    """Choose where to train: the named device, or the first GPU, or the CPU.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; None: a GPU where there is one.
        place: of this process. Of several, each takes the GPU of its number on the machine.

    Raises:
        UserError: where the device is not there.
    """
    place = place or Place()
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: give cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and place.world > 1:
        if device.index is not None:
            raise UserError(f"--device {name}: several processes take one GPU each; give --device cuda")
        # SLURM may show each task its own GPU alone.
        device = torch.device("cuda", 0 if torch.cuda.device_count() == 1 and not os.environ.get("LOCAL_RANK") else place.local_rank)
        if device.index >= torch.cuda.device_count():
            raise UserError(
                f"{place.local_world} processes on this machine and {torch.cuda.device_count()} GPUs that torch can use; start one a GPU"
            )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs that torch can use")
    return device


def build_optimizer(method: Method, recipe: Recipe) -> torch.optim.Optimizer:
    """Make AdamW with the method's groups; the learning rate is set anew at every step."""
    return torch.optim.AdamW(method.groups(recipe.optim), lr=0.0, betas=recipe.optim.betas, fused=True)


@dataclass
class Stop:
    """Whether a signal has asked the run to stop, and which."""

    signal: int | None = None

    def asked(self) -> int:
        """Give its number, or 0."""
        return self.signal or 0


@contextmanager
def watch_signals(*, launched: bool = False) -> Iterator[Stop]:
    """Turn SIGTERM, SIGUSR1 (a scheduler's warning) and SIGINT into a request; the second one acts at once.

    Args:
        launched: by torchrun or srun: these hand on a signal that the process has already had, so a second one means nothing.
    """
    stop = Stop()
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        stop.signal = number
        if not launched:
            signal.signal(number, before[number] or signal.SIG_DFL)

    try:
        for caught in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            before[int(caught)] = signal.signal(caught, ask)
    except ValueError:  # not the main thread: signals are somebody else's business
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def _alone_in(folder: Path, job: Job) -> Iterator[None]:
    """Keep a second job out of the folder; the first process holds the lock for all."""
    if not job.first:
        job.from_first(lambda: None)
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        job.from_first(lambda: _lock(descriptor, folder))
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{folder}: another process is training here; wait for it, or choose another folder with --out") from None


def run_pretraining(
    shards: str | Path | None = None,
    *,
    mix: Sequence[str] = (),
    recipe: str | None = None,
    out: str | Path | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    seed: int = 0,
    samples: int | None = None,
    workers: int = 0,
    device: str | None = None,
    init: str | None = None,
) -> dict[str, Any]:
    """Train a backbone on a shard set, or go on with it, or find it finished.

    Args:
        shards: the shard set's folder, or addresses of tars to stream.
        mix: several sets instead, ``"FOLDER=WEIGHT"`` each.
        recipe: name or path; a method's name alone (``"mae"``, ``"dinov2"``): its recipe for the hardware; None: MAE's.
        out: the run's folder; None: ``runs/<recipe>``.
        overrides: ``"field=value"`` each, as for `read_recipe`.
        seed: of the initial weights, the order, the views and the masks.
        samples: length of the run in samples seen, instead of the recipe's.
        workers: loader threads of each process; 0: one a core. Never changes the result.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; None: the first GPU, or the CPU.
        init: weights to start from, see `pretrain.initial.start_from`; None: untrained ones.

    Started by torchrun or srun, every process of the job must call this alike, and they train one model together.

    Returns:
        status ("finished" or "interrupted"), run (its folder), step, and for a finished one the result of ``run.json``.

    Raises:
        UserError: for a recipe, shard set or folder that does not fit; nothing is written then.
    """
    place = find_place(os.environ)
    with processes(place, lambda: pick_device(device, place)) as (job, where):
        if seed < 0 or seed >= 2**31:
            raise UserError(f"--seed {seed}: give a number from 0 to 2147483647")
        source = open_source(shards, mix)
        resolved = read_recipe(name_recipe(recipe, where, source.images), overrides, samples=samples)
        folder = Path(out) if out is not None else Path("runs") / resolved.name
        start = describe_start(init) if init is not None else None
        inputs = source.inputs | ({"init": start["sha256"]} if start is not None else {})
        made_by = provenance(specification={**resolved.decisive(), **source.specification}, inputs=inputs, seed=seed)
        there = job.from_first(lambda: _look(folder, made_by))
        if there is not None and there["status"] == "finished":
            say(f"{folder}: finished already, nothing to do (another --seed or recipe needs another --out)")
            return _finished(folder, there)
        before = there["environment"] if there is not None else {}
        if where.type == "cpu" and before.get("threads") and before.get("processes", 1) == job.world:
            torch.set_num_threads(before["threads"])  # sums are taken in the same order as before the stop

        # Before anything is written: these find what does not fit.
        set_up_gpu(resolved.engine, where)
        method = build_method(resolved, seed=seed)
        if init is not None:
            start_from(init, method, resolved)
        method.to(where)
        loader = source.loader(
            method.views(resolved.data),
            batch=resolved.optim.batch,
            seed=seed,
            workers=workers or max(1, worker_count(0) // place.local_world),
            rank=job.rank,
            world=job.world,
        )
        sharded = resolved.engine.fsdp and job.world > 1
        prepare(method, resolved.engine, where, sharded=sharded)
        if resolved.engine.fsdp and not sharded:
            warn("--fsdp: one process has nobody to share the weights with; start several with torchrun")
        if sharded:
            shard_parameters(method, block_parts(method), job, where)
        state = State(method, build_optimizer(method, resolved))
        pictured: list[Batch] = []
        job.from_first(lambda: pictured.append(_pictured(loader, seed)))
        if job.first:
            folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder, job), watch_signals(launched=place.launched) as stop:
            about = job.from_first(lambda: there or _begin(folder, made_by, resolved, source, start, where, job.world))
            if resume(folder / "checkpoints", state, job):
                say(f"{folder}: goes on after step {state.step:,} of {resolved.optim.steps:,}")
            return _train(folder, about, state, loader, resolved, pictured, job=job, device=where, stop=stop, seed=seed)


def _look(folder: Path, made_by: dict[str, Any]) -> dict[str, Any] | None:
    """Give the ``run.json`` of the same run where there is one; refuse anything else."""
    if (folder / "run.json").exists():
        there = read_json(folder / "run.json", "a run")
        same_or_refuse(folder, there.get("made_by", {}), made_by)
        return there
    if folder.exists() and (not folder.is_dir() or any(p for p in folder.iterdir() if not p.name.endswith(".tmp"))):
        raise UserError(f"{folder}: exists and is not a run; choose another folder with --out")
    return None


def _begin(
    folder: Path,
    made_by: dict[str, Any],
    recipe: Recipe,
    source: Source,
    start: dict[str, Any] | None,
    device: torch.device,
    processes: int,
) -> dict[str, Any]:
    import timm

    about = {
        "made_by": made_by,
        "name": folder.name,
        "recipe": recipe.model_dump(mode="json"),
        "shards": source.about,
        "init": start,
        "environment": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "processes": processes,
        },
        "status": "running",
    }
    write_json(folder / "run.json", about)
    return about


def _train(
    folder: Path,
    about: dict[str, Any],
    state: State,
    loader: Loader | Stream,
    recipe: Recipe,
    pictured: list[Batch],
    *,
    job: Job,
    device: torch.device,
    seed: int,
    stop: Stop,
) -> dict[str, Any]:
    journal = None
    if job.first:
        sample, flops = pictured[0].to(device), state.method.flops()
        journal = Journal(folder, recipe, step=state.step, sample=sample, flops=flops, device=device, processes=job.world)

    def draw() -> None:
        method = _whole_method(state.method, recipe, job, device)
        if journal is not None:
            journal.picture(method, state.step)

    def write_checkpoint() -> None:
        save_checkpoint(folder / "checkpoints", state, keep_last=recipe.log.keep_last, job=job)

    try:
        if state.step < recipe.optim.steps:
            stopped = train(
                state,
                loader,
                recipe,
                journal,
                model=spread(state.method, job, device),
                job=job,
                device=device,
                seed=seed,
                stop_asked=stop.asked,
                checkpoint=write_checkpoint,
                picture=draw,
            )
            if stopped:
                if journal is not None:
                    journal.end_line()
                name = signal.Signals(stopped).name
                warn(f"{name}: checkpoint written after step {state.step:,} of {recipe.optim.steps:,}; run the same command again to go on")
                return {"status": "interrupted", "run": str(folder), "step": state.step, "signal": stopped}
            write_checkpoint()
        draw()
    finally:
        if journal is not None:
            journal.close()
        loader.close()
    if state.damaged:
        shown = ", ".join(sorted(state.damaged)[:5])
        more = ", ..." if len(state.damaged) > 5 else ""
        warn(f"{len(state.damaged)} damaged samples were replaced by others ({shown}{more}); {loader.advice}")
    method = _whole_method(state.method, recipe, job, device)
    return job.from_first(lambda: _conclude(folder, about, state, method, recipe))


def _whole_method(method: Method, recipe: Recipe, job: Job, device: torch.device) -> Method:
    """Give the method itself, or where processes share its weights a whole copy of it in the first process."""
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(method, FSDPModule):
        return method
    tensors = whole_tensors(method.state_dict(), job)
    if not job.first:
        return method
    copy = build_method(recipe, seed=0)
    copy.load_state_dict(tensors, strict=True)
    return copy.to(device)


def _conclude(folder: Path, about: dict[str, Any], state: State, method: Method, recipe: Recipe) -> dict[str, Any]:
    result = {
        "steps": state.step,
        "samples_seen": state.step * recipe.optim.batch,
        "final_loss": last_logged_loss(folder / "log.jsonl"),
        "backbone_sha256": write_backbone(folder, method.result, recipe, name=folder.name),
        "damaged_samples": sorted(state.damaged),
    }
    sweep(folder)
    write_json(folder / "run.json", {**about, "status": "finished", "result": result})
    return _finished(folder, {**about, "result": result})


def _finished(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    return {"status": "finished", "run": str(folder), "step": about["result"]["steps"], **about["result"]}


def _pictured(loader: Loader | Stream, seed: int) -> Batch:
    """Take the first readable photographs of the shard set, whole but for the sides, for the pictures."""
    images = loader.photographs(_PICTURED)
    if not images:
        raise UserError(f"{loader.folder}: none of the first photographs looked at can be decoded; {loader.advice}")
    whole = loader.views.whole()
    batch = whole.allocate(len(images))
    dealt = whole.deal(len(images), batch_generator(seed, 0))
    for place, (i, image) in enumerate(images):
        whole.fill(batch, place, image, view_generator(seed, 0, i), dealt[place])
    return batch
