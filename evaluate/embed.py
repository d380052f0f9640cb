"""``evaluate embed``: the latent features of a cohort, kept beside it for whatever looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate import (
    Cohort,
    UserError,
    begin,
    console,
    discard,
    provenance,
    read_cohort,
    read_json,
    same_or_refuse,
    tool_version,
    write_json,
    writing,
)
from evaluate.features import (
    NAME,
    POOLING,
    VIEW,
    Describer,
    FeaturePart,
    Loader,
    Model,
    describe_features_model,
    extract_parts,
    load_features_model,
    write_rows,
)

if TYPE_CHECKING:
    import pandas as pd

ROWS = 8192  # of a row group: that many are in memory at once, 64 MiB at a width of 2,048


def embed_cohort(
    cohort: Path,
    source: str,
    *,
    name: str | None = None,
    workers: int = 0,
    max_bad: float = 0.01,
    loader: Loader = load_features_model,
    describe: Describer = describe_features_model,
) -> dict[str, Any]:
    """Compute the features of every image of a cohort into ``latent-<name>.parquet`` and ``latent-<name>.json``.

    Args:
        cohort: the cohort folder.
        source: the backbone: a run folder, a checkpoint file, ``timm:NAME`` or ``random:NAME``.
        name: of the embedding; None takes it from `source`.
        workers: processes, or with GPUs a process each and threads that decode; 0 is one a core. Never changes the result.
        max_bad: share of images that may be unreadable.
        loader: gives a backbone and its description for a source.
        describe: gives the description alone.

    Returns:
        What ``latent-<name>.json`` holds: ``made_by``; ``model`` (name, path, architecture, sha256, input_size, shards);
        ``images``, the rows; ``unreadable``, the number of images left out; ``width``; ``devices`` that computed it.

    Raises:
        UserError: where there is no such cohort or model, the images are gone or too many can't be read, or there is an embedding
            of this name from something else.
        PartDone: in a task of an array job, when its share is done.
    """
    model = Model(_name(source) if name is None else name, source, {})
    if not NAME.fullmatch(model.name):
        raise UserError(f"--name {model.name}: expected letters, digits, . _ -")
    people = read_cohort(cohort, ["image_id", "path"])
    if not len(people.table):
        raise UserError(f"{cohort}: the cohort holds no images")
    model.info.update(describe(source))
    table_file, about_file = _files(cohort, model.name)
    made_by = provenance(_specification(model), _inputs(people, model))
    if about_file.exists():
        there = read_json(about_file, "an embedding")
        same_or_refuse(about_file, there.get("made_by", {}), made_by, advice="choose another --name, or remove it")
        if table_file.exists():
            discard(about_file.with_suffix(""))
            return there
        about_file.unlink()  # says complete of a table that is gone
    if not people.images.is_dir():
        raise UserError(f"{people.images}: the cohort's image folder is missing; put it back, or ingest again with --images")
    partial = begin(about_file.with_suffix(""), about_file.name, made_by)
    assert partial is not None  # the JSON file never stands in the folder of parts
    rows = people.table.sort_values("image_id", kind="stable")
    paths = rows["path"].tolist()
    parts = extract_parts(model, paths, partial, workers=workers, loader=loader, root=people.images, skip_unreadable=True)
    unreadable = _check_unreadable(parts, people.images, paths, max_bad)
    width = _write_table(table_file, rows["image_id"], parts)
    about = {
        "made_by": made_by,
        "model": model.described(),
        "images": len(rows) - unreadable,
        "unreadable": unreadable,
        "width": width,
        "devices": sorted({part.device for part in parts}),
    }
    for left_over in cohort.glob(f".latent-{model.name}.*.tmp"):  # of a process that was killed here
        left_over.unlink(missing_ok=True)
    write_json(about_file, about)
    discard(about_file.with_suffix(""))
    return about


def _name(source: str) -> str:
    """Name an embedding after its model, as ``random-vit_tiny_patch16_224`` or ``mae-tiny``."""
    kind, _, name = source.partition(":")
    if kind == "timm" and name:
        return name.replace("/", "-")
    if kind == "random" and name:
        return f"random-{Path(name).resolve().name if Path(name).is_dir() else name}"
    path, _, pixels = source.rpartition("@")
    if path and not Path(source).exists():
        return f"{Path(path).stem}-{pixels}"
    return Path(source).stem if Path(source).is_file() else Path(source).resolve().name


def _files(cohort: Path, name: str) -> tuple[Path, Path]:
    return cohort / f"latent-{name}.parquet", cohort / f"latent-{name}.json"


def _specification(model: Model) -> dict[str, Any]:
    kept = {key: model.info[key] for key in ("architecture", "input_size", "mean", "std")}
    return {**kept, "view": VIEW, "pooling": POOLING}


def _inputs(cohort: Cohort, model: Model) -> dict[str, str]:
    return {"cohort.parquet": cohort.digest, "model": str(model.info["sha256"])}


def _check_unreadable(parts: Sequence[FeaturePart], images: Path, paths: Sequence[str], max_bad: float) -> int:
    """Count the images that could not be read; stop where they are too many."""
    bad = [part for part in parts if part.unreadable]
    count = sum(len(part.unreadable) for part in bad)
    if not count:
        return 0
    if count > max_bad * len(paths) or count == len(paths):
        for part in bad:  # computed again next time: by then the user has mended the files
            part.path.with_suffix(".done").unlink()
        first = images / paths[bad[0].start + bad[0].unreadable[0]]
        raise UserError(
            f"{count:,} of {len(paths):,} images cannot be read, more than {100 * max_bad:g} %; first: {first}; "
            "mend or restore them and run the same command again"
        )
    console.warn(f"{count:,} of {len(paths):,} images cannot be read and have no features")
    return count


def _write_table(path: Path, image_ids: pd.Series, parts: Sequence[FeaturePart]) -> int:
    """Write image_id and f0, f1, ... a row group at a time; give the width."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = next(np.load(part.path, mmap_mode="r").shape[1] for part in parts if len(part.unreadable) < part.stop - part.start)
    columns = [f"f{i}" for i in range(width)]
    schema = pa.schema([("image_id", pa.string()), *((column, pa.float32()) for column in columns)])
    # Dictionaries are for values that come again; bytes of equal significance side by side compress better than floats.
    options = {"use_dictionary": False, "use_byte_stream_split": columns, "compression": "zstd", "write_statistics": ["image_id"]}
    with writing(path) as file, pq.ParquetWriter(file, schema, **options) as writer:
        for ids, rows in _row_groups(image_ids.to_numpy(), parts):
            writer.write_table(pa.table([pa.array(ids, pa.string()), *rows.T], schema=schema), row_group_size=len(ids))
    return width


def _row_groups(image_ids: NDArray[Any], parts: Sequence[FeaturePart]) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    ids: list[NDArray[Any]] = []
    rows: list[NDArray[np.float32]] = []
    for part in parts:
        kept = np.delete(image_ids[part.start : part.stop], part.unreadable)
        if len(kept):
            ids.append(kept)
            rows.append(np.load(part.path))
        if ids and (part is parts[-1] or sum(map(len, ids)) >= ROWS):
            yield np.concatenate(ids), np.concatenate(rows)
            ids, rows = [], []


def reuse_embedding(cohort: Cohort, model: Model, image_ids: Sequence[str], result: Path) -> bool:
    """Take features from an embedding of the cohort, where one was made of this model in this way.

    Args:
        cohort: the cohort.
        model: the backbone.
        image_ids: (n,) whose features are wanted, rising.
        result: the ``.npy`` file to write, (n, width) float32; left as it is where it is there.

    Returns:
        Whether `result` is there now.
    """
    if result.exists():
        return True
    for about_file in sorted(cohort.folder.glob("latent-*.json")):
        table_file = about_file.with_suffix(".parquet")
        made_by = read_json(about_file, "an embedding").get("made_by", {})
        if (
            made_by.get("version") == tool_version()
            and made_by.get("specification") == _specification(model)
            and made_by.get("inputs") == _inputs(cohort, model)
            and table_file.exists()
            and _copy_rows(table_file, image_ids, result)
        ):
            console.say(f"features of {model.name}: from {table_file}")
            return True
    return False


def _copy_rows(table_file: Path, image_ids: Sequence[str], result: Path) -> bool:
    """Copy the rows of these images, which are sorted there as here; nothing where any is missing."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(table_file)
    wanted = set(image_ids)
    groups = range(file.num_row_groups)
    here = [np.array([i in wanted for i in file.read_row_group(g, ["image_id"])["image_id"].to_pylist()]) for g in groups]
    if not wanted or sum(int(mask.sum()) for mask in here) != len(wanted):
        return False
    columns = [name for name in file.schema_arrow.names if name != "image_id"]

    def pieces() -> Iterator[NDArray[np.float32]]:
        for group, mask in zip(groups, here, strict=True):
            if mask.any():
                table = file.read_row_group(group, columns)
                yield np.column_stack([column.to_numpy() for column in table.columns])[mask]

    write_rows(result, pieces(), len(wanted))
    return True
