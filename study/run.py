"""The design of Zhou et al. in miniature: does what a backbone is pre-trained on change whom it serves?

    python study/run.py OUT [--scale 1] [--odir FOLDER] [--workers 0]

Every step is a command of evenfooting, printed before it runs; each goes on where it stopped, so this may be killed and started
again. On two cores it takes up to an hour. `--scale 4` has four times as many patients, images and samples seen.

On phantoms (known truth: age changes the vessels, sex and ethnicity nothing that a camera sees): an archive of two hospitals whose
patients are on average 69 and 47 years old; four pre-training sets of one size (the old hospital, the young one, the old one
balanced by age, both balanced by age); MAE and DINOv2; tasks on patients that no set has seen, at each hospital and at both. As
controls the first set is pre-trained on a second time, with other random numbers, and a model is left untrained: how far do two
models differ that differ in nothing but chance, and does pre-training do anything at this size?

On ODIR-5K, where its folder is given: two sets of one size, drawn from the same patients with opposite skews of age.

Ends in OUT/report.html, OUT/report.json and a data card of every set in OUT/cards/.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from report import write_report

HERE = Path(__file__).resolve().parent
OLD, YOUNG = "Northgate Eye Hospital", "Pujiang Eye Centre"
METHODS = ("mae", "dinov2")


@dataclass(frozen=True)
class Size:
    """How large the study is.

    Attributes:
        patients: of the phantom archive, at both hospitals together.
        images: in each pre-training set.
        samples: seen in pre-training, by method.
        epochs: of fine-tuning.
        seeds: of every adaptation.
    """

    patients: int
    images: int
    samples: dict[str, int]
    epochs: int = 5
    seeds: int = 5

    @classmethod
    def at(cls, scale: float) -> Size:
        """Give the size at a scale; 1 is an hour on two cores."""
        return cls(round(1400 * scale), round(420 * scale), {"mae": round(12000 * scale), "dinov2": round(8000 * scale)})


@dataclass(frozen=True)
class Archive:
    """An archive and the pre-training sets that are drawn from it.

    Attributes:
        name: of its folder beneath OUT.
        sets: name -> options of ``curate sample``.
        task: file in `study/tasks`, for everyone.
        hospitals: a task at one hospital -> the set drawn there.
    """

    name: str
    sets: dict[str, list[str]]
    task: str
    hospitals: dict[str, str]


AGES = ("--bins", "age=55,68")  # so that the old hospital has enough of the young, and the young one of the old
PHANTOM = Archive(
    "phantom",
    {
        "old": ["--balance", "none", *AGES, "--where", f"site == '{OLD}'"],
        "young": ["--balance", "none", *AGES, "--where", f"site == '{YOUNG}'"],
        "old-balanced": ["--balance", "age", *AGES, "--where", f"site == '{OLD}'"],
        "both-balanced": ["--balance", "age", *AGES],
    },
    "both",
    {"northgate": "old", "pujiang": "young"},
)
ODIR = Archive(
    "odir",
    {
        "older": ["--balance", "age", "--bins", "age=50,65", "--target", str(HERE / "targets" / "older.csv")],
        "younger": ["--balance", "age", "--bins", "age=50,65", "--target", str(HERE / "targets" / "younger.csv")],
    },
    "odir-diabetes",
    {},
)
# Fine-tuning for small backbones, few photographs and small lesions; the rest is as the paper has it.
FINETUNE = {"head": "probe", "rate": "3e-4", "layer_decay": "0.9", "drop_path": "0", "augment": "none", "crop": "0.6", "erase": "0"}
HOLDOUT = "0.4"  # of the patients: half of what is labelled tests


class Steps:
    """Runs commands in a folder and tells them.

    Args:
        folder: where they run.
        workers: processes of each.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, room: str, *words: object, workers: bool = True) -> None:
        """Run one command; stop where it fails."""
        command = [room, *map(str, words), *(["--workers", str(self.workers)] if workers and self.workers else [])]
        print(f"\n$ {shlex.join(command)}", flush=True)
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-m", *command], cwd=self.folder, check=False, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        if done.returncode:
            raise SystemExit(f"study: '{shlex.join(command)}' ended with code {done.returncode}; start this again to go on there")
        print(f"({time.monotonic() - started:,.0f} s)", flush=True)


def study(archive: Archive, steps: Steps, size: Size, images: int) -> None:
    """Draw the sets, pre-train on each with both methods, evaluate, and make the cards.

    Args:
        archive: with a cohort in its folder.
        steps: in that folder.
        size: of the study.
        images: in each set.
    """
    for name, options in archive.sets.items():
        steps.run("curate", "sample", *options, "--images", images, "--holdout", HOLDOUT, "--name", name, "--out", f"sets/{name}")
    first = next(iter(archive.sets))
    for method in METHODS:
        for name in archive.sets:
            pretrain(steps, size, method, name, f"{method}-{name}")
        pretrain(steps, size, method, first, f"{method}-{first}-again", "--seed", 1)
        models = {name: f"runs/{method}-{name}" for name in archive.sets}
        controls = {"again": f"runs/{method}-{first}-again", "untrained": f"random:runs/{method}-{first}"}
        evaluate(steps, size, f"evaluation-{method}", first, (archive.task,), models | controls)
        if archive.hospitals:
            homes = {name: models[name] for name in archive.hospitals.values()}
            evaluate(steps, size, f"hospitals-{method}", first, tuple(archive.hospitals), homes)
        steps.run("evaluate", "figures", f"evaluation-{method}", "--out", f"figures-{method}", "--quiet", workers=False)
    for name in archive.sets:
        steps.run(
            "cards", "build", "--shards", f"sets/{name}", "--evaluation", f"evaluation-{METHODS[0]}", "--out", f"cards/{name}",
            "--quiet", workers=False,
        )  # fmt: skip


def pretrain(steps: Steps, size: Size, method: str, name: str, run: str, *options: object) -> None:
    """Pre-train on a set."""
    words = ("--recipe", f"{method}-tiny", "--samples", size.samples[method], "--out", f"runs/{run}", "--quiet")
    steps.run("pretrain", "run", f"sets/{name}", *words, *options)


def evaluate(steps: Steps, size: Size, out: str, shards: str, tasks: Sequence[str], models: Mapping[str, str]) -> None:
    """Evaluate models on tasks, by a linear probe and by fine-tuning."""
    steps.run(
        "evaluate", "run", "--out", out, "--shards", f"sets/{shards}", "--seeds", size.seeds,
        *(word for task in tasks for word in ("--task", HERE / "tasks" / f"{task}.yaml")),
        *(word for name, source in models.items() for word in ("--model", f"{name}={source}")),
        "--adapt", "probe-cached", "--adapt", "finetune", "--set", f"finetune.epochs={size.epochs}",
        *(word for field, value in FINETUNE.items() for word in ("--set", f"finetune.{field}={value}")), "--quiet",
    )  # fmt: skip


def phantom(out: Path, size: Size, workers: int) -> None:
    """Run the study on phantoms."""
    steps = Steps(out / PHANTOM.name, workers)
    steps.run("curate", "simulate", "archive", "--sites", 2, "--patients", size.patients, "--seed", 1, "--quiet")
    steps.run("curate", "ingest", "archive/manifest.csv", "--images", "archive/images", "--name", "Two phantom hospitals", "--quiet")
    steps.run("curate", "measure", "--quiet")
    steps.run("curate", "describe", "--quiet", workers=False)
    study(PHANTOM, steps, size, size.images)


def odir(out: Path, folder: Path, size: Size, workers: int) -> None:
    """Run the study on ODIR-5K."""
    steps = Steps(out / ODIR.name, workers)
    found = sorted(str(p.resolve()) for p in folder.glob("images*") if p.is_dir())
    steps.run(
        "curate", "ingest", (folder / "full_df.csv").resolve(), "--profile", "odir5k", "--name", "ODIR-5K", "--quiet",
        *(word for path in found for word in ("--images", path)),
    )  # fmt: skip
    steps.run("curate", "measure", "--quiet")
    study(ODIR, steps, size, 600)


def main() -> None:
    """Run what was asked for and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("out", type=Path, help="where everything goes")
    parser.add_argument("--scale", type=float, default=1.0, help="patients, images and samples seen, as a multiple")
    parser.add_argument("--odir", type=Path, help="folder of ODIR-5K: full_df.csv and folders of images")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a core")
    options = parser.parse_args()
    if not 0 < options.scale <= 1000:
        parser.error("--scale: give a number above 0, at most 1000")
    size = Size.at(options.scale)
    phantom(options.out, size, options.workers)
    archives = [PHANTOM.name]
    if options.odir is not None:
        odir(options.out, options.odir, size, options.workers)
        archives.append(ODIR.name)
    print(f"\n{write_report(options.out, archives)}")


if __name__ == "__main__":
    main()
