"""Every command of the documentation is run, page by page, in a folder that has what the page takes for granted.

Sizes are made smaller by the tables below, never the commands themselves. A new command in a page is run from then on; one that can't
be run here has to be named under `ELSEWHERE` or `NEEDS`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from archives import people
from commands_of_docs import ROOT, Block, Command, blocks, commands, markdown_files
from curate import console
from curate.command import run as run_command
from how_to_worlds import WORLDS, World, predictions
from pretrain.recipe import read_recipe

HOW_TO = "docs/how-to/"

# What can't be run here, by how a command begins or by words of a block of Python, and what it lacks.
NEEDS = {
    "evaluate embed cohort/ --model timm:vit_small_patch14_dinov2.lvd142m": "the network: weights are downloaded",
    "torchrun --nproc-per-node 8": "8 GPUs; the same with two processes on a CPU is run",
    "from dask_jobqueue import SLURMCluster": "SLURM",
}

# What another test runs: the commands of a page, one command, or a block by words of it.
ELSEWHERE = {
    f"{HOW_TO}cluster.md": "tests/curate/test_engines.py",
    **{
        f"{HOW_TO}ingest-{form}.md": "tests/curate/test_how_to.py" for form in ("database", "dicom", "huggingface", "images-only", "tables")
    },
    "curate measure --modality skin": "tests/curate/test_modality_of_ones_own.py",
    'engine(scheduler="tcp://node1:8786")': "tests/test_how_to.py",
    "# melanoscope/measures.py": "tests/curate/test_modality_of_ones_own.py",
    "columns:                          # cohort column": "tests/curate/test_profiles.py",
}

# Sizes, by the first words of a command.
TINY = ["--samples", "64", "--set", "model.arguments.depth=2", "--set", "optim.batch=16", "--set", "optim.warmup_samples=16"]
HEADS = "{hidden: 32, bottleneck: 16, prototypes: 32}"
SHALLOW = ["--samples", "8", "--set", "model.arguments={depth: 1, embed_dim: 64, num_heads: 1}", "--set", "optim.batch=4"]
SHALLOW += ["--set", "optim.micro_batch=4", "--set", "optim.precision=float32"]
MAE = [*SHALLOW, "--set", "mae={decoder_depth: 1, decoder_width: 32, decoder_heads: 1}"]
DINO = [*SHALLOW, "--set", f"dinov2.dino_head={HEADS}", "--set", f"dinov2.ibot_head={HEADS}"]
RECIPES = {"mae-tiny": TINY, "mae-vit-base": MAE, "mae-vit-large": MAE, "dinov2-vit-base": DINO, "dinov2-vit-large": DINO}
ONE = ["--workers", "1"]
SIZES = {
    "curate simulate": ["--patients", "40", *ONE],
    "curate ingest": ONE,
    "curate measure": ONE,
    "curate describe": ["--by", "age,sex", "--measures", "Vessel_density"],
    "curate identify": ["--permutations", "19"],
    "curate sample": ["--shard-images", "2", *ONE],
    "curate verify": ONE,
    "curate shards": ONE,
    "pretrain run": ["--device", "cpu", *ONE],
    "pretrain plan": ["--device", "cpu", *SHALLOW[2:]],
    "evaluate run": ["--seeds", "2", "--replicates", "100", *ONE],
    "evaluate score": ["--replicates", "100"],
    "evaluate compare": ["--replicates", "100"],
    "evaluate embed": ONE,
    "evaluate figures evaluation-b": ["--figures", "gaps"],
}
# Words in the place of others: the last checkpoint of a whole run is another one of the shorter run here.
INSTEAD = {
    f"runs/mae-tiny/checkpoints/step-{read_recipe('mae-tiny').optim.steps}": "runs/mae-tiny/checkpoints/step-4",
    "finetune.epochs=10": "finetune.epochs=1",
}
ONE_EPOCH = {"finetune": ["finetune"], "probe-paper": ["probe-paper"], "all": ["finetune", "probe-paper"]}

# What is meant to be refused.
REFUSED = {"curate ingest archive.csv --images images --map site=Klinik --check"}

# What a command makes: on the pages the same command with other options is an alternative, not a second step.
MAKES = {
    "curate ingest": "cohort",
    "curate measure": "cohort/measurements.json",
    "curate describe": "describe",
    "curate sample": "shards",
    "evaluate run": "evaluation",
    "evaluate score": "evaluation",
    "evaluate compare": "comparison",
}


@dataclass(frozen=True)
class Step:
    """A command of a page, with the line as it stands there and what is shown below it."""

    command: Command
    line: str
    shown: tuple[str, ...]
    marked: bool

    @property
    def kind(self) -> str:
        return " ".join(self.command.words[:2])

    def __str__(self) -> str:
        return str(self.command)


def steps(block: Block) -> list[Step]:
    """Give the commands of a block with their lines and the output that is shown."""
    lines = re.sub(r"\\\n\s*", " ", block.text).split("\n")
    found = [(command, command.line - block.line) for command in commands(block)]
    ends = [number for number, line in enumerate(lines) if line.startswith("$ ")] + [len(lines)]
    shows = any(line.startswith("$ ") for line in lines)
    return [
        Step(
            command,
            lines[at].strip().removeprefix("$ "),
            tuple(lines[at + 1 : min(e for e in ends if e > at)]) if shows else (),
            block.run is not None,
        )
        for command, at in found
    ]


def option(words: list[str], name: str, otherwise: str) -> str:
    return words[words.index(name) + 1] if name in words else otherwise


def smaller(step: Step) -> list[str]:
    """Give the command with the sizes of the tables above."""
    words = [INSTEAD.get(word, word) for word in step.command.words]
    whole = shlex.join(words)
    more = [word for start, sizes in SIZES.items() if whole.startswith(start) for word in sizes]
    more += {"curate measure": ["--resolution", "128"], "evaluate figures": ["--figures", "bars"]}.get(whole, [])
    if step.kind == "pretrain run":
        more += RECIPES[option(words, "--recipe", "mae-tiny")]
    if step.kind == "evaluate run" and not any(".epochs=" in word for word in words):
        given = [word for before, word in itertools.pairwise(words) if before == "--adapt"]
        trained = dict.fromkeys(name for word in given for name in ONE_EPOCH.get(word, []))
        more += [word for name in trained for word in ("--set", f"{name}.epochs=1")]
    for name in ("--patients", "--samples", "--permutations"):
        if name in words and name in more:
            del words[words.index(name) : words.index(name) + 2]
    return words + more


def run(words: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in this process; gives its exit code and everything that it said."""
    room, *arguments = words
    said, before = io.StringIO(), (sys.argv, console.mode.command)
    sys.argv = [room, *arguments]
    try:
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            pytest.raises(SystemExit) as left,
        ):
            run_command(importlib.import_module(f"{room}.cli").app, room)
    finally:
        sys.argv, console.mode.command = before
    return int(left.value.code or 0), said.getvalue()


def launched(words: list[str], line: str, folder: Path) -> tuple[int, str]:
    """Run a command by torchrun, in processes of their own."""
    launcher = shlex.split(line.partition(" -m ")[0])[1:]
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, "-m", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def reason(step: Step) -> str | None:
    """Say why a command is not run here, if it isn't."""
    page, whole = step.command.page.relative_to(ROOT).as_posix(), shlex.join(step.command.words)
    if page == "docs/start.md" and step.marked:
        return "tests/test_start.py"
    return ELSEWHERE.get(page, ELSEWHERE.get(whole)) or next(
        (why for start, why in NEEDS.items() if step.line.startswith(start) or whole.startswith(start)), None
    )


def clear(words: list[str], folder: Path) -> None:
    """Remove what the same command has made before with other options."""
    kind = " ".join(words[:2])
    made = MAKES.get(kind)
    if kind == "pretrain run":
        made = f"runs/{option(words, '--recipe', 'mae-tiny')}"
    if made and not {"--check", "--dry-run"} & set(words):
        path = folder / option(words, "--out", made)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def plain(line: str) -> str:
    return " ".join(line.split())


def settled(shown: tuple[str, ...]) -> list[str]:
    """Give the shown lines that depend on no archive's numbers: those without any, and the heads of tables."""
    return [
        plain(line)
        for line, below in itertools.zip_longest(shown, shown[1:], fillvalue="")
        if line.strip(" .-") and (not re.search(r"\d", line) or re.fullmatch(r"-+(  -+)+", below))
    ]


def do(step: Step, folder: Path) -> str:
    """Run a command of a page; it has to do what the page says."""
    words = smaller(step)
    clear(words, folder)
    code, said = launched(words, step.line, folder) if step.line.startswith("torchrun") else run(words, folder)
    assert code == (2 if shlex.join(step.command.words) in REFUSED else 0), f"{step}\n{said}"
    lines = [plain(line) for line in said.split("\n")]
    whole = step.kind in ("evaluate power", "cards export")  # on these pages they depend on nothing that is smaller here
    wanted = [plain(line) for line in step.shown] if whole else settled(step.shown)
    assert not [line for line in wanted if line not in lines], f"{step}\n{said}"
    return said


def execute(block: Block, folder: Path) -> None:
    """Run a block of Python; of samples that it makes the first one is taken."""
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        exec(compile(block.text, f"{block.page}:{block.line}", "exec"), names)
        if "samples" in names:
            assert next(iter(names["samples"]))


def damage(shards: Path) -> None:
    """Give a repair something to do."""
    tars = sorted(shards.glob("*.tar"))
    tars[0].write_bytes(tars[0].read_bytes()[:-3000])
    tars[1].unlink()


def run_page(page: str, world: World) -> dict[str, str]:
    """Run a page from its first block to its last; gives what each command said."""
    said = {}
    for block in blocks(ROOT / page):
        for step in steps(block):
            if reason(step) is None:
                if step.kind == "curate shards":
                    damage(world.folder / "shards")
                world.before.get(step.line, world.nothing)()
                said[shlex.join(step.command.words)] = do(step, world.folder)
        if block.language == "python" and not any(words in block.text for words in ELSEWHERE):
            execute(block, world.folder)
    assert not [text for text in world.yaml if not any(words in text for words in ELSEWHERE)], "a block of YAML that no world takes"
    return said


# What follows a page's last command: blocks that are no commands.


def answers_are_read(world: World) -> None:
    code, said = run(["cards", "check"], world.folder)
    assert code == 0, said


def tasks_are_run(world: World) -> None:
    """Run the page's rules and findings, which stand on it without a command."""
    words = ["evaluate", "run", "--task", "event.yaml", "--task", "findings.yaml", "--model", "A=runs/a", "--adapt", "logistic"]
    code, said = run([*words, *SIZES["evaluate run"], "--out", "others"], world.folder)
    assert code == 0, said
    assert {"event", "oedema", "drusen", "late"} <= set(pd.read_parquet(world.folder / "others/estimates.parquet")["class"])


def members_are_summed(world: World) -> None:
    """Run the page's line of tar and sha256sum, whose sum the index has."""
    (block,) = (b for b in blocks(ROOT / HOW_TO / "shards.md") if b.text.startswith("tar "))
    done = subprocess.run(block.text, shell=True, cwd=world.folder / "shards", check=True, capture_output=True, text=True)
    index = json.loads((world.folder / "shards/shards.json").read_text(encoding="utf-8"))
    assert done.stdout.split()[0] == index["shardlist"][0]["members_sha256"]


def codes_are_taken(world: World) -> None:
    rows = [
        {**row, "sex": f"{n % 2 + 1}", "eye": f"{n % 2 + 1}", "ethnicity": "AHZ"[n % 3], "diagnosis": "AB"[n % 2], "patient_id": f"{n}"}
        for n, row in enumerate(people(6))
    ]
    world.archive("coded.csv", "coded", rows)
    (world / "codes.yaml").write_text("A: healthy\nB: glaucoma\n", encoding="utf-8")
    (block,) = (b for b in blocks(ROOT / HOW_TO / "clean-a-table.md") if b.text.startswith("--codes"))
    options = shlex.split(block.text, comments=True)
    code, said = run(["curate", "ingest", "coded.csv", "--images", "coded", "--out", "coded-cohort", *options, *ONE], world.folder)
    assert code == 0, said
    table = pd.read_parquet(world.folder / "coded-cohort/cohort.parquet")
    assert {c: set(table[c]) for c in ("sex", "laterality", "diagnosis")} == {
        "sex": {"male", "female"}, "laterality": {"left", "right"}, "diagnosis": {"healthy", "glaucoma"},
    }  # fmt: skip


def contradictions_are_shown(world: World) -> None:
    (world / "card/card.yaml").write_text(
        'items:\n  "1.1a":\n    answer: |\n      It holds 5,000 photographs, balanced by sex.\n', encoding="utf-8"
    )
    code, said = run(["cards", "check"], world.folder)
    assert code == 0, said
    (block,) = (b for b in blocks(ROOT / HOW_TO / "answer.md") if b.text.startswith("Contradicts"))
    lines = [without_numbers(line) for line in said.split("\n")]
    assert not [line for line in block.text.split("\n") if without_numbers(line) not in lines], said


def a_job_of_slurm_is_done(world: World) -> None:
    """Run the page's script with programs in the place of SLURM's, on one processor."""
    (block,) = (b for b in blocks(ROOT / HOW_TO / "train.md") if "#SBATCH" in b.text)
    (world / "job.sh").write_text(block.text, encoding="utf-8")
    world.tool("srun", '#!/bin/sh\nwhile case "$1" in --*) ;; *) false ;; esac; do shift; done\nexec "$@"\n')
    world.tool("scontrol", "#!/bin/sh\necho localhost\n")
    sizes = shlex.join([*MAE, "--device", "cpu"])
    world.tool("pretrain", f'#!/bin/sh\nexec {sys.executable} -m "pretrain" "$@" {sizes}\n')
    shutil.rmtree(world.folder / "runs/mae")
    environment = os.environ | {"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_ID": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "job.sh"], cwd=world.folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((world.folder / "runs/mae/run.json").read_text(encoding="utf-8"))["status"] == "finished"


AFTER = {
    "docs/start.md": answers_are_read,
    f"{HOW_TO}answer.md": contradictions_are_shown,
    f"{HOW_TO}clean-a-table.md": codes_are_taken,
    f"{HOW_TO}evaluate.md": tasks_are_run,
    f"{HOW_TO}shards.md": members_are_summed,
    f"{HOW_TO}train.md": a_job_of_slurm_is_done,
}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Leave torch as it was."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every command of the README has been run."""
    folder = tmp_path_factory.mktemp("line")
    run_page("README.md", World("README.md", folder, folder))
    return folder


def test_the_readme_ends_with_a_card_and_checks_a_table_of_ones_own(line: Path) -> None:
    assert "the people do not exist" in (line / "card/card.html").read_text(encoding="utf-8")
    assert (line / "runs/mae-tiny/backbone.safetensors").exists()


@pytest.mark.parametrize("page", [page for page in WORLDS if page != "README.md"])
def test_every_command_of_a_page_is_run(page: str, line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(page, tmp_path, line)
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}")
    assert run_page(page, world)
    if page in AFTER:
        AFTER[page](world)


def test_every_command_is_run_here_or_elsewhere_or_needs_what_is_not_here() -> None:
    unrun, reasons = [], []
    for page in markdown_files():
        name = page.relative_to(ROOT).as_posix()
        for block in blocks(page):
            for step in steps(block):
                reasons.append(reason(step))
                if name not in WORLDS and reasons[-1] is None:
                    unrun.append(str(step))
            if block.language in ("python", "yaml"):
                found = [why for words, why in (NEEDS | ELSEWHERE).items() if words in block.text]
                reasons += found
                if name not in WORLDS and not found:
                    unrun.append(f"{name}:{block.line}")
    assert not unrun, "\n".join(unrun)
    assert {*NEEDS.values()} <= {*reasons}, "a need that nothing on the pages has"
    assert not [test for test in ELSEWHERE.values() if not (ROOT / test).is_file()]


def test_every_page_that_another_test_runs_is_named_there() -> None:
    for page, test in ELSEWHERE.items():
        if page.endswith(".md"):
            named = {Path(page).name, "ingest-*.md"}
            assert [name for name in named if f'"{name}"' in (ROOT / test).read_text(encoding="utf-8")], page


def test_the_cluster_pages_python_measures_on_a_cluster(line: Path, tmp_path: Path) -> None:
    """With a scheduler that is there in the place of node1."""
    distributed = pytest.importorskip("distributed")
    world = World(f"{HOW_TO}measure.md", tmp_path, line)
    (block,) = (b for b in blocks(ROOT / HOW_TO / "cluster.md") if "tcp://node1:8786" in b.text and b.language == "python")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None) as cluster:
        execute(replace(block, text=block.text.replace("tcp://node1:8786", cluster.scheduler_address)), world.folder)
    assert len(pd.read_parquet(tmp_path / "cohort/measurements.parquet")) == len(pd.read_parquet(tmp_path / "cohort/cohort.parquet"))


def without_numbers(line: str) -> str:
    return re.sub(r"\d[\d,]*", "0", plain(line))


def test_what_stands_in_the_way_of_a_cohort_is_said_as_on_the_page(line: Path, tmp_path: Path) -> None:
    page = f"{HOW_TO}clean-a-table.md"
    world = World(page, tmp_path, line)
    said = run_page(page, world)
    (block,) = (b for b in blocks(ROOT / page) if b.text.startswith("problem: "))
    lines = [without_numbers(text) for text in said[next(iter(REFUSED))].split("\n")]
    assert not [text for text in block.text.split("\n") if without_numbers(text) not in lines], said
    # The tutorial's archive, had it coded sex.
    world.table("full_df.csv", [{"ID": "1", "Patient Age": "60", "Patient Sex": sex, "filename": "x_left.jpg"} for sex in "01"])
    world.draw("odir5k", ["x_left.jpg"])
    _, error = run(["curate", "ingest", "full_df.csv", "--images", "odir5k", "--profile", "odir5k", "--out", "odir", *ONE], tmp_path)
    (block,) = (b for b in blocks(ROOT / "docs/tutorial.md") if b.text.startswith("error: "))
    assert without_numbers(error) == without_numbers(block.text)


SPLITS = ["train"] * 35 + ["test", "train"] * 2 + ["test"] * 161
MISTAKES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "add up": lambda t: t.assign(p_0=t["p_0"].mask(t.index.isin([3, 8]), 0.9), p_1=t["p_1"].mask(t.index.isin([3, 8]), 0.4)),
    "missing or infinite": lambda t: t.assign(p_1=t["p_1"].mask(t.index == 6)),
    "none of the classes": lambda t: t.assign(label=t["label"].mask(t.index == 4, 7)),
    "repeat an image": lambda t: pd.concat([t, t.iloc[[9]]]),
    "in two splits": lambda t: t.assign(patient_id=[f"P{n // 2:03d}" for n in range(len(t))], split=SPLITS),
    "not in the cohort": lambda t: t.assign(image_id=t["image_id"].mask(t.index == 4, "elsewhere")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_predictions_is_told_as_on_the_page(mistake: str, tmp_path: Path) -> None:
    (block,) = (b for b in blocks(ROOT / HOW_TO / "score.md") if b.text.startswith("error: out.csv"))
    (shown,) = (text for text in block.text.split("\n") if mistake in text)
    one = predictions("A", patients=100)
    one = one[one["seed"] == 0].assign(image_id=[f"i{n}" for n in range(200)]).reset_index(drop=True)
    one = one[["image_id", "label", "model", "seed", "p_0", "p_1"]].astype({"label": int})
    MISTAKES[mistake](one).to_csv(tmp_path / "out.csv", index=False)
    (tmp_path / "cohort").mkdir()
    one[["image_id"]].assign(patient_id=one["image_id"], path="x.jpg").to_parquet(tmp_path / "cohort/cohort.parquet")
    (tmp_path / "cohort/cohort.json").write_text('{"images": "."}', encoding="utf-8")
    options = {"missing or infinite": ["--score", "p_1"], "not in the cohort": ["--scores", "p_", "--cohort", "cohort"]}
    code, said = run(["evaluate", "score", "out.csv", *options.get(mistake, ["--scores", "p_"])], tmp_path)
    assert code == 2
    assert re.fullmatch(re.escape(shown).replace(re.escape("..."), ".*"), said.strip()), said
