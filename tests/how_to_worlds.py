"""Folders in which the pages' commands run: each holds what its page takes for granted, small."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from archives import Rows, draw_photograph, people
from commands_of_docs import ROOT, blocks
from curate import SampleRequest, ingest_archive, sample_cohort

RETFOUND: dict[str, Any] = {"depth": 1, "embed_dim": 64, "num_heads": 1, "num_classes": 0}  # as released, but shallow and narrow


class World:
    """A folder for one page.

    Args:
        page: path in the repository.
        folder: where its commands run.
        line: where the README's line has been run: phantom/, cohort/, shards/, runs/mae-tiny, evaluation/, card/.
    """

    def __init__(self, page: str, folder: Path, line: Path) -> None:
        self.folder, self.line = folder, line
        self.yaml = [block.text for block in blocks(ROOT / page) if block.language == "yaml"]
        self.before: dict[str, Callable[[], None]] = {}  # what a command needs that an earlier one must not find: by its line
        WORLDS[page](self)

    def nothing(self) -> None:
        """Prepare nothing more for a command."""

    def __truediv__(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def take(self, start: str) -> str:
        """Take a YAML block of the page, by how it begins."""
        (text,) = (text for text in self.yaml if text.startswith(start))
        self.yaml.remove(text)
        return text

    def copy(self, *names: str, to: str = "") -> None:
        """Copy what the line has made."""
        for name in names:
            source = self.line / name
            if source.is_dir():
                shutil.copytree(source, self / f"{to}{name}", dirs_exist_ok=True)
            else:
                shutil.copy(source, self / f"{to}{name}")

    def table(self, name: str, rows: Rows, columns: dict[str, str] | None = None) -> None:
        """Write a table, with columns renamed (or left out: to "")."""
        names = {c: (columns or {}).get(c, c) for c in rows[0]}
        with open(self / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([n for n in names.values() if n])
            writer.writerows([[row[c] for c, n in names.items() if n] for row in rows])

    def draw(self, folder: str, names: Sequence[str], *, side: int = 64) -> None:
        """Draw a photograph for each name."""
        for number, name in enumerate(names):
            draw_photograph(self / f"{folder}/{name}", number, side=side)

    def archive(self, table: str, images: str, rows: Rows, columns: dict[str, str] | None = None, *, side: int = 64) -> None:
        """Write a table and its photographs."""
        self.table(table, rows, columns)
        self.draw(images, [row["image_file"] for row in rows], side=side)

    def tool(self, name: str, script: str) -> None:
        """Put a program into tools/, which the commands find before all others."""
        (self / f"tools/{name}").write_text(script, encoding="utf-8")
        (self / f"tools/{name}").chmod(0o755)


def phantom(world: World, count: int) -> list[dict[str, str]]:
    """Copy the first photographs of the phantom and its masks into archive/; gives their rows."""
    with open(world.line / "phantom/manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:count]
    world.table("archive/manifest.csv", rows)
    for row in rows:
        shutil.copy(world.line / "phantom/images" / row["image_file"], world / f"archive/images/{row['image_file']}")
        for kind in ("vessels", "artery_vein", "disc"):
            mask = f"{kind}/{Path(row['image_file']).stem}.png"
            shutil.copy(world.line / "phantom/truth" / mask, world / f"archive/masks/{mask}")
    return rows


def ingest(world: World, manifest: str, images: str, out: str = "cohort") -> None:
    """Make a cohort."""
    ingest_archive(world.folder / manifest, images=[world.folder / images], out=world / out, workers=1)


def predictions(models: Sequence[str], classes: Sequence[str] = ("0", "1"), *, patients: int = 60) -> pd.DataFrame:
    """Make predictions of two seeds a model, on both eyes of patients whose class they tell roughly."""
    rng, tables = np.random.default_rng(0), []
    n = 2 * patients
    who = np.repeat(np.arange(patients), 2)
    label = rng.permutation(np.arange(patients) % len(classes))[who]
    shared = {
        "image_id": [f"i{i:03d}" for i in range(n)],
        "patient_id": [f"p{p:03d}" for p in who],
        "label": [classes[k] for k in label],
        "age": rng.integers(25, 90, patients)[who],
        "sex": np.array(["female", "male"])[who % 2],
        "site": np.array(["london", "shanghai"])[who // 2 % 2],
    }
    for number, model in enumerate(models):
        for seed in (0, 1):
            logits = rng.normal(size=(n, len(classes))) + (1 + 0.3 * number) * np.eye(len(classes))[label]
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            columns = {f"p_{name}": p[:, k] for k, name in enumerate(classes)}
            tables.append(pd.DataFrame({**shared, "model": model, "seed": seed, "adaptation": "finetune", "split": "test", **columns}))
    return pd.concat(tables)


def score(world: World, table: pd.DataFrame, out: str, *, classes: str, by: str) -> None:
    """Make an evaluation folder of predictions."""
    from evaluate.score import score_file

    table.to_csv(world / f"{out}.csv", index=False)
    score_file(world / f"{out}.csv", scores="p_", classes=classes, task="dr", by=by, out=world / out, replicates=100)
    (world / f"{out}.csv").unlink()


def readme(world: World) -> None:
    rows = [{**row, "sex": "01"[row["sex"] == "male"]} for row in people(6)]
    world.archive("patients.csv", "photographs", rows, {"age": "Patient Age", "patient_id": "MRN"})


def answer(world: World) -> None:
    world.copy("cohort", "shards", "runs/mae-tiny/run.json", "evaluation")
    (world / "card/card.yaml").write_text(world.take("about:"), encoding="utf-8")


def biobank(world: World) -> None:
    rows = [
        {"eid": str(1000010 + n), "31-0.0": str(n % 2), "21003-0.0": str(50 + n), "53-0.0": "2010-03-04", "54-0.0": "11010"}
        | {"21000-0.0": ("1001", "5", "-3")[n % 3], "21015-0.0": "21015_0_0", "21016-0.0": "21016_0_0"}
        for n in range(8)
    ]
    world.table("participants.csv", rows)
    world.draw("photographs", [f"{row['eid']}_{row[field]}.png" for row in rows for field in ("21015-0.0", "21016-0.0")])


def clean_a_table(world: World) -> None:
    """An archive that can't be read yet; then one whose columns only have other names."""
    rows = people(10)
    unread = [{**row, "sex": "12"[row["sex"] == "male"], "exam_date": "03/04/2020"} for row in rows]
    world.archive("archive.csv", "images", unread, {"hospital": "clinic"})
    named = [{**row, "DOB": f"{2019 - int(row['age'])}-05-06", "age": "" if n < 2 else row["age"]} for n, row in enumerate(rows)]
    world.before['curate ingest archive.csv --images images --map patient_id=Fall --map age="Age at exam" --map birth_date=DOB'] = partial(
        world.table, "archive.csv", named, {"patient_id": "Fall", "age": "Age at exam"}
    )
    both = zip(rows[::2], rows[1::2], strict=True)
    clinic = [
        {**left, "left": left["image_file"], "right": right["image_file"], "va_left": "0.8", "va_right": "0.5"} for left, right in both
    ]
    names = {"left": "Left-Fundus", "right": "Right-Fundus", "va_left": "VA left", "va_right": "VA right", "image_file": "", "eye": ""}
    world.table("clinic.csv", clinic, names)


def compare(world: World) -> None:
    both = predictions("AB")
    score(world, both, "evaluation", classes="0,1", by="age,sex,site")
    for name in "AB":
        score(world, both[both["model"] == name], f"eval-{name.lower()}", classes="0,1", by="age,sex,site")
    theirs = both[(both["model"] == "B") & (both["seed"] == 0)]
    theirs[["image_id", "label", "p_0", "p_1"]].to_csv(world / "theirs.csv", index=False)


def describe(world: World) -> None:
    """The page's reader is in the folder of the one archive; the other's lies beside it."""
    rows = people(20, seed=1)
    world.archive("shanghai/manifest.csv", "shanghai/images", rows)
    ingest(world, "shanghai/manifest.csv", "shanghai/images", "shanghai/cohort")
    world.copy("phantom/manifest.csv", "cohort", to="london/")
    world.folder /= "london"


def save_released(world: World) -> None:
    """Write checkpoints in the layouts of RETFound, RETFound DINOv2 and RETFound-Green."""
    import timm
    import torch

    def made(name: str, **arguments: Any) -> dict[str, Any]:
        return dict(timm.create_model(name, **RETFOUND, **arguments).state_dict())

    decoder = {name: torch.zeros(1) for name in ("mask_token", "decoder_embed.weight", "decoder_pos_embed", "decoder_norm.bias")}
    torch.save({"model": {**made("vit_large_patch16_224"), **decoder}}, world / "RETFound_mae_natureCFP.pth")
    teacher = {f"backbone.{name}": tensor for name, tensor in made("vit_large_patch14_dinov2").items()}
    heads = {"dino_head.last_layer.weight_v": torch.zeros(2), "backbone.mask_token": torch.zeros(1, RETFOUND["embed_dim"])}
    torch.save({"teacher": {**teacher, **heads}}, world / "RETFound_dinov2_meh.pth")
    torch.save(made("vit_small_patch14_reg4_dinov2", img_size=392), world / "RETFoundGreen.pth")


def embed(world: World) -> None:
    phantom(world, 12)
    ingest(world, "archive/manifest.csv", "archive/images")
    world.copy("runs/mae-tiny")
    save_released(world)


def evaluate(world: World) -> None:
    """Both grades and findings are known of these patients, and what happened to them later."""
    rows = [
        {**row, "macular_oedema": str(n // 4 % 2), "dme": str(n // 2 % 2), "has_drusen": str(n // 6 % 2)}
        | {"years_to_event": ("", "1.5", "6")[n // 2 % 3], "years_followed": "8"}
        for n, row in enumerate(people(32))
    ]
    rows = [{**row, "dr_grade": str(n // 2 % 4)} for n, row in enumerate(rows)]
    world.archive("archive/manifest.csv", "archive/images", rows)
    ingest(world, "archive/manifest.csv", "archive/images")
    sample_cohort(world / "cohort", SampleRequest(holdout=0.3), out=world / "shards", workers=1)
    for name in "ab":
        shutil.copytree(world.line / "runs/mae-tiny", world / f"runs/{name}")
    (world / "dr.yaml").write_text(world.take("name: dr-grade"), encoding="utf-8")
    shutil.copy(ROOT / "evaluate/tasks/macular-oedema.yaml", world / "oedema.yaml")
    (world / "event.yaml").write_text(
        "name: event\nsplit: {test: holdout, val: 0.2}\n" + world.take("classes:\n  no event"), encoding="utf-8"
    )
    (world / "findings.yaml").write_text(world.take("name: findings"), encoding="utf-8")
    grades = ("anodr", "bmilddr", "cmoderatedr", "dseveredr", "eproliferativedr")
    parts = {"train": 4, "val": 2, "test": 2}
    world.draw("IDRiD", [f"{part}/{grade}/{part}-{grade}-{n}.jpg" for part, many in parts.items() for grade in grades for n in range(many)])


def figures(world: World) -> None:
    names = ("none", "mild", "severe")
    for out in ("evaluation", "evaluation-b"):
        score(world, predictions(("shanghai", "london"), names, patients=90), out, classes=",".join(names), by="age")


def identify(world: World) -> None:
    world.copy("phantom", "cohort")


def network(channels: Sequence[Sequence[float]], biases: Sequence[float], size: int, last: str) -> bytes:
    """Make a network of one convolution of 1 x 1 pixels, as ONNX."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.asarray(channels, np.float32)[:, :, None, None]
    initial = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.asarray(biases, np.float32), "b")]
    axis = {"axis": 1} if last == "Softmax" else {}
    nodes = [helper.make_node("Conv", ["image", "w", "b"], ["scores"]), helper.make_node(last, ["scores"], ["marks"], **axis)]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, size, size))
    graph = helper.make_graph(nodes, "tiny", [image], [helper.make_tensor_value_info("marks", TensorProto.FLOAT, None)], initial)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def measure(world: World) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    rows = phantom(world, 5)
    ingest(world, "archive/manifest.csv", "archive/images")
    dark_is_vessel = network([[0, -20, 0]], [4], 128, "Sigmoid")
    for kind in ("vessels", "disc"):
        about = {
            "file": f"{kind}.onnx", "sha256": hashlib.sha256(dark_is_vessel).hexdigest(), "segments": kind, "sees": "field",
            "input": {"size": 128}, "output": {"values": "sigmoid", kind: 0}, "licence": "none needed", "source": "made by a test",
        }  # fmt: skip
        (world / f"{kind}.onnx").write_bytes(dark_is_vessel)
        (world / f"{kind}.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    of_the_page = world.take("# av.yaml")
    size = yaml.safe_load(of_the_page)["input"]["size"]
    several = network([[0, 0, 0], [0, -9, 9], [0, -9, -9], [-9, -9, -9]], [0, 0, 0, -9], size, "Softmax")
    (world / "av.onnx").write_bytes(several)
    of_the_page = re.sub(r"(?<=sha256: )\w+", hashlib.sha256(several).hexdigest(), of_the_page)
    (world / "av.yaml").write_text(of_the_page, encoding="utf-8")
    (world / "mine.yaml").write_text(world.take("# mine.yaml"), encoding="utf-8")
    names = [Path(row["image_file"]).stem for row in rows]
    world.table("table.csv", [{"File name": f"{name}.tif", "Mean width (px)": "12.5"} for name in names])
    world.table("pvbm.csv", [{"image": f"{name}.png", "artery_area": "2.5", "vein_medTor": "1.1"} for name in names])
    world.table("report/biomarkers.csv", [{"id": name, "median_tort_dist_etdrs_arteries": "1.2"} for name in names])
    world.table(
        "Results/M3/Disc_Features.csv", [{"Name": f"{name}.png", "Fractal_dimension": "1.4", "Disc_height": "90"} for name in names]
    )
    graded = [{"Name": f"M0/images/{name}.png", "softmax_bad": "0.1", "Prediction": "0"} for name in names]
    world.table("Results/M1/results_ensemble.csv", graded)


def modality(world: World) -> None:
    world.archive("radiographs.csv", "films", people(40), side=160)


def publish(world: World) -> None:
    world.copy("cohort", "shards", "runs/mae-tiny/run.json", "evaluation")


def sample(world: World) -> None:
    world.copy("phantom", "cohort")


def score_page(world: World) -> None:
    """Two classes of the cohort's own images; findings; and a table with names of its own."""
    world.copy("cohort")
    cohort = pd.read_parquet(world / "cohort/cohort.parquet")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image_id": cohort["image_id"], "label": rng.integers(0, 2, len(cohort))})
    logit = rng.normal(size=len(cohort)) + 1.5 * table["label"]
    table["p_1"] = table["probability"] = 1 / (1 + np.exp(-logit))
    table["p_0"], table["logit_0"], table["logit_1"] = 1 - table["p_1"], 0.0, logit
    table.to_csv(world / "predictions.csv", index=False)
    findings = {f"label_{k}": rng.integers(0, 2, 120) for k in range(3)} | {f"p_{k}": rng.random(120) for k in range(3)}
    pd.DataFrame(findings).to_csv(world / "findings.csv", index=False)
    out = table.assign(age=rng.integers(20, 90, len(table)))[["image_id", "label", "age", "p_0", "p_1"]]
    out.rename(columns={"image_id": "ID", "label": "Truth", "age": "Age at visit"}).to_csv(world / "out.csv", index=False)


def train(world: World) -> None:
    world.copy("shards", "runs/mae-tiny")
    save_released(world)


FETCH = """#!/bin/sh
for word; do case $word in *shard-*.tar) number=${word%.tar} ;; esac; done
cat SHARDS/shard-00000$((${number#"${number%?}"} % 4)).tar
"""


def training_data(world: World) -> None:
    """Behind every address of the page, whichever program fetches it, lie four shards again and again."""
    world.copy("phantom", "cohort")
    sample_cohort(world / "cohort", SampleRequest(balance=(), quality="any", shard_images=16), out=world / "shards", workers=1)
    for name in ("fundus", "oct"):
        shutil.copytree(world / "shards", world / f"{name}/shards")
    for name in ("aws", "curl", "ssh"):
        world.tool(name, FETCH.replace("SHARDS", str(world.folder / "shards")))


def translate(world: World) -> None:
    world.copy("cohort", "shards", "runs/mae-tiny/run.json", "evaluation")
    text = (ROOT / "templates/strings/de.yaml").read_text(encoding="utf-8")
    example = world.take("n_people:").strip()
    text = re.sub(r"(?m)^  n_people: .*$", lambda _: f"  {example}", text).replace("language: de", "language: fr")
    (world / "fr.yaml").write_text(text, encoding="utf-8")


def tutorial(world: World) -> None:
    """The phantom, told as ODIR-5K tells its photographs; and an archive of one's own."""
    with open(world.line / "phantom/manifest.csv", newline="", encoding="utf-8") as file:
        photographs = list(csv.DictReader(file))
    rows = []
    for number, row in enumerate(photographs[:70]):
        name = row["image_file"]
        shutil.copy(world.line / "phantom/images" / name, world / f"odir5k/images-{(512, 256)[number % 2]}/{name}")
        age, label = "1" if number < 2 else row["age"], "D" if int(row["patient_id"]) % 2 else "N"
        told = {"ID": row["patient_id"], "Patient Age": age, "Patient Sex": row["sex"].capitalize(), "labels": f"['{label}']"}
        rows.append({**told, "Left-Fundus": name, "Right-Fundus": name, "target": "[]", "filename": name})
    world.table("odir5k/full_df.csv", rows)
    (world / "dr.yaml").write_text(world.take("# dr.yaml"), encoding="utf-8")
    own = [{**row, "sex": "01"[row["sex"] == "male"]} for row in people(6)]
    world.archive("patients.csv", "photographs", own, {"image_file": "File", "patient_id": "MRN", "age": "Age at visit"})


def start(world: World) -> None:
    world.copy("cohort", "shards", "evaluation")
    (world / "card/card.yaml").write_text(world.take("about:"), encoding="utf-8")


WORLDS: dict[str, Callable[[World], None]] = {
    "README.md": readme,
    "docs/tutorial.md": tutorial,
    "docs/start.md": start,
    **{
        f"docs/how-to/{name}.md": made
        for name, made in {
            "answer": answer, "biobank": biobank, "clean-a-table": clean_a_table, "compare": compare, "describe": describe,
            "embed": embed, "evaluate": evaluate, "figures": figures, "identify": identify, "measure": measure, "modality": modality,
            "publish": publish, "sample": sample, "score": score_page, "shards": sample, "train": train, "training-data": training_data,
            "translate": translate,
        }.items()
    },
}  # fmt: skip
