"""Faults: killed at any moment, on a full disk, with a worker lost: the same command again gives the same bytes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archives import people
from commands import command_line
from curate import artefacts
from curate.artefacts import begin, finish, write_json
from curate.errors import Unfinished, UserError
from curate.ingest import ingest_archive
from curate.sample import SampleRequest, sample_cohort

Archive = Callable[..., Path]
SIMULATE = ("simulate", "archive", "--patients", "12", "--dirt")
INGEST = ("ingest", "archive/manifest.csv", "--images", "archive/images", "--max-bad", "20%")
MEASURE = ("measure", "--resolution", "128")
SAMPLE = ("sample", "--size", "48", "--shard-images", "3", "--balance", "none", "--quality", "any")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@dataclass
class Step:
    """A command; what it makes (and under which name that was kept, made without disturbance); what it needs."""

    arguments: tuple[str, ...]
    made: str
    kept: str
    needs: tuple[str, ...]


STEPS = {
    "simulate": Step(SIMULATE, "archive", "archive", ()),
    "ingest": Step(INGEST, "cohort", "cohort-before", ("archive",)),
    "measure": Step(MEASURE, "cohort", "cohort", ("archive", "cohort-before")),
    "sample": Step(SAMPLE, "shards", "shards", ("archive", "cohort")),
}


@pytest.fixture(scope="module")
def launch() -> Callable[..., multiprocessing.process.BaseProcess]:
    """Start a command in a process of its own whose imports are done, so that a kill hits its work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["commands", "curate.ingest", "curate.measure", "curate.sample", "curate.phantom.archive"])

    def start(folder: Path, *arguments: str) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=command_line, args=("curate", str(folder), *arguments, "--quiet"))
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def undisturbed(launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    for name, step in STEPS.items():
        if name == "measure":
            shutil.copytree(folder / "cohort", folder / "cohort-before")
        process = launch(folder, *step.arguments, "--workers", "1")
        process.join()
        assert process.exitcode == 0
        assert not list(folder.glob("*.partial"))
    return folder


def prepare(step: Step, undisturbed: Path, folder: Path) -> None:
    """Put a command's inputs where it looks for them."""
    for name in step.needs:
        to = folder / name.removesuffix("-before")
        if not to.exists():
            shutil.copytree(undisturbed / name, to)


def kill(process: multiprocessing.process.BaseProcess) -> bool:
    """Kill a process and its workers; gives whether it was still at work."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # not yet, or no longer, the head of a group
        process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


# 52 kills in all
@pytest.mark.parametrize(
    ("name", "workers", "kills"),
    [
        ("simulate", 1, 8), ("ingest", 1, 12), ("measure", 1, 8), ("sample", 1, 12),
        ("simulate", 2, 3), ("ingest", 2, 3), ("measure", 2, 3), ("sample", 2, 3),
    ],
)  # fmt: skip
def test_killed_at_any_moment_the_same_command_gives_the_same_bytes(
    launch: Callable[..., Any], undisturbed: Path, tmp_path: Path, name: str, workers: int, kills: int
) -> None:
    step = STEPS[name]
    command = (*step.arguments, "--workers", str(workers))
    prepare(step, undisturbed, tmp_path)
    began = time.monotonic()
    process = launch(tmp_path, *command)
    process.join()
    took = time.monotonic() - began
    rng = np.random.default_rng([kills, workers, *name.encode()])
    chains = killed = 0
    while killed < kills:
        # A chain: killed and issued again until it gets through.
        shutil.rmtree(tmp_path / step.made)
        prepare(step, undisturbed, tmp_path)
        for _ in range(4):
            process = launch(tmp_path, *command)
            time.sleep(float(rng.uniform(0.02, 0.95)) * took)
            was_at_work = kill(process)
            killed += was_at_work
            assert was_at_work or process.exitcode == 0
            if not was_at_work or killed == kills:
                break
        process = launch(tmp_path, *command)
        process.join()
        assert process.exitcode == 0
        assert contents(tmp_path / step.made) == contents(undisturbed / step.kept)
        assert not list(tmp_path.rglob("*.partial"))
        chains += 1
        assert chains < 4 * kills


def test_a_worker_that_is_killed_is_one_line_and_the_same_command_resumes(undisturbed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "curate", *SIMULATE, "--patients", "72", "--workers", "2", "--quiet"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    parts = tmp_path / "archive.partial" / "parts"
    while not list(parts.glob("*.done")):
        time.sleep(0.01)
        assert process.poll() is None
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error == (
        "error: a worker process was killed (often for want of memory); run the same command again, it resumes; --workers 1 needs least\n"
    )
    done = {p.name: p.stat().st_mtime_ns for p in parts.glob("*.done")}
    assert 0 < len(done) < 4
    subprocess.run(command, cwd=tmp_path, check=True)
    whole = [sys.executable, "-m", "curate", *SIMULATE, "--patients", "72", "--workers", "1", "--quiet"]
    (tmp_path / "whole").mkdir()
    subprocess.run(whole, cwd=tmp_path / "whole", check=True)
    assert contents(tmp_path / "archive") == contents(tmp_path / "whole" / "archive")


def workers_of(process: int) -> list[int]:
    """Find the worker processes of a command."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == process and b"popen_loky_posix" in command:
                found.append(int(entry.name))
    return found


def test_what_was_read_of_an_archive_is_kept_when_a_worker_dies(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = archive(people(6))

    def dies(*_: object, **__: object) -> None:
        raise Unfinished("a worker process was killed")

    with monkeypatch.context() as patch:
        patch.setattr("curate.inspection.run_parts", dies)
        with pytest.raises(Unfinished):
            ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    assert (tmp_path / "cohort.partial" / "specification.json").exists()
    ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    assert not (tmp_path / "cohort.partial").exists()


# A full disk


def room(folder: Path) -> int:
    """Give the kilobytes that a folder's files take on a disk, in whole pages."""
    return sum(-(-p.stat().st_size // 4096) * 4 for p in folder.rglob("*") if p.is_file())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
@pytest.mark.parametrize(("name", "workers"), [("simulate", 2), ("ingest", 1), ("measure", 1), ("sample", 2)])
def test_on_a_full_disk_the_command_stops_in_one_line_and_resumes_when_there_is_room(
    undisturbed: Path, tmp_path: Path, name: str, workers: int
) -> None:
    step, small = STEPS[name], tmp_path / "small"
    small.mkdir()
    held = sum(room(undisturbed / n) for n in step.needs)
    wanted = room(undisturbed / step.kept) - (room(undisturbed / "cohort-before") if name == "measure" else 0)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={held + wanted // 2}k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    command = [sys.executable, "-m", "curate", *step.arguments, "--workers", str(workers), "--quiet"]
    try:
        prepare(step, undisturbed, small)
        before = contents(small)
        done = subprocess.run(command, cwd=small, check=False, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert done.stderr.endswith(": no space left on the disk; free some and run the same command again\n")
        assert done.stderr.count("\n") == 1
        assert {k: v for k, v in contents(small).items() if ".partial/" not in k} == before
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        subprocess.run(command, cwd=small, check=True)
        assert contents(small / step.made) == contents(undisturbed / step.kept)
        assert not list(small.rglob("*.partial"))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)  # worker processes may take a moment to leave


def failure(make: Callable[[Path], None], folder: Path) -> OSError | None:
    try:
        make(folder)
    except OSError as error:
        return error
    return None


def test_a_disk_that_is_full_at_any_write_leaves_nothing_half_written(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = archive(people(6))
    request = SampleRequest(size=32, shard_images=4, holdout=0.2, balance=())

    def make(folder: Path) -> None:
        ingest_archive(manifest, images=[tmp_path / "images"], out=folder / "cohort", name="any", workers=1)
        sample_cohort(folder / "cohort", request, out=folder / "shards", workers=1)

    for name in ("whole", "failing"):
        (tmp_path / name).mkdir()
    make(tmp_path / "whole")
    folder, sync = tmp_path / "failing", os.fsync
    for failing in range(1, 200):
        syncs = 0

        def full(descriptor: int) -> None:
            nonlocal syncs
            syncs += 1
            if syncs == failing:  # noqa: B023
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(artefacts.os, "fsync", full)
            error = failure(make, folder)
        if error is None:
            break
        assert error.filename
        for artefact, about in (("cohort", "cohort.json"), ("shards", "sample.json")):
            if (folder / artefact).exists():
                assert (folder / artefact / about).exists()
        make(folder)
        assert contents(folder) == contents(tmp_path / "whole")
        for artefact in ("cohort", "shards"):
            shutil.rmtree(folder / artefact)
    assert failing > 20


# Two at once


def test_a_second_command_on_the_same_folder_waits_its_turn(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "curate", *SIMULATE, "--patients", "60", "--workers", "1"]
    for number, others in enumerate(((), ("--part", "1/2"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        first = subprocess.Popen([*command, *others], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (folder / "archive.partial" / "specification.json").exists():
            time.sleep(0.01)
            assert first.poll() is None
        second = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        assert second.returncode == 2
        assert second.stderr == (
            "error: archive.partial: another process is at work on it; wait until it has ended, then run the same command again\n"
        )
        first.kill()
        first.wait()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    assert [p.name for p in folder.iterdir()] == ["archive"]


def test_tasks_that_begin_at_the_same_moment_all_find_the_same_folder(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from curate.artefacts import begin, provenance
from curate.engines import engine
from curate import lock
folder, start, task = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
for number in range(40):
    while time.time() < start + 0.02 * number: pass
    with engine(part=(task, 4)):
        partial = begin(folder / str(number), "x.json", provenance({"of": number}, {}))
    (partial / "parts").mkdir(exist_ok=True)
    (partial / "parts" / str(task)).touch()
"""
    start = time.time() + 1.5
    tasks = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(start), str(task)]) for task in (1, 2, 3, 4)]
    assert [task.wait() for task in tasks] == [0, 0, 0, 0]
    for number in range(40):
        assert sorted(p.name for p in (tmp_path / f"{number}.partial" / "parts").iterdir()) == ["1", "2", "3", "4"]


# Where an artefact may stand

MADE_BY = {"version": "1", "seed": 0, "specification": {"of": "this"}, "inputs": {}}


def make_at(out: Path, made_by: dict[str, Any] = MADE_BY) -> None:
    partial = begin(out, "x.json", made_by)
    if partial is not None:
        write_json(partial / "x.json", {"made_by": made_by})
        finish(out)


def test_an_empty_folder_and_a_link_to_one_are_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_at(tmp_path / "empty")
    (tmp_path / "disk" / "room").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "room")
    make_at(tmp_path / "link")
    make_at(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert set(contents(tmp_path / "disk")) == {"room/x.json"}
    assert set(contents(tmp_path / "empty")) == {"x.json"}
    assert {p.name for p in tmp_path.iterdir()} == {"disk", "empty", "link"}


def test_a_folder_that_cannot_be_renamed_over_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="can't be replaced"):
        make_at(Path("."))
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    with pytest.raises(UserError, match="can't be replaced"):
        make_at(tmp_path / "disk")
    assert [p.name for p in tmp_path.iterdir()] == ["disk"]


def test_the_removal_of_another_attempt_can_itself_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    partial = begin(out, "x.json", {**MADE_BY, "seed": 1})
    assert partial is not None
    for name in ("a", "parts", "z"):
        (partial / name).mkdir()

    def stops(path: Path) -> None:
        if Path(path).name == "parts":
            raise KeyboardInterrupt
        os.rmdir(path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stops)
        with pytest.raises(KeyboardInterrupt):
            make_at(out)
    make_at(out)
    assert set(contents(tmp_path)) == {"out/x.json"}


def test_killed_between_the_last_file_and_the_name_nothing_is_done_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    partial = begin(out, "x.json", MADE_BY)
    assert partial is not None
    write_json(partial / "x.json", {"made_by": MADE_BY})
    (partial / "specification.json").unlink()
    assert begin(out, "x.json", MADE_BY) is None
    (out / ".lock").touch()  # killed just before this was removed
    assert begin(out, "x.json", MADE_BY) is None
    assert set(contents(tmp_path)) == {"out/x.json"}


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="in the way"):
        make_at(tmp_path / "out")
    assert set(contents(tmp_path)) == {"out.partial/thesis.txt"}


WORK = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from curate import run_parts
from slow_parts import slow

if __name__ == "__main__":
    run_parts(slow, [(f"part-{{n}}", 1, ({folder!r},)) for n in range(4)], markers=Path({folder!r}) / "markers", workers=2, label="slow")
"""
SLOW = """
import os, time
from pathlib import Path

def slow(folder):
    (Path(folder) / f"worker-{os.getpid()}").touch()
    time.sleep(600)
    return {}
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_workers_of_a_command_that_was_killed_leave_too(tmp_path: Path) -> None:
    (tmp_path / "slow_parts.py").write_text(SLOW)
    (tmp_path / "work.py").write_text(WORK.format(here=str(tmp_path), folder=str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    command = subprocess.Popen([sys.executable, str(tmp_path / "work.py")], env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while len(workers := [int(p.name.partition("-")[2]) for p in tmp_path.glob("worker-*")]) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(workers) == 2
    assert all(alive(worker) for worker in workers)
    command.kill()
    command.wait()
    until = time.monotonic() + 30
    while any(alive(worker) for worker in workers) and time.monotonic() < until:
        time.sleep(0.2)
    assert not [worker for worker in workers if alive(worker)]
