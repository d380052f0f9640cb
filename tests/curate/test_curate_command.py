"""The command line of curate as its users meet it: words, exit codes, start-up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archives import people

Archive = Callable[..., Path]


def curate(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "curate", *map(str, arguments)], cwd=cwd, check=False, capture_output=True, text=True)


def test_ingest_sample_and_verify_work_as_they_stand(archive: Archive, tmp_path: Path) -> None:
    archive(people(40))
    for command in (["ingest", "manifest.csv", "--images", "images"], ["sample", "--balance", "age"], ["verify", "shards/"]):
        done = curate(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "every checksum and count right" in done.stdout
    assert {"cohort", "shards"} <= {p.name for p in tmp_path.iterdir()}


def test_json_is_all_that_json_prints(archive: Archive, tmp_path: Path) -> None:
    archive(people(10))
    done = curate("ingest", "manifest.csv", "--images", "images", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["counts"]["images"] == 20


def test_quiet_prints_nothing(archive: Archive, tmp_path: Path) -> None:
    archive(people(10))
    done = curate("ingest", "manifest.csv", "--images", "images", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ingest", "none.csv"], "none.csv: no such file or folder"),
        (["ingest", "manifest.csv", "--images", "nowhere"], "--images nowhere: no such folder"),
        (["ingest", "manifest.csv", "--images", "images", "--profile", "odir"], "no such profile; did you mean 'odir5k'?"),
        (["ingest", "manifest.csv", "--images", "images", "--map", "age=Alter"], "the manifest has no column 'Alter'"),
        (["ingest", "manifest.csv", "--images", "images", "--max-bad", "lots"], "expected a share, as 1% or 0.01"),
        (["sample"], "cohort: no cohort here; make one with: curate ingest"),
        (["verify"], "shards: no shard set here; make one with: curate sample"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(archive: Archive, tmp_path: Path, arguments: list[str], words: str) -> None:
    archive(people(3))
    done = curate(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"manifest.csv", "images"}


def test_debug_shows_where(tmp_path: Path) -> None:
    done = curate("sample", "--debug", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_read_only_folder_is_one_line(archive: Archive, tmp_path: Path) -> None:
    archive(people(3))
    (tmp_path / "file").write_text("a file where a folder is wanted")
    done = curate("ingest", "manifest.csv", "--images", "images", "--out", "file/cohort", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("room", ["curate", "pretrain", "evaluate", "cards"])
def test_help_loads_nothing_heavy(room: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['{room}', '--help']\n"
        f"from {room}.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'timm', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "Usage" in done.stdout
    assert done.stdout.strip().endswith("[]")
