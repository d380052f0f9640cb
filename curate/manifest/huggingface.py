"""Hugging Face datasets: saved to disk, in a local folder, or by name; images keep their own bytes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.artefacts import sha256_file
from curate.console import warn
from curate.errors import UserError, nearest
from curate.manifest.dataset_images import Run, extract_part, file_name, paths_of, runs_of_arrow, runs_of_parquet
from curate.manifest.folder import files_in
from curate.manifest.source import FIRST_ROW, PART, Source
from curate.manifest.text_table import digest_of, frame_of
from curate.parts import run_parts

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_ALL = "all"
_IDS = ("image_id", "id", "file_name", "filename", "file", "image_file", "__key__")


def read_dataset(manifest: str, *, split: str | None, image_column: str | None = None) -> Source:
    """Read a dataset's table and find its images.

    Args:
        manifest: a folder, or ``hf:`` and a folder or the name of a dataset.
        split: one of its splits, several with commas, or "all"; needed where there are several. Rows then say theirs in the
            column ``split``.
        image_column: the column of images, where there are several.

    Returns:
        All plain columns as text, labels by their names, and the column of images as file names.

    Raises:
        UserError: where it can't be read, or the split or the column of images must be named.
    """
    name = manifest.removeprefix("hf:")
    folder = Path(name)
    if folder.is_dir():
        metadata = [n for n in files_in(folder) if re.fullmatch(r"metadata\.(csv|jsonl|parquet)", os.path.basename(n))]
        if metadata:
            return _read_image_folder(folder, metadata, split)
    with _quiet():
        loaded = _load(folder if folder.is_dir() else name, split)
        return _source(loaded, manifest, folder if folder.is_dir() else None, image_column)


def _read_image_folder(folder: Path, metadata: Sequence[str], split: str | None) -> Source:
    """Read metadata files that stand beside the images.

    Read here and not by `datasets`, which takes the leading zeros off ids in a ``metadata.csv``.
    """
    import pandas as pd

    from curate.manifest import read_source

    by_split: dict[str, list[str]] = {}
    for name in metadata:
        by_split.setdefault(Path(name).parts[0] if "/" in name else "", []).append(name)
    tables = []
    for part in _chosen([k or "train" for k in by_split], split, folder):
        for name in by_split.get(part, by_split.get("", [])):
            table = read_source(folder / name).table
            column = next((c for c in table.columns if c == "file_name" or c.endswith("_file_name")), None)
            if column is None:
                raise UserError(f"{folder / name}: has no column 'file_name'{nearest('file_name', table.columns)}")
            parent = os.path.dirname(name)
            table[column] = [os.path.join(parent, value) if value else "" for value in table[column]]
            if len(by_split) > 1:
                table["split"] = part
            tables.append(table.rename(columns={column: "file_name"}))
    stacked = _numbered(pd.concat(tables, ignore_index=True).fillna(""))
    return Source(
        table=stacked,
        inputs={name: sha256_file(folder / name) for name in metadata},
        name=folder.resolve().name,
        folder=folder,
        columns={"path": "file_name"},
        synthetic=(folder / "simulation.json").is_file(),
    )


def _chosen(there: Sequence[str], split: str | None, where: object) -> list[str]:
    if split is None and len(there) > 1:
        raise UserError(f"{where}: has {len(there)} splits; choose with --split NAME or --split all: {', '.join(there)}")
    if split in (None, _ALL):
        return list(there)
    chosen = [s.strip() for s in str(split).split(",")]
    for one in chosen:
        if one not in there:
            raise UserError(f"{where}: has no split '{one}'{nearest(one, [*there, _ALL])}")
    return chosen


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import datasets

    shown = datasets.utils.logging.is_progress_bar_enabled()
    level = datasets.utils.logging.get_verbosity()
    datasets.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.utils.logging.set_verbosity(level)
        if shown:
            datasets.utils.logging.enable_progress_bar()


def _load(manifest: Path | str, split: str | None) -> dict[str, Any]:
    """Load splits without copying: what was saved to disk and Parquet files are read where they are."""
    import datasets

    try:
        if isinstance(manifest, Path) and ((manifest / "dataset_dict.json").is_file() or (manifest / "state.json").is_file()):
            saved = datasets.load_from_disk(str(manifest))
            splits = dict(saved) if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
            return {s: splits[s] for s in _chosen(list(splits), split, manifest)}
        if isinstance(manifest, Path):
            builder = datasets.load_dataset_builder(str(manifest.resolve()))
            chosen = _chosen([str(s) for s in builder.config.data_files], split, manifest)
            if builder.name == "parquet" or type(builder).__name__ == "Parquet":
                return {s: _Parquet([str(f) for f in builder.config.data_files[s]]) for s in chosen}
            return {s: datasets.load_dataset(str(manifest.resolve()), split=s) for s in chosen}
        names = datasets.get_dataset_split_names(manifest)
        return {s: datasets.load_dataset(manifest, split=s) for s in _chosen(names, split, manifest)}
    except UserError:
        raise
    except Exception as error:  # `datasets` raises whatever its readers, the file system and the network raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{manifest}: cannot be read as a Hugging Face dataset ({type(error).__name__}: {reason})") from None


class _Parquet:
    """A split in Parquet files, read where it is."""

    def __init__(self, files: list[str]) -> None:
        import pyarrow.parquet as pq
        from datasets import Features

        self.files = files
        self.features = Features.from_arrow_schema(pq.read_schema(files[0]))

    def read(self, columns: list[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pa.concat_tables([pq.ParquetFile(f).read(columns=columns) for f in self.files], promote_options="default")

    def __len__(self) -> int:
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(f).num_rows for f in self.files)


def _source(splits: dict[str, Any], manifest: str, folder: Path | None, image_column: str | None) -> Source:
    import pandas as pd

    features = next(iter(splits.values())).features
    image = _image_column(features, manifest, image_column)
    tables: list[pd.DataFrame] = []
    runs: list[Run] = []
    for name, dataset in splits.items():
        if dict(dataset.features) != dict(features):
            raise UserError(f"{manifest}: split '{name}' has other columns than the first; choose one with --split")
        table = _table(dataset, image, manifest)
        if len(splits) > 1:
            table["split"] = name
        tables.append(table)
        if image:
            runs += runs_of_parquet(dataset.files, image) if isinstance(dataset, _Parquet) else runs_of_arrow(dataset, image)
    stacked = _numbered(pd.concat(tables, ignore_index=True))
    short = re.sub(r"[^\w.-]+", "-", (folder.resolve().name if folder else manifest.removeprefix("hf:")))
    extract, start = None, folder
    if image:
        names = _names(stacked, runs)
        stacked[image] = names
        start = None
        # Paths in a dataset are followed only into the folder that was named, or the cache of one that was downloaded.
        extract = _Extraction(runs, names, str(folder.resolve()) if folder else None)
    return Source(
        table=stacked,
        inputs={short: digest_of(stacked)},
        name=short,
        folder=start,
        columns={"path": image} if image else {},
        extract=extract,
        synthetic=folder is not None and (folder / "simulation.json").is_file(),
    )


def _image_column(features: Any, manifest: str, wanted: str | None) -> str | None:
    from datasets import Image

    def holds_images(feature: Any) -> bool:
        return isinstance(feature, Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})

    found = [name for name, feature in features.items() if holds_images(feature)]
    if wanted in found:
        return wanted
    if len(found) > 1 and wanted is None:
        raise UserError(f"{manifest}: has {len(found)} columns of images; choose one with --map path=COLUMN: {', '.join(found)}")
    return found[0] if len(found) == 1 and wanted is None else None


def _table(dataset: Any, image: str | None, manifest: str) -> pd.DataFrame:
    import pandas as pd
    from datasets import ClassLabel, Image

    features = dataset.features
    plain = [n for n, f in features.items() if n != image and not isinstance(f, Image)]
    if not plain:
        return pd.DataFrame(index=range(len(dataset)))
    table = dataset.read(plain) if isinstance(dataset, _Parquet) else dataset.select_columns(plain).with_format("arrow")[:]
    while any(str(field.type).startswith("struct") for field in table.schema):
        table = table.flatten()
    frame = frame_of(table, manifest, leave_out_nested=True)
    for name in plain:
        if isinstance(features[name], ClassLabel):
            meanings = {str(i): label for i, label in enumerate(features[name].names)}
            frame[name] = [meanings.get(value, "") for value in frame[name]]
    return frame


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return table.set_axis(pd.RangeIndex(FIRST_ROW, FIRST_ROW + len(table)), axis=0)


def _names(table: pd.DataFrame, runs: list[Run]) -> list[str]:
    """Name the images: by their own paths, else by a column of ids, else by their row; each name once."""
    given = [path for run in runs for path in paths_of(run)]
    own = [os.path.basename((p or "").replace("\\", "/")) for p, _ in given]
    stems = [os.path.splitext(n)[0] for n in own]
    if not all(stems) or len(set(stems)) < len(stems):
        column = next((c for c in _IDS if c in table.columns and table[c].str.strip().ne("").all() and table[c].is_unique), None)
        stems = [f"{row:08d}" for row in range(len(own))]
        if column is not None:
            cleaned = [re.sub(r"[^\w.-]", "_", os.path.basename(v)) for v in table[column]]
            stems = cleaned if len(set(cleaned)) == len(cleaned) else stems
    return [file_name(stem, kind) for stem, (_, kind) in zip(stems, given, strict=True)]


class _Extraction:
    """Writes a dataset's images into a folder, in parts that can be killed and run again."""

    def __init__(self, runs: list[Run], names: list[str], inside: str | None) -> None:
        self.runs = runs
        self.names = names
        self.inside = inside

    def __call__(self, to: Path, workers: int) -> None:
        parts: list[tuple[str, int, tuple[Any, ...]]] = []
        first = 0
        for run in self.runs:
            for start in range(run.start, run.stop, PART):
                stop = min(start + PART, run.stop)
                names = self.names[first + start - run.start : first + stop - run.start]
                arguments = (run.between(start, stop), names, str(to), self.inside)
                parts.append((f"extract-{len(parts):06d}", stop - start, arguments))
            first += run.stop - run.start
        done = run_parts(extract_part, parts, markers=to.parent / "parts", workers=workers, label="extracting images", last=False)
        failed = [fault for part in done for fault in part["faults"]]
        if failed:
            warn(f"{len(failed):,} image(s) cannot be extracted; first: {failed[0]}")
