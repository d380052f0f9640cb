"""Features: each image once through each frozen backbone, in parts that are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate import UserError, run_parts, slices, to_eight_bits, worker_count, write_array, writing

if TYPE_CHECKING:
    import torch

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a model: it becomes part of file names
PART = 128  # images a part
BATCH = 32  # images of 224 x 224 pixels a forward pass, fewer where they are larger: fixed by the model, whoever computes
VIEW = "shorter side resized to the input size (bicubic, antialiased), central square, normalised with the model's mean and deviation"
POOLING = "class token and mean of the patch tokens, side by side (convolutional models: their own pooling)"

Loader = Callable[[str], tuple[Any, dict[str, Any]]]
Describer = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Model:
    """A backbone to be evaluated.

    Attributes:
        name: as given by the user.
        source: run folder, checkpoint file, ``timm:NAME`` or ``random:NAME``.
        info: architecture, sha256, input_size, mean, std, shards_digest.
    """

    name: str
    source: str
    info: dict[str, Any]

    def described(self) -> dict[str, Any]:
        """Give what an artefact says about the model."""
        return {
            "name": self.name,
            "path": self.source,
            "architecture": self.info["architecture"],
            "sha256": self.info["sha256"],
            "input_size": list(self.info["input_size"]),
            "shards": self.info.get("shards_digest"),
        }


class FeaturePart(NamedTuple):
    """A finished part.

    Attributes:
        path: of a ``.npy`` file, (readable images, width) float32.
        start: the first of its images.
        stop: the one behind its last.
        unreadable: places within the part of images that couldn't be read and have no row.
        device: ``"cpu"`` or ``"cuda"``: where it was computed.
    """

    path: Path
    start: int
    stop: int
    unreadable: list[int]
    device: str


def load_features_model(source: str) -> tuple[Any, dict[str, Any]]:
    """Load a backbone for features, on the GPU where there is one."""
    from pretrain import load_backbone

    return load_backbone(source, device=device())


def describe_features_model(source: str) -> dict[str, Any]:
    """Describe a backbone as `load_features_model` does; one that has a file isn't loaded for that."""
    from pretrain import describe_backbone

    return describe_backbone(source)


def device() -> str:
    """Name the device of this process's forward passes: processes that are numbered one after another take the GPUs in turn."""
    gpus = gpu_count()
    number = re.search(r"[0-9]+$", current_process().name)
    return f"cuda:{int(number[0]) % gpus if number else 0}" if gpus else "cpu"


def gpu_count() -> int:
    """Count the GPUs that this process may use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def extract_features(
    model: Model, paths: Sequence[Path], folder: Path, *, workers: int, loader: Loader = load_features_model
) -> NDArray[np.float32]:
    """Compute or resume the features of all images.

    Args:
        model: the backbone.
        paths: (n,) image files.
        folder: where finished parts and the result stay.
        workers: processes, or with GPUs a process each and threads that decode.
        loader: `source` -> (backbone in evaluation mode, info).

    Returns:
        (n, width) float32, memory-mapped from ``<folder>/<name>.npy``: the same bytes for any number of workers.

    Raises:
        UserError: where an image can't be read.
    """
    result = folder / f"{model.name}.npy"
    if not result.exists():
        parts_folder = folder / f"{model.name}.parts"
        parts = extract_parts(model, paths, parts_folder, workers=workers, loader=loader)
        write_rows(result, (np.load(part.path) for part in parts), len(paths))
        for path in parts_folder.iterdir():
            path.unlink()
        parts_folder.rmdir()
    return np.load(result, mmap_mode="r")


def extract_parts(
    model: Model,
    paths: Sequence[Path] | Sequence[str],
    folder: Path,
    *,
    workers: int,
    loader: Loader = load_features_model,
    root: Path = Path(),
    skip_unreadable: bool = False,
) -> list[FeaturePart]:
    """Compute or resume features, a file a part.

    Args:
        model: the backbone.
        paths: (n,) image files, relative to `root`.
        folder: for the parts, made where missing.
        workers: processes, or with GPUs a process each and threads that decode.
        loader: `source` -> (backbone in evaluation mode, info).
        root: of the images.
        skip_unreadable: leave images out that can't be read, instead of stopping at the first.

    Returns:
        The parts in the order of `paths`.

    Raises:
        PartDone: in a task of an array job, when its share is done.
        UserError: where an image can't be read, weights changed meanwhile, or the GPU's memory is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spans = slices(len(paths), PART)
    cores = worker_count(workers)
    processes = min(gpu_count() or cores, cores)
    files = [folder / f"part-{start:09d}.npy" for start, _ in spans]
    parts = [
        (
            file.stem,
            stop - start,
            (loader, model, str(root), [os.fspath(p) for p in paths[start:stop]], str(file), cores // processes, skip_unreadable),
        )
        for (start, stop), file in zip(spans, files, strict=True)
    ]
    results = run_parts(_extract_part, parts, markers=folder, workers=processes, label=f"features of {model.name}")
    return [
        FeaturePart(file, start, stop, result["unreadable"], result["device"])
        for (start, stop), file, result in zip(spans, files, results, strict=True)
    ]


def write_rows(path: Path, pieces: Iterator[NDArray[np.float32]], rows: int) -> None:
    """Write an array as ``.npy`` a piece at a time, atomically.

    Args:
        path: the file.
        pieces: (any, width) float32 each, at least one.
        rows: of all pieces together.
    """
    piece = next(pieces)
    with writing(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, piece.shape[1])})
        file.write(np.ascontiguousarray(piece, dtype="<f4").tobytes())
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype="<f4").tobytes())


@lru_cache(maxsize=1)
def _loaded(loader: Loader, source: str, sha256: str) -> Any:
    # The digest is part of the key: other weights under the same name are another model.
    backbone, info = loader(source)
    if info["sha256"] != sha256:
        raise UserError(f"{source}: the weights changed while they were being evaluated; run the same command again")
    return backbone


def _extract_part(
    loader: Loader, model: Model, root: str, paths: Sequence[str], result: str, threads: int, skip_unreadable: bool
) -> dict[str, Any]:
    import torch

    backbone = _loaded(loader, model.source, model.info["sha256"])
    where = next(backbone.parameters()).device
    _, height, width = model.info["input_size"]
    batch = max(1, min(BATCH, BATCH * 224 * 224 // (height * width)))
    rows: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []
    unreadable: list[int] = []

    def forward() -> None:
        # Always a full batch: then no image's features depend on how many others there are.
        filled = np.stack(waiting + [waiting[-1]] * (batch - len(waiting)))
        rows.append(pooled(backbone, normalise(filled, model.info).to(where)).float().cpu().numpy()[: len(waiting)])
        waiting.clear()

    def read(path: str) -> NDArray[np.uint8] | None:
        try:
            return view(Path(root, path), model.info["input_size"])
        except UserError:
            if skip_unreadable:
                return None
            raise

    try:
        with repeatable(), torch.inference_mode(), _mapped(read, paths, threads if where.type == "cuda" else 1) as images:
            for place, image in enumerate(images):
                if image is None:
                    unreadable.append(place)
                else:
                    waiting.append(image)
                if len(waiting) == batch:
                    forward()
            if waiting:
                forward()
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"{model.source}: the GPU's memory is too small for it; free some, or set CUDA_VISIBLE_DEVICES to nothing and use the processor"
        ) from None
    write_array(Path(result), np.concatenate(rows) if rows else np.empty((0, 0), np.float32))
    return {"images": len(paths), "unreadable": unreadable, "device": where.type}


@contextmanager
def _mapped(function: Callable[[str], Any], values: Sequence[str], threads: int) -> Iterator[Iterator[Any]]:
    """Call a function for each value, in order; several threads work ahead while the results are used."""
    if threads == 1:
        yield map(function, values)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool.map(function, values)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def repeatable() -> Iterator[None]:
    """Compute so that the same images give the same bytes: in float32 throughout, by algorithms that add in a fixed order."""
    import torch

    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with one_thread(), cudnn:
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: sums are then always added in the same order. More cores are used by more processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def view(path: Path, input_size: Sequence[int]) -> NDArray[np.uint8]:
    """Read an image as a backbone sees it: upright, the largest central crop of the input's shape, resized to it.

    Args:
        path: of the image.
        input_size: channels, height, width in pixels.

    Returns:
        (height, width, 3) uint8.

    Raises:
        UserError: where it can't be read.
    """
    from PIL import Image, ImageOps

    _, height, width = input_size
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(to_eight_bits(image)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as an image ({reason}); mend it, or ingest the cohort again") from None
    scale = min(upright.width / width, upright.height / height)
    left, top = round((upright.width - width * scale) / 2), round((upright.height - height * scale) / 2)
    crop = upright.crop((left, top, left + max(1, round(width * scale)), top + max(1, round(height * scale))))
    return np.asarray(crop.resize((width, height), Image.Resampling.BICUBIC))


def normalise(images: NDArray[np.uint8], info: dict[str, Any]) -> torch.Tensor:
    """Scale images to a model's mean and deviation.

    Args:
        images: (n, H, W, 3) uint8.
        info: with ``mean`` and ``std`` of three channels, for values from 0 to 1.

    Returns:
        (n, 3, H, W) float32.
    """
    import torch

    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(info[k], dtype=torch.float32).view(1, 3, 1, 1) for k in ("mean", "std"))
    return ((scaled - mean) / std).contiguous()


def pooled(backbone: Any, images: torch.Tensor) -> torch.Tensor:
    """Turn images into one vector each.

    For a transformer the class token and the mean of the patch tokens are put side by side (as DINOv2's linear
    evaluation does), both through the model's final norm; a model without a class token gives the mean alone. Other
    models give what timm puts before their head.

    Args:
        backbone: a timm model without a head.
        images: (n, 3, H, W) float32, normalised.

    Returns:
        (n, width) float32.
    """
    import torch

    features = backbone.forward_features(images)
    if features.ndim != 3 or not hasattr(backbone, "num_prefix_tokens"):
        return backbone.forward_head(features, pre_logits=True)
    prefix = backbone.num_prefix_tokens
    parts = [features[:, prefix:].mean(dim=1)]
    if getattr(backbone, "cls_token", None) is not None:
        parts.insert(0, features[:, 0])
    norm = getattr(backbone, "fc_norm", torch.nn.Identity())
    return torch.cat([norm(part) for part in parts], dim=1)
