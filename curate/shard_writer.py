"""Writing a shard set: plain tars, byte for byte the same for any number of workers, each whole or absent."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.artefacts import drop, finish, write_json, write_parquet, writing
from curate.errors import UserError
from curate.rendering import CHROMA
from curate.shard_builder import Form, build_shards
from curate.shard_index import INDEX, KEYS, Columns, listing, read_part, shard_name, shard_runs, write_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from curate.cohort import Cohort
    from curate.plan import Plan
    from curate.request import SampleRequest


def pseudonym(secret: bytes, image_id: str) -> str:
    """Make a sample's key: 96 bits of a keyed hash (HMAC-SHA-256), as 24 hexadecimal digits.

    Args:
        secret: whoever lacks it can't tell which image a key stands for.
        image_id: of the cohort.
    """
    return hmac.digest(secret, image_id.encode(), "sha256")[:12].hex()


def write_shards(
    plan: Plan,
    cohort: Cohort,
    request: SampleRequest,
    *,
    about: dict[str, Any],
    secret: bytes,
    partial: Path,
    out: Path,
    workers: int,
) -> dict[str, Any]:
    """Write a plan's shards, index and private files, and give the folder its name.

    Args:
        plan: what was drawn.
        cohort: where the images are.
        request: size, quality and crop of the photographs.
        about: ``sample.json`` as far as it is known; what was written is added.
        secret: makes the keys.
        partial: the folder to write into; shards that an interrupted run finished are kept.
        out: the folder's name when it is complete.
        workers: processes, 0 for one a core.

    Returns:
        The contents of ``sample.json``.

    Raises:
        UserError: where an image is missing or has changed since it was ingested.
    """
    import numpy as np

    form = Form(request.size, request.jpeg_quality, request.modality if request.crop else None, request.checksum)
    keys = np.array([pseudonym(secret, i) for i in plan.drawn["image_id"]], dtype="S24")
    # The order of keys is random with respect to everything about the images, so any run of them is a mixed shard.
    order = np.argsort(keys, kind="stable")
    if (keys[order[1:]] == keys[order[:-1]]).any():
        raise UserError("two images got the same key; choose another --salt")
    runs = shard_runs(len(keys), request.shard_images)
    columns = ["path", "sha256", *request.embed_metadata]
    results = build_shards(
        ((n, *rows) for n, rows in enumerate(_rows(plan.drawn[columns], keys, order, runs))),
        metadata=request.embed_metadata, images=cohort.images, form=form, folder=partial, workers=workers,
    )  # fmt: skip
    made = [results[n] for n in range(len(runs))]
    parts = partial / "parts"
    write_table(partial / "index.parquet", INDEX, (read_part(parts / f"{shard_name(n)}.index") for n in range(len(runs))))
    write_json(partial / "shards.json", listing(about["name"], made, request.checksum))
    _write_private(partial / "private", _who(plan.drawn, keys, order, runs), plan.held_out, secret)
    about = {**about, "shards": len(runs), "bytes": sum(r["bytes"] for r in made), "photographs": _photographs(made, form)}
    drop(parts)
    write_json(partial / "sample.json", about)
    finish(out)
    return about


def _rows(
    table: pd.DataFrame, keys: np.ndarray, order: np.ndarray, runs: list[tuple[int, int]]
) -> Iterator[tuple[list[str], pd.DataFrame]]:
    for start, stop in runs:
        places = order[start:stop]
        yield [key.decode() for key in keys[places]], table.iloc[places]


def _who(drawn: pd.DataFrame, keys: np.ndarray, order: np.ndarray, runs: list[tuple[int, int]]) -> Iterator[Columns]:
    for names, rows in _rows(drawn[["image_id", "patient_id"]], keys, order, runs):
        yield {"key": names, "image_id": rows["image_id"].tolist(), "patient_id": rows["patient_id"].tolist()}


def _write_private(private: Path, who: Iterable[Columns], held_out: pd.DataFrame, secret: bytes) -> None:
    private.mkdir(exist_ok=True)
    write_table(private / "keys.parquet", KEYS, who)
    write_parquet(private / "holdout.parquet", held_out[["image_id", "patient_id"]].reset_index(drop=True))
    with writing(private / "salt") as file:
        file.write(secret)
    (private / "salt").chmod(0o600)


def _photographs(made: list[dict[str, Any]], form: Form) -> dict[str, Any]:
    """Say for ``sample.json`` what became of the photographs."""
    encoded = sum(r["encoded"] for r in made)
    about: dict[str, Any] = {"encoded": encoded, "as_they_were": sum(r["images"] for r in made) - encoded}
    if encoded:
        about |= {"jpeg_quality": form.quality, "chroma": CHROMA}
    if form.crop:
        about["uncropped"] = sum(r["uncropped"] for r in made)
    return about
