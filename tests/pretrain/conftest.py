"""A small shard set in the published format, written by hand, and a recipe small enough for a test."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

# A vision transformer of two layers and 32 channels on 32 px: 16 patches of 8 px, 4 of them seen by the encoder.
TINY = [
    "model.arguments={patch_size: 8, depth: 2, embed_dim: 32, num_heads: 2}",
    "data.size=32",
    "mae={mask_ratio: 0.75, decoder_depth: 1, decoder_width: 16, decoder_heads: 2}",
    "optim.batch=8",
    "optim.samples=96",
    "optim.warmup_samples=16",
    "log={every: 2, checkpoint_every: 3, pictures_every: 1000}",
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photograph(number: int) -> bytes:
    """Draw a disc on black with a gradient and a bright spot, as JPEG; each number gives another one."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:64, :72] / 64
    disc = (x - 0.56) ** 2 + (y - 0.5) ** 2 < 0.22
    spot = np.exp(-((x - rng.uniform(0.2, 0.9)) ** 2 + (y - rng.uniform(0.2, 0.8)) ** 2) / 0.01)
    image = (disc[..., None] * (np.array([40, 80, 160]) + 60 * x[..., None] + 70 * spot[..., None])).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def write_shards(folder: Path, images: list[bytes], *, per_shard: int = 12) -> Path:
    """Write a shard set: tars of KEY.jpg and KEY.json, index.parquet, sample.json."""
    folder.mkdir(parents=True)
    rows = []
    for start in range(0, len(images), per_shard):
        name = f"shard-{start // per_shard:06d}.tar"
        with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, data in enumerate(images[start : start + per_shard], start):
                key = hashlib.sha256(str(number).encode()).hexdigest()[:16]
                for suffix, content in (("jpg", data), ("json", b"{}")):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    if suffix == "jpg":
                        rows.append((key, name, tar.offset + 512, len(content), hashlib.sha256(content).hexdigest()))
                    tar.addfile(member, io.BytesIO(content))
    pd.DataFrame(rows, columns=["key", "shard", "offset", "size", "sha256"]).to_parquet(folder / "index.parquet", index=False)
    (folder / "sample.json").write_text(json.dumps({"name": folder.name, "images": len(images)}))
    return folder


def damage(shards: Path, row: int) -> str:
    """Overwrite the middle of one photograph inside its tar; gives its key."""
    entry = pd.read_parquet(shards / "index.parquet").iloc[row]
    with open(shards / entry["shard"], "r+b") as file:
        file.seek(int(entry["offset"]) + int(entry["size"]) // 2)
        file.write(b"\0" * 64)
    return str(entry["key"])


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("set") / "shards", [photograph(n) for n in range(30)])


@pytest.fixture
def own_shards(tmp_path: Path) -> Path:
    """A shard set that the test may damage."""
    return write_shards(tmp_path / "shards", [photograph(n) for n in range(30)])


@pytest.fixture
def tiny() -> list[str]:
    return list(TINY)


@pytest.fixture(scope="session")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe."""
    from pretrain import run_pretraining

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "finished"
    run_pretraining(shards, recipe="mae-tiny", overrides=TINY, out=out, workers=1, device="cpu")
    return out


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[[list[bytes]], Path]:
    return lambda images: write_shards(tmp_path / "made", images)


@pytest.fixture
def damage_row() -> Callable[[Path, int], str]:
    return damage
