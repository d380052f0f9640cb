"""The shard set on disk: private where it must be, the same bytes for any number of workers, bounded memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from archives import people
from curate import open_shards
from curate.artefacts import write_parquet
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.sample import SampleRequest, sample_cohort
from curate.shard_builder import Form, build_shard, build_shards
from curate.shard_index import INDEX, read_pieces, rows_between, shard_runs, write_table

Archive = Callable[..., Path]
SMALL = SampleRequest(size=32, shard_images=40)


@pytest.fixture
def cohort(archive: Archive, tmp_path: Path) -> Path:
    manifest = archive(people(60))
    ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    return tmp_path / "cohort"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("change", [{"size": 0}, {"crop": True, "modality": "generic"}, {"embed_metadata": ("age", "sex", "site")}])
def test_every_form_is_the_same_bytes_for_any_number_of_workers(cohort: Path, tmp_path: Path, change: dict[str, object]) -> None:
    for workers in (1, 2):
        sample_cohort(cohort, replace(SMALL, **change), out=tmp_path / f"shards{workers}", workers=workers)  # type: ignore[arg-type]
    assert contents(tmp_path / "shards1") == contents(tmp_path / "shards2")


def test_photographs_passed_through_are_the_files_themselves(cohort: Path, tmp_path: Path) -> None:
    about = sample_cohort(cohort, replace(SMALL, size=0), out=tmp_path / "shards", workers=1)
    shards = open_shards(tmp_path / "shards")
    who = pd.read_parquet(tmp_path / "shards" / "private" / "keys.parquet").set_index("key")["image_id"]
    for position, row in enumerate(shards.index.itertuples(index=False)):
        assert shards.read(position) == (tmp_path / "images" / f"{who[row.key]}.jpg").read_bytes()
    assert about["photographs"] == {"encoded": 0, "as_they_were": len(shards)}
    shards.close()


def test_what_became_of_the_photographs_is_stated(cohort: Path, tmp_path: Path) -> None:
    about = sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    assert about["photographs"] == {"encoded": about["images"], "as_they_were": 0, "jpeg_quality": 92, "chroma": "4:2:0"}


def test_samples_stand_in_the_order_of_their_keys_over_all_tars(cohort: Path, tmp_path: Path) -> None:
    sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    keys = []
    for shard in sorted((tmp_path / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            keys += [name.removesuffix(".jpg") for name in tar.getnames() if name.endswith(".jpg")]
    assert keys == sorted(keys) == open_shards(tmp_path / "shards").index["key"].tolist()


def test_a_tar_is_an_ordinary_one_that_ends_on_a_whole_record(cohort: Path, tmp_path: Path) -> None:
    sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    for shard in (tmp_path / "shards").glob("*.tar"):
        assert shard.stat().st_size % tarfile.RECORDSIZE == 0
        listed = subprocess.run(["tar", "-tf", shard], capture_output=True, text=True, check=True)
        assert listed.stderr == ""
        assert len(listed.stdout.split()) % 2 == 0


@pytest.mark.parametrize(("images", "at_most", "lengths"), [(10, 40, [10]), (300, 8192, [75] * 4), (100, 40, [34, 34, 32]), (1, 1, [1])])
def test_images_are_divided_evenly(images: int, at_most: int, lengths: list[int]) -> None:
    assert [stop - start for start, stop in shard_runs(images, at_most)] == lengths


def test_a_tables_bytes_do_not_depend_on_its_pieces(tmp_path: Path) -> None:
    rows = {"key": [f"{n:024x}" for n in range(1000)], "shard": ["a"] * 600 + ["b"] * 400, "offset": list(range(1000)), "size": [7] * 1000}
    rows["sha256"] = rows["key"]
    for step in (1000, 7):
        write_table(tmp_path / f"{step}", INDEX, ({c: v[s : s + step] for c, v in rows.items()} for s in range(0, 1000, step)))
    assert (tmp_path / "1000").read_bytes() == (tmp_path / "7").read_bytes()
    assert next(read_pieces(tmp_path / "7", INDEX)) == rows
    assert rows_between(tmp_path / "7", INDEX, "shard", "b", "b")["offset"] == list(range(600, 1000))


def test_a_shards_rows_are_found_without_reading_other_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.shard_index._ROW_GROUP", 100)
    keys = [f"{n:024x}" for n in range(1000)]
    rows = {"key": keys, "shard": [f"{n // 250}" for n in range(1000)], "offset": keys, "size": keys, "sha256": keys}
    write_table(tmp_path / "t", INDEX, [rows | {"offset": list(range(1000)), "size": [1] * 1000}])
    read: list[int] = []
    plain = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, i, **more: (read.append(i), plain(self, i, **more))[1])
    assert rows_between(tmp_path / "t", INDEX, "shard", "1", "1")["offset"] == list(range(250, 500))
    assert read == [2, 3, 4]


def test_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "index.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"index.parquet: cannot be read as Parquet"):
        next(read_pieces(tmp_path / "index.parquet", INDEX))
    write_parquet(tmp_path / "index.parquet", pd.DataFrame({"key": ["a"]}))
    with pytest.raises(UserError, match="has no column 'shard'"):
        next(read_pieces(tmp_path / "index.parquet", INDEX))


def test_a_nearly_full_disk_that_takes_only_part_of_a_write_loses_nothing(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_cohort(cohort, SMALL, out=tmp_path / "whole", workers=1)
    import os

    writev = os.writev
    monkeypatch.setattr("os.writev", lambda descriptor, pieces: writev(descriptor, pieces[:1]))
    sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_an_unknown_modality_is_refused_before_anything_is_written(cohort: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "curate", "sample", "--crop", "--modality", "retna", "--cohort", str(cohort), "--out", "shards"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --modality retna: unknown; did you mean 'retina'?\n"
    assert not list(tmp_path.glob("shards*"))


def test_a_worker_loads_neither_pandas_nor_pyarrow(cohort: Path, tmp_path: Path) -> None:
    # What a worker imports, it imports once a process, and all processes at once.
    script = "import sys, curate.shard_builder; print([m for m in ('pandas', 'pyarrow', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_shard_needs_the_memory_of_a_few_megabytes(cohort: Path, tmp_path: Path) -> None:
    image = next((tmp_path / "images").iterdir())
    import hashlib

    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    rows = pd.DataFrame({"path": [image.name] * 20_000, "sha256": [digest] * 20_000})
    keys = [f"{n:024x}" for n in range(len(rows))]
    made = build_shards(
        [(0, keys[:2000], rows[:2000])], metadata=(), images=tmp_path / "images", form=Form(0, 92), folder=tmp_path, workers=1
    )
    assert made[0]["images"] == 2000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    big = build_shards([(1, keys, rows)], metadata=(), images=tmp_path / "images", form=Form(0, 92), folder=tmp_path, workers=1)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert big[1]["bytes"] > 60e6
    assert grown < 40e6


def test_a_part_says_which_file_changed(cohort: Path, tmp_path: Path) -> None:
    line = json.dumps(["0" * 24, "00000_left.jpg", "0" * 64, {}]).encode() + b"\n"
    (tmp_path / "plan").write_bytes(line)
    with pytest.raises(UserError, match=r"00000_left.jpg: changed since it was ingested; ingest again"):
        build_shard(str(tmp_path / "plan"), 0, len(line), str(tmp_path / "images"), tmp_path, "shard-000000.tar", Form(0, 92))
