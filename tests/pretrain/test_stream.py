"""Streams: complete, repeatable, even over processes, and honest about what is damaged."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import torch

from curate import UserError
from pretrain.mae import MaeViews
from pretrain.recipe import Data
from pretrain.source import is_stream, open_source
from pretrain.stream import Stream

from .conftest import damage, photograph, write_shards

VIEWS = MaeViews(Data(size=32), patches=16, kept=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("stream") / "shards", [photograph(n) for n in range(48)], per_shard=8)


def pipes(folder: Path) -> str:
    return f"pipe:cat {folder}/shard-{{000000..000005}}.tar"


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_pipes_give_every_sample_about_equally_often(folder: Path) -> None:
    batches = list(Stream(pipes(folder), VIEWS, batch=16, seed=0, workers=1).batches(0, 30))
    seen = Counter(key for batch in batches for key in batch.keys)
    assert sum(seen.values()) == 480
    assert set(seen) == set(pd.read_parquet(folder / "index.parquet")["key"])
    assert all(len(batch) == 16 for batch in batches)


def test_the_same_stream_gives_the_same_batches_whatever_the_number_of_workers(folder: Path) -> None:
    runs = [list(Stream(pipes(folder), VIEWS, batch=16, seed=4, workers=workers).batches(0, 3)) for workers in (1, 3)]
    for a, b in zip(*runs, strict=True):
        assert a.keys == b.keys
        assert all(torch.equal(a[name], b[name]) for name in a.tensors)


def test_seeds_and_later_starts_have_orders_of_their_own(folder: Path) -> None:
    starts = [(0, 0), (1, 0), (0, 7)]
    keys = [next(iter(Stream(pipes(folder), VIEWS, batch=16, seed=s, workers=1).batches(first, first + 1))).keys for s, first in starts]
    assert len({tuple(k) for k in keys}) == 3


@pytest.mark.parametrize("world", [2, 4, 8])
def test_every_process_has_as_many_batches_even_with_fewer_shards_than_processes(folder: Path, world: int) -> None:
    streams = [Stream(pipes(folder), VIEWS, batch=16, seed=0, workers=1, rank=rank, world=world) for rank in range(world)]
    for stream in streams:
        batches = list(stream.batches(0, 4))
        assert [len(batch.keys) for batch in batches] == [16 // world] * 4


def test_processes_share_the_shards_out(folder: Path) -> None:
    index = pd.read_parquet(folder / "index.parquet").set_index("key")["shard"]
    streams = [Stream(pipes(folder), VIEWS, batch=16, seed=0, rank=rank, world=2) for rank in range(2)]
    firsts = [[next(shards) for _ in range(3)] for shards in (stream._shards(0) for stream in streams)]
    assert sorted(firsts[0] + firsts[1]) == sorted(streams[0].urls)
    assert len(index.unique()) == 6


def test_a_web_server_is_streamed(folder: Path, server: str) -> None:
    batch = next(iter(Stream(f"{server}/shard-{{000000..000005}}.tar", VIEWS, batch=16, seed=0, workers=1).batches(0, 1)))
    assert set(batch.keys) <= set(pd.read_parquet(folder / "index.parquet")["key"])
    assert batch.damaged == []


def test_a_missing_shard_is_counted_told_once_and_the_others_go_on(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    batches = list(Stream(f"{server}/shard-{{000004..000006}}.tar", VIEWS, batch=16, seed=0, workers=1).batches(0, 5))
    assert {key for batch in batches for key in batch.damaged} == {f"{server}/shard-000006.tar"}
    assert capsys.readouterr().err.count("shard-000006.tar: cannot be read") == 1
    assert all(len(batch.keys) == 16 and "" not in batch.keys for batch in batches)


def test_nothing_but_missing_shards_stops_with_the_reason(server: str) -> None:
    with pytest.raises(UserError, match=r"nowhere-1.tar: none of the last 10 shards could be read"):
        next(iter(Stream(f"{server}/nowhere-1.tar", VIEWS, batch=4, seed=0, workers=1).batches(0, 1)))


def test_a_damaged_sample_is_counted_and_replaced_by_the_next_one(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", [*(photograph(n) for n in range(10)), b"no image"])
    bad = str(pd.read_parquet(folder / "index.parquet")["key"].iloc[10])
    runs = [list(Stream(f"pipe:cat {folder}/shard-000000.tar", VIEWS, batch=11, seed=2, workers=w).batches(0, 4)) for w in (1, 2)]
    assert bad in {key for batch in runs[0] for key in batch.damaged}
    for a, b in zip(*runs, strict=True):
        assert bad not in a.keys
        assert a.keys == b.keys
        assert a.damaged == b.damaged
        assert torch.equal(a["images"], b["images"])


def test_a_shard_that_breaks_off_gives_what_it_has_and_is_counted(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", [photograph(n) for n in range(10)])
    url = f"pipe:head -c 9000 {folder}/shard-000000.tar"
    batch = next(iter(Stream(url, VIEWS, batch=8, seed=0, workers=1).batches(0, 1)))
    assert len(set(batch.keys)) >= 2
    assert len(batch.keys) == 8


def test_nothing_but_damaged_samples_stops(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", [b"no image"] * 3)
    with pytest.raises(UserError, match="100 samples in a row can't be decoded"):
        next(iter(Stream(f"pipe:cat {folder}/shard-000000.tar", VIEWS, batch=2, seed=0, workers=1).batches(0, 1)))


def test_a_stream_that_is_given_up_leaves_no_reader_behind(folder: Path) -> None:
    batches = Stream(pipes(folder), VIEWS, batch=4, seed=0, workers=1).batches(0, 100)
    next(batches)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("reader-")]
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader-")]


def test_a_store_whose_command_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"s3://: reading it needs the command aws"):
        Stream("s3://bucket/shard-{000000..000003}.tar", VIEWS, batch=4, seed=0)


def test_an_object_store_is_read_by_its_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "aws"
    stand_in.write_text(f'#!/bin/sh\n[ "$1 $2 $4" = "s3 cp -" ] && exec cat "{folder}/${{3##*/}}"\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    batch = next(iter(Stream("s3://bucket/some folder/shard-{000000..000003}.tar", VIEWS, batch=8, seed=0, workers=1).batches(0, 1)))
    assert len(batch.keys) == 8
    assert batch.damaged == []


@pytest.mark.parametrize("source", ["s3://b/x.tar", "pipe:cat x", "https://h/x.tar", "gs://b/x.tar", "hf://datasets/x/y.tar"])
def test_what_can_only_be_streamed_is_told_from_folders(source: str) -> None:
    assert is_stream(source)
    assert not is_stream("shards")


def test_damage_inside_a_photograph_is_not_noticed_without_checksums(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", [photograph(n) for n in range(4)])
    damage(folder, 1)
    stream = Stream(f"pipe:cat {folder}/shard-000000.tar", VIEWS, batch=4, seed=0, workers=1)
    assert len(next(iter(stream.batches(0, 1))).keys) == 4
    about = open_source(f"pipe:cat {folder}/shard-000000.tar").about
    assert "no checksums" in about["stream"]["integrity"]
    assert about["images"] is None
