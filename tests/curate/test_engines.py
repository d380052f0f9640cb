"""Engines: a Dask cluster and array jobs give the bytes that one process gives; what can go wrong is said in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archives import people
from commands import run
from curate.engines import Engine, PartDone, choose, current, engine
from curate.errors import Unfinished, UserError
from curate.ingest import ingest_archive
from curate.parts import run_parts

Archive = Callable[..., Path]
CLUSTER_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "curate", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def refused(*arguments: object, cwd: Path) -> str:
    """Run a command that must end with one line, and give the line."""
    process = start(*arguments, cwd=cwd)
    _, line = process.communicate(timeout=120)
    assert process.returncode == 2, line
    assert line.startswith("error: "), line
    assert line.count("\n") == 1, line
    return line


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Cluster:
    """A Dask scheduler and workers, each a process of its own that can be killed."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.environment = {**os.environ, **environment}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(self.file), "--no-dashboard")
        wait_for(lambda: self.file.exists() and self.file.read_text().strip().endswith("}"))
        self.address = json.loads(self.file.read_text())["address"]

    def _start(self, *arguments: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[bytes]:
        command = [*before, sys.executable, "-m", "dask", *arguments]
        process = subprocess.Popen(
            command, cwd=self.folder, env={**self.environment, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def add_worker(self, *options: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[bytes]:
        options = options or ("--no-nanny", "--nthreads", "1")
        own = tuple(f"--{name}={self.folder / name}" for name in ("local-directory", "scheduler-file"))
        own = (own[0], f"--scheduler-file={self.file}", "--no-dashboard")
        return self._start("worker", *own, *options, before=before, **environment)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    clusters: list[Cluster] = []

    def make(**environment: str) -> Cluster:
        folder = tmp_path / f"cluster{len(clusters)}"
        folder.mkdir()
        clusters.append(Cluster(folder, **environment))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


def simulated(out: Path) -> tuple[object, ...]:
    return ("simulate", out, "--patients", 66, "--dirt", "--quiet")


def whole_line(folder: Path, *how: object) -> None:
    """Ingest, measure and sample with an engine."""
    images = folder.parent / "archive"
    run("curate", "ingest", images / "manifest.csv", "--images", images / "images", "--max-bad", "10%", *how, cwd=folder)
    run("curate", "measure", "--resolution", "128", *how, cwd=folder)
    run("curate", "sample", "--size", "64", "--shard-images", "12", "--quality", "any", *how, cwd=folder)


def without_commands(folder: Path) -> dict[str, bytes]:
    """Give the contents of every file; the recorded commands differ in how paths were given."""
    return {
        name: re.sub(rb'"command": "[^\n]*",', b"", data) if name.endswith(".json") else data for name, data in contents(folder).items()
    }


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, and in ``alone`` what processes on one machine make of it."""
    folder = tmp_path_factory.mktemp("line")
    run("curate", *simulated(folder / "archive"), "--workers", "2", cwd=folder)
    (folder / "alone").mkdir()
    whole_line(folder / "alone", "--workers", "1", "--quiet")
    return folder


def test_a_cluster_that_loses_a_worker_gives_the_same_bytes(line: Path, new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = new_cluster()
    first = cluster.add_worker()
    command = start(*simulated(tmp_path / "archive"), "--scheduler", cluster.address, cwd=tmp_path)
    parts = tmp_path / "archive.partial" / "parts"
    wait_for(lambda: list(parts.glob("*.done")))
    first.kill()  # at its second part, with nobody else to do the rest
    cluster.add_worker()
    _, error = command.communicate(timeout=120)
    assert command.returncode == 0, error
    assert without_commands(tmp_path / "archive") == without_commands(line / "archive")

    # The same through the whole line, with files named as the user names them: relative to where the command runs.
    folder = line / "dask"
    folder.mkdir()
    cluster.add_worker("--no-nanny", "--nthreads", "2")
    whole_line(folder, "--scheduler", cluster.file, "--quiet")
    assert without_commands(folder) == without_commands(line / "alone")


def test_a_scheduler_that_ends_in_the_middle_is_one_line_and_the_rest_is_done_later(
    line: Path, new_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = new_cluster()
    cluster.add_worker()
    command = start(*simulated(tmp_path / "archive"), "--scheduler", cluster.address, cwd=tmp_path)
    parts = tmp_path / "archive.partial" / "parts"
    wait_for(lambda: list(parts.glob("*.done")))
    cluster.scheduler.kill()
    _, error = command.communicate(timeout=60)
    assert command.returncode == 2, error
    assert error == f"error: {cluster.address}: the scheduler ended or can't be reached any more; run the same command again, it resumes\n"
    done = {p.name for p in parts.glob("*.done")}
    assert 0 < len(done) < 4
    run("curate", *simulated(tmp_path / "archive"), "--workers", "2", cwd=tmp_path)
    assert without_commands(tmp_path / "archive") == without_commands(line / "archive")


def test_ctrl_c_takes_the_parts_back(new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    from distributed import Client

    cluster = new_cluster()
    cluster.add_worker()
    command = start(*simulated(tmp_path / "archive"), "--scheduler", cluster.address, cwd=tmp_path)
    wait_for(lambda: list((tmp_path / "archive.partial" / "parts").glob("*.done")))
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=60)
    assert command.returncode not in (0, 2)
    with Client(cluster.address, set_as_default=False) as client:
        wait_for(lambda: not any(client.processing().values()))
        assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0


def test_no_scheduler_is_one_line(tmp_path: Path) -> None:
    command = ("simulate", "archive", "--patients", "40")
    said = refused(*command, "--scheduler", "tcp://127.0.0.1:9", cwd=tmp_path)
    assert "no Dask scheduler answers there" in said
    assert "start one with: dask scheduler" in said
    assert "no such file" in refused(*command, "--scheduler", "smoke://signals", cwd=tmp_path)
    (tmp_path / "scheduler.json").write_text("[]")
    assert "not the file of a Dask scheduler" in refused(*command, "--scheduler", "scheduler.json", cwd=tmp_path)


def pretend(folder: Path, *, version: str | None) -> str:
    """Make a folder that, on PYTHONPATH, hides evenfooting or gives it another version."""
    folder.mkdir()
    if version is None:
        (folder / "curate").mkdir()
        (folder / "curate" / "__init__.py").write_text("raise ImportError(\"No module named 'curate'\")\n")
    else:
        about = folder / "evenfooting-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: evenfooting\nVersion: {version}\n")
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


@pytest.mark.parametrize(
    ("version", "words"), [(None, "evenfooting can't be imported there"), ("0.0.7", "evenfooting 0.0.7 there and 0.1.0 here")]
)
def test_a_worker_with_another_evenfooting_is_named(
    new_cluster: Callable[..., Cluster], tmp_path: Path, version: str | None, words: str
) -> None:
    cluster = new_cluster()
    cluster.add_worker(PYTHONPATH=pretend(tmp_path / "pretended", version=version))
    said = refused("simulate", "archive", "--patients", "40", "--scheduler", cluster.address, "--quiet", cwd=tmp_path)
    assert words in said
    assert re.search(r"worker tcp://[\d.]+:\d+: ", said)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root to hide a folder from a worker")
def test_a_worker_that_does_not_see_the_folder_is_named(new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("cannot hide a folder here")
    (tmp_path / "shared").mkdir()
    cluster = new_cluster()
    hide = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs tmpfs {tmp_path / "shared"} && exec "$@"', "sh")
    cluster.add_worker(before=hide)
    said = refused("simulate", "archive", "--patients", "40", "--scheduler", cluster.address, "--quiet", cwd=tmp_path / "shared")
    assert "archive.partial/parts isn't seen there; workers need the same files at the same place (a shared file system)" in said


def test_a_part_that_kills_its_workers_is_one_line(new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = new_cluster(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    cluster.add_worker("--nthreads", "1")

    def fatal(number: int) -> dict[str, int]:
        os.kill(os.getpid(), 9)
        return {}

    with engine(scheduler=cluster.address), pytest.raises(Unfinished, match=r"1 workers died one after another at part a, the last at tcp"):
        run_parts(fatal, [("a", 1, (1,))], markers=tmp_path / "parts", workers=1, label="dying")
    assert not list((tmp_path / "parts").iterdir())


def test_errors_of_parts_come_back_whole_and_parts_go_out_a_few_at_a_time(new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    from distributed import Client

    cluster = new_cluster()
    cluster.add_worker()

    def part(number: int, folder: str) -> dict[str, int]:
        import errno
        from pathlib import Path

        from curate.errors import UserError

        if number == 60:
            raise OSError(errno.EDQUOT, "Disk quota exceeded", "/archive/full.tar")
        if number == 61:
            raise UserError("row 61: age 'x' is no age")
        Path(folder, f"{number}.out").write_text(str(number))
        return {"number": number}

    (tmp_path / "out").mkdir()
    parts = [(f"part-{n:03d}", 1, (n, str(tmp_path / "out"))) for n in range(60)]
    most = 0

    def look() -> None:
        nonlocal most
        with Client(cluster.address, set_as_default=False) as client:
            while len(list((tmp_path / "out").iterdir())) < 60:
                most = max(most, client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))

    import threading

    watcher = threading.Thread(target=look)
    watcher.start()
    with engine(scheduler=cluster.address):
        results = run_parts(part, parts, markers=tmp_path / "parts", workers=1, label="counting")
        watcher.join()
        assert [r["number"] for r in results] == list(range(60))
        assert 0 < most <= 6
        for number, kind, words in ((60, OSError, "full.tar"), (61, UserError, "row 61")):
            with pytest.raises(kind, match=words) as caught:
                run_parts(part, [("bad", 1, (number, ""))], markers=tmp_path / "parts", workers=1, label="failing")
            if isinstance(caught.value, OSError):
                assert caught.value.filename == "/archive/full.tar"
                assert caught.value.strerror == "Disk quota exceeded"


# Array jobs


def test_tasks_of_an_array_that_start_at_once_and_a_final_command_give_the_same_bytes(line: Path, tmp_path: Path) -> None:
    tasks = [start(*simulated(tmp_path / "archive")[:-1], "--workers", "1", "--part", f"{i}/5", cwd=tmp_path) for i in range(1, 6)]
    for number, task in enumerate(tasks, 1):
        said, error = task.communicate(timeout=120)
        assert task.returncode == 0, error
        assert said == f"part {number} of 5 is done; when all are, run the same command without --part to finish\n"
    assert not (tmp_path / "archive").exists()
    began = time.monotonic()
    run("curate", *simulated(tmp_path / "archive"), "--workers", "1", cwd=tmp_path)
    assert time.monotonic() - began < 10
    assert without_commands(tmp_path / "archive") == without_commands(line / "archive")
    # A task that comes too late finds everything done.
    run("curate", *simulated(tmp_path / "archive"), "--part", "2/5", cwd=tmp_path)
    assert without_commands(tmp_path / "archive") == without_commands(line / "archive")
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


def test_a_task_that_is_killed_is_made_up_for(line: Path) -> None:
    folder = line / "array"
    folder.mkdir()
    for command in (
        ("ingest", line / "archive" / "manifest.csv", "--images", line / "archive" / "images", "--max-bad", "10%"),
        ("measure", "--resolution", "128"),
        ("sample", "--size", "64", "--shard-images", "12", "--quality", "any"),
    ):
        tasks = [start(*command, "--workers", "1", "--part", f"{i}/3", cwd=folder) for i in range(1, 4)]
        time.sleep(1.2)
        os.killpg(tasks[1].pid, signal.SIGKILL)
        for task in tasks:
            task.communicate(timeout=120)
        assert [task.returncode for task in tasks][::2] == [0, 0]
        run("curate", *command, "--workers", "1", "--quiet", cwd=folder)
    assert without_commands(folder) == without_commands(line / "alone")


def test_json_says_which_part_was_done(line: Path, tmp_path: Path) -> None:
    said = run("curate", "simulate", "archive", "--patients", "30", "--part", "2/2", "--json", cwd=tmp_path)
    assert json.loads(said) == {"part": 2, "of": 2}


@pytest.mark.parametrize("part", ["0/4", "5/4", "x/4", "1", "1/0", "-1/4", "1/2/3", ""])
def test_parts_that_are_none_are_refused(tmp_path: Path, part: str) -> None:
    said = refused("simulate", "archive", f"--part={part}", cwd=tmp_path)
    assert f"--part {part}: expected i/N with i from 1 to N, as 2/8" in said
    assert not list(tmp_path.iterdir())


def test_a_part_and_a_scheduler_are_refused_together(tmp_path: Path) -> None:
    for options in (("--part", "1/2", "--scheduler", "tcp://a:1"), ("--scheduler", "tcp://a:1", "--part", "1/2")):
        assert "--part and --scheduler: give one of them" in refused("simulate", "archive", *options, cwd=tmp_path)


def test_shares_cover_every_part_once() -> None:
    shares = [place for i in range(1, 8) for place in Engine(part=(i, 7)).share(100)]
    assert sorted(shares) == list(range(100)) == list(Engine().share(100))


def test_the_engine_is_chosen_for_a_block_alone() -> None:
    with engine(part=(1, 2)), pytest.raises(UserError, match="give one of them"):
        choose(scheduler="tcp://a:1")
    assert current() == Engine()


def _nothing(number: int) -> dict[str, int]:
    return {"number": number}


def test_a_second_array_goes_on_to_the_parts_that_follow(tmp_path: Path) -> None:
    parts = [(f"part-{n}", 1, (n,)) for n in range(4)]

    def work() -> None:
        run_parts(_nothing, parts, markers=tmp_path / "first", workers=1, label="first", last=False)
        run_parts(_nothing, parts, markers=tmp_path / "second", workers=1, label="second")

    for round_of, expected in ((1, 0), (2, 4)):
        for task in (1, 2):
            with engine(part=(task, 2)), pytest.raises(PartDone):
                work()
        assert len(list((tmp_path / "first").iterdir())) == 4
        assert len(list((tmp_path / "second").iterdir()) if round_of == 2 else []) == expected
    work()


def test_a_task_refuses_to_remove_an_attempt_at_something_else(tmp_path: Path) -> None:
    run("curate", "simulate", "archive", "--patients", "30", "--part", "1/2", "--quiet", cwd=tmp_path)
    before = contents(tmp_path)
    said = refused("simulate", "archive", "--patients", "31", "--part", "1/2", cwd=tmp_path)
    assert "archive.partial: was made with another specification (patients: there 30, asked 31); remove it, then start the tasks" in said
    assert contents(tmp_path) == before


def test_a_task_that_fails_leaves_what_others_made(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = archive(people(4))

    def fails(*_: object) -> object:
        raise UserError("the folder isn't mounted here")

    for part, kept in (((1, 2), True), (None, False)):
        (tmp_path / "cohort.partial").mkdir(exist_ok=True)
        monkeypatch.setattr("curate.ingest.locate", fails)
        with engine(part=part), pytest.raises(UserError, match="mounted"):
            ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
        assert (tmp_path / "cohort.partial").exists() == kept


# SLURM


def scripts() -> dict[str, str]:
    """Give the shell scripts of the page by their first comment."""
    blocks = re.findall(r"```bash\n(.*?)```", CLUSTER_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {found[1]: block for block in blocks if (found := re.search(r"^# (\S+\.sh)", block, re.MULTILINE))}


# What stands in for SLURM: the tasks of an array one after another, and a number for every job.
SBATCH = f"""#!{sys.executable}
import itertools, os, subprocess, sys
options = list(itertools.takewhile(lambda a: a.startswith("--"), sys.argv[1:]))
tasks = next((int(o.split("-")[-1]) for o in options if o.startswith("--array=1-")), 1)
with open("submitted", "a") as submitted, open("log", "a") as log:
    print(*sys.argv[1:], file=submitted)
    for task in range(1, tasks + 1):
        environment = {{**os.environ, "SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_ID": str(task)}}
        subprocess.run(["bash", *sys.argv[1 + len(options):]], env=environment, stdout=log, stderr=log, check=True)
print(len(open("submitted").readlines()))
"""


def test_the_slurm_scripts_of_the_page_do_what_they_say(line: Path) -> None:
    folder = line / "slurm"
    (folder / "logs").mkdir(parents=True)
    # Two tasks are enough to see it work.
    written = {name: re.sub(r"(?m)^step \d+ ", "step 2 ", text) for name, text in scripts().items()}
    assert set(written) == {"task.sh", "finish.sh", "submit.sh", "dask.sh"}
    for name, text in written.items():
        (folder / name).write_text(text)
        checked = subprocess.run(["bash", "-n", name], cwd=folder, check=False, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
    tools = folder / "tools"
    tools.mkdir()
    (tools / "curate").write_text(f'#!/bin/sh\nexec {sys.executable} -m curate "$@"\n')
    (tools / "srun").write_text('#!/bin/sh\nexec "$@"\n')
    (tools / "sbatch").write_text(SBATCH)
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    (folder / "images").symlink_to(line / "archive" / "images")
    rows = (line / "archive" / "manifest.csv").read_text().splitlines(keepends=True)
    (folder / "manifest.csv").write_text("".join(rows[:30]))
    done = subprocess.run(["bash", "submit.sh"], cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + (folder / "log").read_text()
    assert (folder / "submitted").read_text().count("--dependency=afterok:") == 5
    assert (folder / "log").read_text().count("is done; when all are, run the same command without --part") == 3 * 2
    run("curate", "verify", "shards", cwd=folder)
