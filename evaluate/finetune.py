"""Adaptation by training on the photographs themselves: fine-tuning, and the paper's linear probe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate import UserError, writing
from evaluate.augmentation import Views, seed_of
from evaluate.classifiers import logistic_head
from evaluate.features import Loader, Model, normalise
from evaluate.heads import Truth, validation_auroc
from evaluate.stored import StoredImages
from evaluate.training import TrainingSettings, rate_at

SAVE_AFTER = 60.0  # seconds of training that may be lost when a process is killed
SAY_AFTER = 20.0  # seconds between two lines about one cell
EVALUATED = 64  # photographs of 224 x 224 pixels a forward pass of evaluation


@dataclass(frozen=True)
class ImageCell:
    """One model to be trained on one task with one seed.

    Attributes:
        task: its name, for messages.
        model: the backbone.
        loader: gives it.
        images: photographs of all tasks.
        places: (n,) which of them are the task's.
        split: (n,) ``train``, ``val`` or ``test``.
        truth: of the task's photographs.
        settings: of the training.
        frozen: whether the backbone is.
        seed: of everything random.
        result: the ``.npy`` file of probabilities.
        keep: where the best weights go, as safetensors; None: nowhere.
        first: file of the photographs at which to begin, where some are missing.
        threads: processes that decode for the GPU.
        talk: whether to say how far the training is.
    """

    task: str
    model: Model
    loader: Loader
    images: StoredImages
    places: NDArray[np.int64]
    split: NDArray[np.object_]
    truth: Truth
    settings: TrainingSettings
    frozen: bool
    seed: int
    result: Path
    keep: Path | None
    first: int
    threads: int
    talk: bool


def train_cell(cell: ImageCell) -> dict[str, Any]:
    """Train one cell, or go on where it was killed, and write the probabilities of its validation and test photographs.

    Returns:
        ``chosen``, one entry: ``epoch`` (from 1), ``validation_auroc`` there, ``every_epoch``, the validation AUROC of each
        (null where it diverged), and ``device``.
    Raises:
        UserError: where the training diverged, or the GPU's memory is too small.
    """
    import torch

    from evaluate.features import repeatable

    cell.images.fill(first=cell.first)
    try:
        with repeatable(), _own_chance(), _exact_attention():
            training = _Training(cell)
            training.run()
            training.write()
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"{cell.model.source}: the GPU's memory is too small to train it; free some, or give a smaller batch with --set"
        ) from None
    cell.result.with_suffix(".state").unlink(missing_ok=True)
    best = int(np.argmax(training.history))
    chosen = {
        "epoch": best + 1,
        "validation_auroc": training.history[best],
        "every_epoch": [value if math.isfinite(value) else None for value in training.history],
        "device": training.where.type,
    }
    return {"chosen": [chosen]}


class _Training:
    """The state of one cell's training."""

    def __init__(self, cell: ImageCell) -> None:
        import torch

        self.cell = cell
        self.backbone, info = cell.loader(cell.model.source)
        if info["sha256"] != cell.model.info["sha256"]:
            raise UserError(f"{cell.model.source}: the weights changed while they were being evaluated; run the same command again")
        self.where = next(self.backbone.parameters()).device
        _set_drop_path(self.backbone, cell.settings.drop_path)
        self.backbone.requires_grad_(not cell.frozen)
        self.head = self._new_head()
        self.network = torch.nn.ModuleDict({"backbone": self.backbone, "head": self.head})
        groups = [] if cell.frozen else _layer_groups(self.backbone, cell.settings)
        self.optimiser = torch.optim.AdamW([*groups, *_plain_groups(self.head, cell.settings)], lr=cell.settings.rate)
        self.history: list[float] = []
        self.best = self._snapshot()
        self.train_rows = np.flatnonzero(cell.split == "train")
        self.val_rows = np.flatnonzero(cell.split == "val")
        self._resume()

    def _new_head(self) -> Any:
        """Make the head: small as RETFound's, a normal distribution of deviation 2e-5 cut at two; or the best on the features."""
        import torch

        cell = self.cell
        self.backbone.eval()
        height, width = cell.model.info["input_size"][1:]
        with torch.inference_mode():
            features = self._features(torch.zeros(1, 3, height, width, device=self.where)).shape[1]
        torch.manual_seed(seed_of(cell.seed))
        head = torch.nn.Linear(features, cell.truth.classes)
        torch.nn.init.trunc_normal_(head.weight, std=2e-5, a=-4e-5, b=4e-5)
        torch.nn.init.zeros_(head.bias)
        if cell.settings.head == "probe" and not cell.result.with_suffix(".state").exists():  # else what was learned goes on
            rows = np.flatnonzero((cell.split == "train") | (cell.split == "val"))
            train, val = (cell.split[rows] == split for split in ("train", "val"))
            try:
                found = logistic_head(self._seen_whole(rows, self._features), cell.truth.of(rows), train, val)
            except ValueError as error:
                raise UserError(f"task {cell.task}: model {cell.model.name}: {error}") from None
            with torch.no_grad():
                for parameter, values in zip((head.weight, head.bias), found, strict=True):
                    parameter.copy_(torch.from_numpy(values))
        return head.to(self.where)

    def run(self) -> None:
        """Train to the last epoch, noting the best one."""
        settings = self.cell.settings
        clock = _Clock(self.cell, len(self.history))
        while len(self.history) < settings.epochs:
            self._train_epoch(len(self.history))
            quality = self._judge()
            if not self.history or quality > max(self.history):
                self.best = self._snapshot()
            self.history.append(quality)
            clock.say(self.history)
            if clock.due() and len(self.history) < settings.epochs:
                self._save()
        if math.isinf(max(self.history)):
            raise UserError(
                f"task {self.cell.task}: model {self.cell.model.name} diverged in every epoch (seed {self.cell.seed}); "
                "give a lower rate with --set"
            )

    def _judge(self) -> float:
        """Give the validation AUROC of the weights as they are."""
        logits = self.logits(self.val_rows)
        try:
            return validation_auroc(logits, self.cell.truth.of(self.val_rows))
        except ValueError as error:
            raise UserError(f"task {self.cell.task}: {error}") from None

    def _train_epoch(self, epoch: int) -> None:
        import torch

        settings, truth = self.cell.settings, self.cell.truth
        self.network.train()
        for module in self.backbone.modules() if self.cell.frozen else ():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()  # frozen, its running means included
        order = np.random.default_rng([seed_of(self.cell.seed), 1, epoch]).permutation(self.train_rows)
        steps = max(1, len(order) // settings.batch)  # as RETFound: photographs too few for a last batch wait for another epoch
        batches = [order[step * settings.batch : (step + 1) * settings.batch] for step in range(steps)]
        targets = torch.from_numpy(truth.values).float() * (1 - settings.smoothing)
        targets += settings.smoothing / (truth.classes if truth.exclusive else 2)
        known = torch.from_numpy(truth.known).float()
        for step, (rows, images) in enumerate(self._views(batches, epoch)):
            now = rate_at(epoch + step / steps, settings)
            for group in self.optimiser.param_groups:
                group["lr"] = now * group.get("lr_scale", 1.0)
            torch.manual_seed(seed_of(self.cell.seed, 2, epoch, step))
            logits = self._logits(images.to(self.where), training=True)
            wanted, weight = targets[rows].to(self.where), known[rows].to(self.where)
            if truth.exclusive:
                loss = torch.nn.functional.cross_entropy(logits, wanted)
            else:
                each = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, weight=weight, reduction="sum")
                loss = each / weight.sum().clamp(min=1)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()

    def _views(self, batches: Sequence[NDArray[np.int64]], epoch: int) -> Iterator[tuple[Any, Any]]:
        """Give each batch's rows and augmented views; on a GPU other processes work ahead."""
        import multiprocessing

        import torch

        ahead = self.cell.threads if self.where.type == "cuda" and not multiprocessing.current_process().daemon else 0
        sampled: Any = [rows.tolist() for rows in batches]
        loaded: Any = torch.utils.data.DataLoader(Views(self.cell, epoch), batch_sampler=sampled, num_workers=ahead)  # type: ignore[arg-type]
        for rows, images in zip(batches, loaded, strict=True):
            yield torch.from_numpy(rows), images

    def _features(self, images: Any) -> Any:
        """Turn (n, 3, H, W) images into (n, width) float32 features as the settings pool them."""
        import torch

        pooling, half = self.cell.settings.pooling, self.cell.settings.precision == "bfloat16"
        with torch.autocast(self.where.type, torch.bfloat16, enabled=half):
            tokens = self.backbone.forward_features(images)
            if tokens.ndim != 3 or not hasattr(self.backbone, "num_prefix_tokens"):
                return self.backbone.forward_head(tokens, pre_logits=True).float()
            with_class = getattr(self.backbone, "cls_token", None) is not None
            parts = [tokens[:, 0]] if with_class and pooling in ("class", "both") else []
            if pooling in ("mean", "both") or not parts:
                parts.append(tokens[:, self.backbone.num_prefix_tokens :].mean(dim=1))
            norm = getattr(self.backbone, "fc_norm", torch.nn.Identity())
            return torch.cat([norm(part) for part in parts], dim=1).float()

    def _logits(self, images: Any, *, training: bool) -> Any:
        import torch

        if training and self.cell.frozen:
            with torch.no_grad():
                features = self._features(images)
        else:
            features = self._features(images)
        return self.head(features)

    def logits(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the (n, classes) float32 logits of some photographs."""
        self.network.eval()
        return self._seen_whole(rows, lambda images: self._logits(images, training=False))

    def _seen_whole(self, rows: NDArray[np.int64], function: Callable[[Any], Any]) -> NDArray[np.float32]:
        """Give what a function makes of some photographs, seen whole; always in full batches, so that company changes nothing."""
        import torch

        info = self.cell.model.info
        _, height, width = info["input_size"]
        batch = max(1, min(EVALUATED, EVALUATED * 224 * 224 // (height * width)))
        found: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for start in range(0, len(rows), batch):
                some = [_central(self.cell.images[self.cell.places[row]], height, width) for row in rows[start : start + batch]]
                filled = np.stack(some + [some[-1]] * (batch - len(some)))
                found.append(function(normalise(filled, info).to(self.where)).float().cpu().numpy()[: len(some)])
        return np.concatenate(found)

    def write(self) -> None:
        """Write what the best epoch's weights give for the photographs that weren't trained on, and the weights where asked."""
        from curate import write_array

        self._restore(self.best)
        rows = np.flatnonzero(self.cell.split != "train")
        if self.cell.keep is not None:
            from safetensors.torch import save

            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
            with writing(self.cell.keep) as file:
                file.write(save(tensors, metadata={"format": "pt"}))
        write_array(self.cell.result, self.cell.truth.probabilities(self.logits(rows))[None])

    def _snapshot(self) -> dict[str, Any]:
        """Copy what training changes: of a frozen backbone nothing."""
        changing = self.head if self.cell.frozen else self.network
        return {name: tensor.detach().cpu().clone() for name, tensor in changing.state_dict().items()}

    def _restore(self, state: dict[str, Any]) -> None:
        (self.head if self.cell.frozen else self.network).load_state_dict(state)

    def _save(self) -> None:
        import torch

        state = {"now": self._snapshot(), "best": self.best, "history": self.history, "optimiser": self.optimiser.state_dict()}
        with writing(self.cell.result.with_suffix(".state")) as file:
            torch.save(state, file)

    def _resume(self) -> None:
        import torch

        path = self.cell.result.with_suffix(".state")
        if path.exists():
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._restore(state["now"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.best, self.history = state["best"], state["history"]


class _Clock:
    """When to save, and how long it will take."""

    def __init__(self, cell: ImageCell, done: int) -> None:
        self.cell, self.done = cell, done
        self.started = self.saved = self.said = time.monotonic()

    def due(self) -> bool:
        """Say whether to save now."""
        now = time.monotonic()
        due = now - self.saved >= SAVE_AFTER
        self.saved = now if due else self.saved
        return due

    def say(self, history: list[float]) -> None:
        """Print how far the cell is, now and then."""
        from curate import console

        now, epochs = time.monotonic(), self.cell.settings.epochs
        if not self.cell.talk or now - self.said < SAY_AFTER:
            return
        self.said = now
        left = (now - self.started) / (len(history) - self.done) * (epochs - len(history))
        name = (
            f"task {self.cell.task}, model {self.cell.model.name}, {'probe' if self.cell.frozen else 'fine-tuning'}, seed {self.cell.seed}"
        )
        console.warn(f"{name}: epoch {len(history)} of {epochs}, best validation AUROC {max(history):.3f}, {_duration(left)} left")


def _duration(seconds: float) -> str:
    """Say a duration in two units.

    Example:
        >>> _duration(42), _duration(3660)
        ('42 s', '1 h 01 min')
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def _own_chance() -> Iterator[None]:
    """Leave the random numbers of whoever calls as they were."""
    import torch

    numpy = np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_available() else []):
        try:
            yield
        finally:
            np.random.set_state(numpy)


@contextmanager
def _exact_attention() -> Iterator[None]:
    """On a GPU attend by the algorithm that adds in a fixed order: the fused ones' gradients differ from run to run."""
    import torch

    if not torch.cuda.is_available():
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


def _central(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _set_drop_path(backbone: Any, rate: float) -> None:
    """Give a transformer's blocks their chances of being skipped, from 0 at the first to `rate` at the last."""
    from timm.layers import DropPath

    blocks = [block for block in getattr(backbone, "blocks", []) if hasattr(block, "drop_path1")]
    for number, block in enumerate(blocks):
        chance = rate * number / max(1, len(blocks) - 1)
        block.drop_path1, block.drop_path2 = DropPath(chance), DropPath(chance)


def _layer_groups(backbone: Any, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Group a backbone's parameters by layer, each with its share of the learning rate (Clark et al. 2020, Bao et al. 2022)."""
    from timm.optim import param_groups_layer_decay

    if not hasattr(backbone, "group_matcher") or settings.layer_decay == 1:
        return _plain_groups(backbone, settings)
    without = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else ()
    groups = param_groups_layer_decay(backbone, settings.weight_decay, list(without), layer_decay=settings.layer_decay)
    # The layer above the backbone's last is the head, which timm doesn't see here.
    return [{**group, "lr_scale": group["lr_scale"] * settings.layer_decay} for group in groups]


def _plain_groups(module: Any, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Group parameters into matrices, which decay, and the rest, which don't."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = (([p for p in parameters if p.ndim > 1], settings.weight_decay), ([p for p in parameters if p.ndim <= 1], 0.0))
    return [{"params": some, "weight_decay": decay} for some, decay in groups if some]
