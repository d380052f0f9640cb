"""Runs from a mixture and from a stream: what the command line takes, and what run.json says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from curate import UserError, console, open_shards, read_json
from curate.command import run
from pretrain import run_pretraining
from pretrain.cli import app
from pretrain.plan import describe, plan_pretraining
from pretrain.source import open_source

from .conftest import photograph, write_shards


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "other", [photograph(n) for n in range(100, 112)])


def test_a_mixture_trains_and_run_json_names_every_set_and_share(shards: Path, other: Path, tiny: list[str], tmp_path: Path) -> None:
    result = run_pretraining(
        mix=[f"{shards}=0.75", f"{other}=0.25"], recipe="mae-tiny", overrides=tiny, out=tmp_path / "run", workers=1, device="cpu"
    )
    assert result["status"] == "finished"
    about = read_json(tmp_path / "run" / "run.json", "a run")
    assert about["made_by"]["inputs"] == {"shards shards": open_shards(shards).digest, "shards other": open_shards(other).digest}
    assert about["made_by"]["specification"]["mix"] == {"shards": "3/4", "other": "1/4"}
    assert about["shards"]["images"] == 42
    assert about["shards"]["mix"]["other"] == {
        "name": "other",
        "digest": open_shards(other).digest,
        "images": 12,
        "path": str(other),
        "share": "1/4",
    }
    with pytest.raises(UserError, match=r"another specification \(mix.other: there \"1/4\", asked \"1/2\""):
        run_pretraining(mix=[f"{shards}=1", f"{other}=1"], recipe="mae-tiny", overrides=tiny, out=tmp_path / "run", device="cpu")


def test_a_stream_trains_and_run_json_says_what_is_weaker(shards: Path, tiny: list[str], tmp_path: Path) -> None:
    address = f"pipe:cat {shards}/shard-{{000000..000002}}.tar"
    result = run_pretraining(address, recipe="mae-tiny", overrides=tiny, out=tmp_path / "run", workers=1, device="cpu")
    assert result["status"] == "finished"
    about = read_json(tmp_path / "run" / "run.json", "a run")
    assert len(about["made_by"]["specification"]["stream"]) == 3
    assert about["shards"]["images"] is None
    assert "no exact epochs" in about["shards"]["stream"]["order"]
    assert "approximate" in about["shards"]["stream"]["resume"]


def test_a_stream_of_which_nothing_can_be_read_leaves_no_run(tiny: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of the last 10 shards could be read"):
        run_pretraining("pipe:false", recipe="mae-tiny", overrides=tiny, out=tmp_path / "run", workers=1, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_set_without_a_readable_photograph_leaves_no_run(tiny: list[str], tmp_path: Path) -> None:
    damaged = write_shards(tmp_path / "damaged", [b"not a photograph"] * 12)
    with pytest.raises(UserError, match=r"none of the first photographs .* curate verify"):
        run_pretraining(damaged, recipe="mae-tiny", overrides=tiny, out=tmp_path / "run", workers=1, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_plan_counts_a_mixture_and_knows_that_a_stream_is_not_counted(shards: Path, other: Path, tiny: list[str]) -> None:
    mixed = plan_pretraining(mix=[f"{shards}=0.75", f"{other}=0.25"], recipe="mae-tiny", overrides=tiny, device="cpu")
    assert mixed["images"] == 42
    assert mixed["epochs"] == pytest.approx(mixed["samples"] / 42)
    streamed = plan_pretraining(f"pipe:cat {shards}/shard-000000.tar", recipe="mae-tiny", overrides=tiny, device="cpu")
    assert (streamed["images"], streamed["epochs"]) == (None, None)
    assert streamed["flops"] == mixed["flops"]
    assert ("images", "not known", "a stream is not counted") in describe(streamed)


def test_the_command_line_takes_a_mixture_in_both_spellings(
    shards: Path, other: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for flag in ("quiet", "json", "debug", "command"):
        monkeypatch.setattr(console.mode, flag, getattr(console.mode, flag))
    sets = [part for setting in tiny for part in ("--set", setting)]
    common = ["--recipe", "mae-tiny", *sets, "--workers", "1", "--device", "cpu", "--json", "--out"]
    for name, given in (("a", ["--mix", f"{shards}=3", "--mix", f"{other}=1"]), ("b", ["--mix", f"{shards}=3", f"{other}=1"])):
        monkeypatch.setattr(sys, "argv", ["pretrain", "run", *given, *common, str(tmp_path / name)])
        with pytest.raises(SystemExit) as left:
            run(app, "pretrain")
        assert not left.value.code
    runs = [read_json(tmp_path / name / "run.json", "a run") for name in "ab"]
    shares = [{name: part["share"] for name, part in run["shards"]["mix"].items()} for run in runs]
    assert shares == [{"shards": "3/4", "other": "1/4"}] * 2


@pytest.mark.parametrize(
    ("shards", "mix", "words"),
    [
        (None, [], "give the folder of a shard set, or several as --mix FOLDER=WEIGHT"),
        ("somewhere", ["a=1"], "somewhere has no weight"),
        (None, ["s3://bucket/a.tar=1"], "a stream can't"),
        (None, ["nowhere=1"], "no shard set here"),
    ],
)
def test_what_cannot_be_opened_is_explained(shards: str | None, mix: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_source(shards, mix)


def test_sets_of_one_name_are_told_apart_by_their_folders(shards: Path, tmp_path: Path) -> None:
    twin = write_shards(tmp_path / "shards", [photograph(1)])
    source = open_source(None, [f"{shards}=1", f"{twin}=1"])
    assert list(source.about["mix"]) == [str(shards), str(twin)]


def test_the_order_on_the_command_line_means_nothing(shards: Path, other: Path) -> None:
    there, back = (open_source(None, mix) for mix in ([f"{shards}=2", f"{other}=1"], [f"{other}=1", f"{shards}=2"]))
    assert list(there.about["mix"]) == list(back.about["mix"]) == ["other", "shards"]
    assert there.sets.batch_samples(0, batch=9, seed=0) == back.sets.batch_samples(0, batch=9, seed=0)  # type: ignore[union-attr]


def test_the_digest_of_a_mixture_depends_on_sets_and_shares(shards: Path, other: Path) -> None:
    mixes = [[f"{shards}=1", f"{other}=1"], [f"{shards}=2", f"{other}=2"], [f"{shards}=2", f"{other}=1"]]
    digests = [open_source(None, mix).about["digest"] for mix in mixes]
    assert digests[0] == digests[1] != digests[2]
