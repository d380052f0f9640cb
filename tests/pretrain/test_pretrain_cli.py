"""The command line: what is said, exit codes, and no torch for --help."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from curate import console
from curate.command import run
from pretrain.cli import app

ROOT = Path(__file__).parents[2]
HELP = """
import sys
sys.argv = ["pretrain", "run", "--help"]
import pretrain.__main__ as room
try:
    room.main()
finally:
    heavy = {"torch", "timm", "numpy", "pandas", "cv2"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.fixture
def pretrain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line in this process; gives the exit code."""
    for flag in ("quiet", "json", "debug", "command"):
        monkeypatch.setattr(console.mode, flag, getattr(console.mode, flag))

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["pretrain", *arguments])
        with pytest.raises(SystemExit) as left:
            run(app, "pretrain")
        return int(left.value.code or 0)

    return call


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--recipe" in done.stdout


def test_run_prints_its_result_as_json(
    pretrain: Callable[..., int], finished: Path, shards: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for override in tiny for part in ("--set", override)]
    assert pretrain("run", str(shards), "--recipe", "mae-tiny", "--out", str(finished), *options, "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"


def test_plan_shows_where_each_number_comes_from(
    pretrain: Callable[..., int], shards: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for override in tiny for part in ("--set", override)]
    assert pretrain("plan", str(shards), "--recipe", "mae-tiny", "--device", "cpu", *options) == 0
    shown = capsys.readouterr().out
    assert "samples seen" in shown
    assert "measured: a few training steps" in shown


def test_a_mistake_is_one_line_and_exit_code_2(
    pretrain: Callable[..., int], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain("run", str(shards), "--recipe", "mae-tinny", "--out", str(tmp_path / "out")) == 2
    said = "error: recipe 'mae-tinny' is not known (or give the path of a .yaml file); did you mean 'mae-tiny'?"
    assert capsys.readouterr().err.splitlines() == [said]
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_set_says_how_to_make_one(pretrain: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain("run", str(tmp_path / "shards"), "--recipe", "mae-tiny", "--out", str(tmp_path / "out")) == 2
    assert "no shard set here; make one with: curate sample" in capsys.readouterr().err


def test_a_wrong_device_is_one_line(pretrain: Callable[..., int], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain("run", str(shards), "--recipe", "mae-tiny", "--out", str(tmp_path / "out"), "--device", "gpu") == 2
    assert "--device gpu: give cpu, cuda or cuda:N" in capsys.readouterr().err
