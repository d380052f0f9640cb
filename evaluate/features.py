"""Features: each image once through each frozen backbone, in parts that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate import UserError, run_parts, slices, to_eight_bits, write_array, writing

if TYPE_CHECKING:
    import torch

PART = 128  # images a part
BATCH = 32  # images a forward pass: fixed, so that the result doesn't depend on who computes it
VIEW = "shorter side resized to the input size (bicubic, antialiased), central square, normalised with the model's mean and deviation"
POOLING = "class token and mean of the patch tokens, side by side (convolutional models: their own pooling)"

Loader = Callable[[str], tuple[Any, dict[str, Any]]]


@dataclass(frozen=True)
class Model:
    """A backbone to be evaluated.

    Attributes:
        name: as given by the user.
        source: run folder, ``timm:NAME`` or ``random:NAME``.
        info: architecture, sha256, input_size, mean, std, shards_digest.
    """

    name: str
    source: str
    info: dict[str, Any]


def load_features_model(source: str) -> tuple[Any, dict[str, Any]]:
    """Load a backbone for features, on the GPU where there is one."""
    from pretrain import load_backbone

    return load_backbone(source, device=device())


def device() -> str:
    """Name the device that forward passes run on."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def extract_features(
    model: Model, paths: Sequence[Path], folder: Path, *, workers: int, loader: Loader = load_features_model
) -> NDArray[np.float32]:
    """Compute or resume the features of all images.

    Args:
        model: the backbone.
        paths: (n,) image files.
        folder: where finished parts and the result stay.
        workers: processes (on a GPU: this one alone).
        loader: `source` -> (backbone in evaluation mode, info).

    Returns:
        (n, width) float32, memory-mapped from ``<folder>/<name>.npy``: the same bytes for any number of workers.

    Raises:
        UserError: where an image can't be read.
    """
    result = folder / f"{model.name}.npy"
    if not result.exists():
        parts_folder = folder / f"{model.name}.parts"
        parts_folder.mkdir(parents=True, exist_ok=True)
        parts = [
            (
                f"part-{start:09d}",
                stop - start,
                (loader, model, [str(p) for p in paths[start:stop]], str(parts_folder / f"part-{start:09d}.npy")),
            )
            for start, stop in slices(len(paths), PART)
        ]
        alone = 1 if device() == "cuda" else workers
        run_parts(_extract_part, parts, markers=parts_folder, workers=alone, label=f"features of {model.name}")
        _join([parts_folder / f"{name}.npy" for name, _, _ in parts], len(paths), result)
        for path in parts_folder.iterdir():
            path.unlink()
        parts_folder.rmdir()
    return np.load(result, mmap_mode="r")


def _join(parts: Sequence[Path], images: int, result: Path) -> None:
    width = np.load(parts[0], mmap_mode="r").shape[1]
    with writing(result) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (images, width)})
        for part in parts:
            file.write(np.ascontiguousarray(np.load(part), dtype="<f4").tobytes())


@lru_cache(maxsize=1)
def _loaded(loader: Loader, source: str, sha256: str) -> Any:
    # The digest is part of the key: other weights under the same name are another model.
    backbone, info = loader(source)
    if info["sha256"] != sha256:
        raise UserError(f"{source}: the weights changed while they were being evaluated; run the same command again")
    return backbone


def _extract_part(loader: Loader, model: Model, paths: Sequence[str], result: str) -> dict[str, Any]:
    import torch

    backbone = _loaded(loader, model.source, model.info["sha256"])
    where = next(backbone.parameters()).device
    rows = []
    with one_thread(), torch.inference_mode():
        for start, stop in slices(len(paths), BATCH):
            images = np.stack([view(Path(path), model.info["input_size"]) for path in paths[start:stop]])
            rows.append(pooled(backbone, normalise(images, model.info).to(where)).float().cpu().numpy())
    write_array(Path(result), np.concatenate(rows))
    return {"images": len(paths)}


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
