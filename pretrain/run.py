"""A training run from beginning to end: its folder, its identity, going on where it stopped, its result."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curate import ShardSet, UserError, open_shards, provenance, read_json, same_or_refuse, sweep, write_json
from curate.console import say, warn
from pretrain.backbone import write_backbone
from pretrain.batch import Batch
from pretrain.checkpoint import State, resume, save_checkpoint
from pretrain.data import Loader
from pretrain.journal import Journal, last_logged_loss
from pretrain.loop import train
from pretrain.method import Method, build_method
from pretrain.order import batch_generator, view_generator
from pretrain.recipe import Recipe, read_recipe

_PICTURED = 6  # images in a reconstruction picture
_LARGE = 50_000  # images from which a large model is the default on a GPU


def pick_recipe(device: torch.device, images: int) -> tuple[str, str]:
    """Choose a recipe for the hardware and the shard set.

    Args:
        device: where it will be trained.
        images: in the shard set; a large model has nothing to learn from a few thousand, and its recipe is weeks long.

    Returns:
        Its name, and the sentence that says why.
    """
    if device.type != "cuda":
        return "mae-tiny", f"recipe mae-tiny, as there is no GPU ({torch.get_num_threads()} CPU threads); choose another with --recipe"
    if images < _LARGE:
        return "mae-tiny", f"recipe mae-tiny, as there are only {images:,} images; choose another with --recipe"
    name = torch.cuda.get_device_name(device)
    return "mae-vit-base", f"recipe mae-vit-base, as there are {images:,} images and a GPU ({name}); choose another with --recipe"


def pick_device(name: str | None) -> torch.device:
    """Choose where to train: the named device, or the first GPU, or the CPU.

    Raises:
        UserError: where the named device is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: give cpu, cuda or cuda:N")
    device = torch.device(name)
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

    def asked(self) -> bool:
        """Say whether it has."""
        return self.signal is not None


@contextmanager
def watch_signals() -> Iterator[Stop]:
    """Turn SIGTERM, SIGUSR1 (a scheduler's warning) and SIGINT into a request; the second one acts at once."""
    stop = Stop()
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        stop.signal = number
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
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second process out of the folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"{folder}: another process is training here; wait for it, or choose another folder with --out") from None
    finally:
        os.close(descriptor)


def run_pretraining(
    shards: str | Path,
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    seed: int = 0,
    samples: int | None = None,
    workers: int = 0,
    device: str | None = None,
) -> dict[str, Any]:
    """Train a backbone on a shard set, or go on with it, or find it finished.

    Args:
        shards: the shard set's folder.
        recipe: name or path; None: one for the hardware.
        out: the run's folder; None: ``runs/<recipe>``.
        overrides: ``"field=value"`` each, as for `read_recipe`.
        seed: of the initial weights, the order, the views and the masks.
        samples: length of the run in samples seen, instead of the recipe's.
        workers: loader threads; 0: one a core. Never changes the result.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; None: the first GPU, or the CPU.

    Returns:
        status ("finished" or "interrupted"), run (its folder), step, and for a finished one the result of ``run.json``.

    Raises:
        UserError: for a recipe, shard set or folder that does not fit; nothing is written then.
    """
    where = pick_device(device)
    if seed < 0 or seed >= 2**31:
        raise UserError(f"--seed {seed}: give a number from 0 to 2147483647")
    opened = open_shards(Path(shards))
    if recipe is None:
        recipe, reason = pick_recipe(where, len(opened))
        say(reason)
    resolved = read_recipe(recipe, overrides, samples=samples)
    folder = Path(out) if out is not None else Path("runs") / resolved.name
    made_by = provenance(specification=resolved.decisive(), inputs={"shards": opened.digest}, seed=seed)
    there = _look(folder, made_by)
    if there is not None and there["status"] == "finished":
        say(f"{folder}: finished already, nothing to do (another --seed or recipe needs another --out)")
        return _finished(folder, there)
    if where.type == "cpu" and there is not None and there["environment"]["threads"]:
        torch.set_num_threads(there["environment"]["threads"])  # sums are taken in the same order as before the stop

    method = build_method(resolved, seed=seed).to(where)  # before anything is written: these two find what does not fit
    loader = Loader(opened, method.views(resolved.data), batch=resolved.optim.batch, seed=seed, workers=workers)
    state = State(method, build_optimizer(method, resolved))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder), watch_signals() as stop:
        about = there or _begin(folder, made_by, resolved, opened, Path(shards), where)
        if resume(folder / "checkpoints", state):
            say(f"{folder}: goes on after step {state.step:,} of {resolved.optim.steps:,}")
        return _train(folder, about, state, loader, resolved, device=where, seed=seed, stop=stop)


def _look(folder: Path, made_by: dict[str, Any]) -> dict[str, Any] | None:
    """Give the ``run.json`` of the same run where there is one; refuse anything else."""
    if (folder / "run.json").exists():
        there = read_json(folder / "run.json", "a run")
        same_or_refuse(folder, there.get("made_by", {}), made_by)
        return there
    if folder.exists() and (not folder.is_dir() or any(p for p in folder.iterdir() if not p.name.endswith(".tmp"))):
        raise UserError(f"{folder}: exists and is not a run; choose another folder with --out")
    return None


def _begin(folder: Path, made_by: dict[str, Any], recipe: Recipe, shards: ShardSet, given: Path, device: torch.device) -> dict[str, Any]:
    import timm

    about = {
        "made_by": made_by,
        "name": folder.name,
        "recipe": recipe.model_dump(mode="json"),
        "shards": {"name": shards.about.get("name"), "digest": shards.digest, "images": len(shards), "path": str(given)},
        "environment": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
        },
        "status": "running",
    }
    write_json(folder / "run.json", about)
    return about


def _train(
    folder: Path, about: dict[str, Any], state: State, loader: Loader, recipe: Recipe, *, device: torch.device, seed: int, stop: Stop
) -> dict[str, Any]:
    journal = Journal(folder, recipe, step=state.step, sample=_sample(loader, seed).to(device))

    def write_checkpoint() -> None:
        save_checkpoint(folder / "checkpoints", state, keep_last=recipe.log.keep_last)

    try:
        if state.step < recipe.optim.steps:
            ended = train(
                state,
                loader,
                recipe,
                journal,
                device=device,
                seed=seed,
                stop_asked=stop.asked,
                checkpoint=write_checkpoint,
            )
            if not ended:
                journal.end_line()
                name = signal.Signals(stop.signal or 0).name
                warn(f"{name}: checkpoint written after step {state.step:,} of {recipe.optim.steps:,}; run the same command again to go on")
                return {"status": "interrupted", "run": str(folder), "step": state.step, "signal": stop.signal}
            write_checkpoint()
        journal.picture(state.method, state.step)
    finally:
        journal.close()
        loader.shards.close()
    if state.damaged:
        shown = ", ".join(sorted(state.damaged)[:5])
        more = ", ..." if len(state.damaged) > 5 else ""
        warn(f"{len(state.damaged)} damaged samples were replaced by others ({shown}{more}); run: curate verify {loader.shards.folder}")
    result = {
        "steps": state.step,
        "samples_seen": state.step * recipe.optim.batch,
        "final_loss": last_logged_loss(folder / "log.jsonl"),
        "backbone_sha256": write_backbone(folder, state.method.result, recipe, name=folder.name),
        "damaged_samples": sorted(state.damaged),
    }
    sweep(folder)
    write_json(folder / "run.json", {**about, "status": "finished", "result": result})
    return _finished(folder, {**about, "result": result})


def _finished(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    return {"status": "finished", "run": str(folder), "step": about["result"]["steps"], **about["result"]}


def _sample(loader: Loader, seed: int) -> Batch:
    """Take the first readable photographs of the shard set, whole but for the sides, for the pictures."""
    whole = loader.views.whole()
    # Evenly spread over the set, so that a set in the order of its sources shows more than the first of them.
    spread = [i * len(loader.keys) // _PICTURED for i in range(_PICTURED)] if len(loader.keys) > _PICTURED else range(len(loader.keys))
    images = [(i, image) for i in spread if (image := loader.decode(i)) is not None]
    batch = whole.allocate(len(images))
    dealt = whole.deal(len(images), batch_generator(seed, 0))
    for place, (i, image) in enumerate(images):
        whole.fill(batch, place, image, view_generator(seed, 0, i), dealt[place])
    return batch
