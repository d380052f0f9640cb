"""Files that mean harm, one for each kind of input in SECURITY.md that no other test has: nothing is run, nothing outgrows the machine."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from archives import draw_photograph, people
from cards.answer_file import read_answers
from cards.catalogue import read_catalogue
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.imported.profile import MeasureProfile
from curate.ingest import ingest_archive
from curate.photographs import examine
from curate.profiles import read_profile
from curate.retina.network import read_networks
from curate.shards import open_shards
from curate.yaml_file import read_yaml
from evaluate.features import view
from evaluate.figures.run import _write_csv
from evaluate.score import score_file
from evaluate.task import read_task
from pretrain import read_recipe
from pretrain.data import decode_photograph
from pretrain.export import export_backbone
from pretrain.inspection import inspect_weights
from pretrain.mae import MaeViews
from pretrain.recipe import Data
from pretrain.stream import Stream


def bomb(side: int = 60_000) -> bytes:
    """A PNG file of about a hundred bytes that says it is `side` pixels wide and high: 10 GB once decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_an_image_that_would_fill_the_memory_is_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb())
    found = examine(str(tmp_path), "bomb.png")
    assert found["fault"] == "image-damaged"
    assert "exceeds limit" in found["reason"]
    assert decode_photograph(bomb()) is None
    with pytest.raises(UserError, match=r"bomb\.png: cannot be read as an image \(Image size .* exceeds limit"):
        view(tmp_path / "bomb.png", (3, 32, 32))


def test_an_archive_with_such_an_image_is_ingested_without_it(tmp_path: Path) -> None:
    rows = people(3)
    (tmp_path / "images").mkdir()
    for number, row in enumerate(rows):
        draw_photograph(tmp_path / "images" / str(row["image_file"]), number)
    (tmp_path / "images" / str(rows[0]["image_file"])).write_bytes(bomb())
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    ingest_archive(tmp_path / "manifest.csv", images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1, max_bad=0.5)
    cohort = read_cohort(tmp_path / "cohort")
    assert len(cohort.table) == len(rows) - 1
    assert cohort.ledger()["rule"].tolist() == ["image-damaged"]


# Every reader of a YAML file that a person may have been given, and a field of it.
READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "profile": (lambda path: read_profile(str(path)), "name"),
    "tables of another tool": (lambda path: read_yaml(path, MeasureProfile), "title"),
    "network": (lambda path: read_networks([path]), "file"),
    "recipe": (lambda path: read_recipe(str(path)), "name"),
    "task": (read_task, "name"),
    "answers": (lambda path: read_answers(path, ["a"]), "language"),
    "translation": (lambda path: read_catalogue(str(path)), "language"),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_tag_in_yaml_runs_nothing(kind: str, tmp_path: Path) -> None:
    read, field = READERS[kind]
    path = tmp_path / "given.yaml"
    for tag in ("python/object/apply:os.system", "python/object/new:os.system", "python/object/apply:subprocess.getoutput"):
        path.write_text(f"{field}: !!{tag} ['touch {tmp_path}/ran']\n")
        with pytest.raises(UserError) as refused:
            read(path)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", READERS)
def test_a_few_lines_of_yaml_that_stand_for_millions_of_values_stay_a_few(kind: str, tmp_path: Path) -> None:
    read, field = READERS[kind]
    path = tmp_path / "given.yaml"
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 7)]  # 9^7 values
    path.write_text("\n".join([f"l0: &l0 [{', '.join(['lol'] * 9)}]", *levels, f"{field}: *l6", ""]))
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as refused:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 1000


def test_names_inside_a_tar_write_nothing_anywhere(tmp_path: Path) -> None:
    draw_photograph(tmp_path / "photograph.jpg", 1)
    data = (tmp_path / "photograph.jpg").read_bytes()
    (tmp_path / "inside").mkdir()
    with tarfile.open(tmp_path / "inside" / "set.tar", "w") as tar:
        for name in ("../evil", f"{tmp_path}/evil", "a/../../evil"):
            for suffix, content in (("jpg", data), ("json", b"{}")):
                member = tarfile.TarInfo(f"{name}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        for kind, name in ((tarfile.SYMTYPE, "link.jpg"), (tarfile.LNKTYPE, "hard.jpg"), (tarfile.FIFOTYPE, "pipe.jpg")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    before = sorted(tmp_path.rglob("*"))
    views = MaeViews(Data(size=32), patches=16, kept=4)
    batch = next(iter(Stream(f"pipe:cat {tmp_path}/inside/set.tar", views, batch=4, seed=0, workers=1).batches(0, 1)))
    assert {Path(key).name for key in batch.keys} == {"evil"}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../outside.tar", "/etc/passwd", "private/keys.parquet"])
def test_an_index_names_files_of_its_own_folder_alone(name: str, tmp_path: Path) -> None:
    row = {"key": ["0" * 16], "shard": [name], "offset": [0], "size": [10], "sha256": ["0" * 64]}
    (tmp_path / "shards").mkdir()
    pd.DataFrame(row).to_parquet(tmp_path / "shards" / "index.parquet")
    (tmp_path / "shards" / "sample.json").write_text("{}")
    with pytest.raises(UserError, match="which is not a file of this folder"):
        open_shards(tmp_path / "shards")


def test_an_index_without_a_column_is_one_line(tmp_path: Path) -> None:
    pd.DataFrame({"key": ["0" * 16], "shard": ["shard-000000.tar"]}).to_parquet(tmp_path / "index.parquet")
    (tmp_path / "sample.json").write_text("{}")
    with pytest.raises(UserError, match="no column 'offset'; rebuild it with: curate shards repair"):
        open_shards(tmp_path)


class Payload:
    """Touches a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("read", [inspect_weights, lambda path: export_backbone(str(path), path.parent / "out")], ids=["inspect", "export"])
def test_a_checkpoint_that_holds_code_runs_nothing(read: Callable[[Path], Any], tmp_path: Path) -> None:
    torch.save({"model": {}, "args": Payload(tmp_path / "ran")}, tmp_path / "given.pth")
    with pytest.raises(UserError, match="only tensors are read"):
        read(tmp_path / "given.pth")
    assert {p.name for p in tmp_path.iterdir()} == {"given.pth"}


def test_a_file_of_predictions_is_never_unpickled(tmp_path: Path) -> None:
    pd.to_pickle({"label": Payload(tmp_path / "ran")}, tmp_path / "predictions.pkl")
    (tmp_path / "predictions.csv").write_bytes((tmp_path / "predictions.pkl").read_bytes())
    for name in ("predictions.pkl", "predictions.csv"):
        with pytest.raises(UserError):
            score_file(tmp_path / name, score="score", out=tmp_path / "evaluation")
    assert not (tmp_path / "ran").exists()


def test_predictions_that_hold_formulas_and_markup_are_scored_as_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image_id": [f"=1+{n}" for n in range(80)], "label": [0, 1] * 40, "score": rng.random(80)})
    table["site"] = ["=HYPERLINK(0)", "<script>"] * 40
    table.iloc[::3, 3] = "\x1b[31mred"
    table.to_csv(tmp_path / "predictions.csv", index=False)
    score_file(tmp_path / "predictions.csv", score="score", out=tmp_path / "evaluation", by="site", replicates=100)
    groups = set(pd.read_parquet(tmp_path / "evaluation" / "estimates.parquet")["group"])
    assert {"=HYPERLINK(0)", "<script>"} <= groups


def test_no_table_beside_a_figure_begins_a_formula(tmp_path: Path) -> None:
    table = pd.DataFrame({"group": ["=1+1", "@SUM(1)", "+1", "-1", "\t=1", "Camera A"], "value": [-0.5, 1, 2, 3, 4, 5]})
    _write_csv(tmp_path / "figure.csv", table)
    read = pd.read_csv(tmp_path / "figure.csv")
    assert read["group"].tolist() == ["'=1+1", "'@SUM(1)", "'+1", "'-1", "'\t=1", "Camera A"]
    assert read["value"].tolist() == [-0.5, 1, 2, 3, 4, 5]


def test_names_of_a_table_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "manifest.csv").write_text("\x1b]0;owned\x07path,\x1b[2Jage\nx\x1b[31m.jpg,3\n", encoding="utf-8")
    command = [sys.executable, "-m", "curate", "ingest", "manifest.csv", "--images", "images", "--map", "age=\x1b[2Jsex"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr
