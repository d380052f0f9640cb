"""``evaluate embed``: from a cohort and a backbone to a table of latent features."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import timm
import torch
from grading_task import TASK
from PIL import Image

from curate import PartDone, UserError, engine, sha256_file
from evaluate import embed_cohort
from evaluate.features import _loaded, describe_features_model, device, load_features_model, normalise, pooled, view
from evaluate.run import evaluate_models
from evaluate.task import read_task

calls: list[str] = []


def tiny_loader(source: str) -> tuple[Any, dict[str, Any]]:
    """Untrained transformers of 8 x 8 patches: the seed is the last character of the source."""
    calls.append(source)
    torch.manual_seed(int(source[-1]))
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=0).eval()
    return model, describe_tiny(source)


def describe_tiny(source: str) -> dict[str, Any]:
    return {
        "architecture": "tiny",
        "sha256": source[-1] * 64,
        "input_size": [3, 32, 32],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "shards_digest": None,
    }


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 48 images; nothing loaded that an earlier test has loaded."""
    monkeypatch.setattr("evaluate.features.PART", 48)
    monkeypatch.setattr("evaluate.embed.ROWS", 50)
    calls.clear()
    _loaded.cache_clear()


@pytest.fixture
def own(cohort: Path, tmp_path: Path) -> Path:
    """A cohort of 120 images that the test may write into."""
    return Path(shutil.copytree(cohort, tmp_path / "cohort"))


def embed(cohort: Path, source: str = "stub-1", **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"name": "m", "workers": 1, "loader": tiny_loader, "describe": describe_tiny}
    return embed_cohort(cohort, source, **{**arguments, **changes})


def products(cohort: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(cohort.glob("*latent*")) if path.is_file()}


def kill(*arguments: Any, **keywords: Any) -> Any:
    raise KeyboardInterrupt


def test_every_image_has_the_features_that_its_pixels_give(own: Path) -> None:
    about = embed(own)
    table = pd.read_parquet(own / "latent-m.parquet")
    assert list(table.columns) == ["image_id", *(f"f{i}" for i in range(48))]
    assert set(table.dtypes[1:]) == {np.dtype(np.float32)}
    assert table["image_id"].tolist() == sorted(pd.read_parquet(own / "cohort.parquet")["image_id"])
    backbone, info = tiny_loader("stub-1")
    one = view(own / "images" / f"{table['image_id'][77]}.jpg", [3, 32, 32])
    with torch.no_grad():
        wanted = pooled(backbone, normalise(np.stack([one]), info))[0].numpy()
    np.testing.assert_allclose(table.iloc[77, 1:].to_numpy(dtype=np.float32), wanted, atol=1e-5)
    assert (about["images"], about["unreadable"], about["width"], about["devices"]) == (120, 0, 48, ["cpu"])


def test_the_description_says_model_view_pooling_and_cohort(own: Path) -> None:
    about = embed(own)
    assert json.loads((own / "latent-m.json").read_text()) == about
    assert about["made_by"]["inputs"] == {"cohort.parquet": sha256_file(own / "cohort.parquet"), "model": "1" * 64}
    specification = about["made_by"]["specification"]
    assert "class token and mean of the patch tokens" in specification["pooling"]
    assert "central square" in specification["view"]
    assert (specification["input_size"], specification["mean"]) == ([3, 32, 32], [0.5] * 3)
    assert about["model"]["path"] == "stub-1"


def test_row_groups_are_bounded(own: Path) -> None:
    embed(own)
    file = pq.ParquetFile(own / "latent-m.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [96, 24]


def test_another_number_of_workers_gives_the_same_bytes(own: Path, tmp_path: Path) -> None:
    embed(own)
    other = Path(shutil.copytree(own, tmp_path / "other", ignore=shutil.ignore_patterns("latent-*")))
    embed(other, workers=2)
    assert products(other) == products(own)


def test_the_same_command_again_loads_no_model(own: Path) -> None:
    embed(own)
    before = products(own)
    embed(own, loader=lambda source: pytest.fail("a model was loaded"))
    assert products(own) == before
    assert sorted(p.name for p in own.glob("*latent*")) == ["latent-m.json", "latent-m.parquet"]


@pytest.mark.parametrize("where", ["evaluate.features.write_array", "evaluate.embed._write_table", "evaluate.embed.write_json"])
def test_what_was_killed_resumes_to_the_same_bytes(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    other = Path(shutil.copytree(own, tmp_path / "other"))
    embed(other)
    with monkeypatch.context() as patch:
        patch.setattr(where, kill)
        with pytest.raises(KeyboardInterrupt):
            embed(own)
    assert not (own / "latent-m.json").exists()
    (own / ".latent-m.parquet.0123.tmp").write_bytes(b"half")
    embed(own)
    assert products(own) == products(other)


def test_finished_parts_are_not_computed_again(own: Path) -> None:
    (own / "images" / "im-0059-right.jpg").rename(own / "aside.jpg")
    with pytest.raises(UserError, match="1 of 120 images cannot be read, more than 0 %"):
        embed(own, max_bad=0.0)
    (own / "aside.jpg").rename(own / "images" / "im-0059-right.jpg")
    for path in sorted((own / "images").iterdir())[:96]:
        path.unlink()
    assert embed(own)["images"] == 120


def test_an_array_job_and_a_final_run_give_the_same_bytes(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path(shutil.copytree(own, tmp_path / "other"))
    embed(other)
    for task in (1, 2):
        with engine(part=(task, 2)), pytest.raises(PartDone):
            embed(own)
    monkeypatch.setattr("evaluate.features._extract_part", lambda *_: pytest.fail("features again"))
    embed(own)
    assert products(own) == products(other)


def test_an_unreadable_image_has_no_row_and_is_counted(own: Path) -> None:
    whole = embed(own)
    table = pd.read_parquet(own / "latent-m.parquet")
    (own / "images" / "im-0030-left.jpg").write_bytes(b"\xff\xd8 not much")
    about = embed(own, name="less")
    assert (about["images"], about["unreadable"]) == (119, 1)
    less = pd.read_parquet(own / "latent-less.parquet")
    pd.testing.assert_frame_equal(less, table[table["image_id"] != "im-0030-left"].reset_index(drop=True))
    assert whole["images"] == 120


def test_too_many_unreadable_images_stop_it_with_the_first_named(own: Path) -> None:
    for name in ("im-0005-left", "im-0007-left"):
        (own / "images" / f"{name}.jpg").unlink()
    with pytest.raises(UserError, match=r"^2 of 120 images cannot be read, more than 1 %; first: .*im-0005-left\.jpg; mend or restore"):
        embed(own)
    assert products(own) == {}


def test_features_do_not_depend_on_the_other_images(own: Path, tmp_path: Path) -> None:
    embed(own)
    few = pd.read_parquet(own / "cohort.parquet").iloc[[3, 50, 101]].reset_index(drop=True)
    other = Path(shutil.copytree(own, tmp_path / "few", ignore=shutil.ignore_patterns("latent-*")))
    few.to_parquet(other / "cohort.parquet")
    embed(other)
    table = pd.read_parquet(own / "latent-m.parquet").iloc[[3, 50, 101]].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(other / "latent-m.parquet"), table, check_exact=True)


def test_another_model_under_the_same_name_is_refused_with_the_difference(own: Path) -> None:
    embed(own)
    with pytest.raises(
        UserError, match=r"latent-m\.json: was made with another specification \(inputs\.model: there .*choose another --name"
    ):
        embed(own, "stub-2")
    embed(own, "stub-2", name="other")
    assert not np.allclose(*(pd.read_parquet(own / f"latent-{name}.parquet")["f0"] for name in ("m", "other")))


def test_a_table_that_was_removed_is_made_again(own: Path) -> None:
    embed(own)
    before = products(own)
    (own / "latent-m.parquet").unlink()
    embed(own)
    assert products(own) == before


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("timm:vit_small_patch14_dinov2.lvd142m-1", "vit_small_patch14_dinov2.lvd142m-1"),
        ("random:resnet-1", "random-resnet-1"),
        ("runs/mae-1", "mae-1"),
        ("RETFound.1.pth", "RETFound.1"),
        ("RETFound.1.pth@224", "RETFound.1-224"),
    ],
)
def test_an_embedding_is_named_after_its_model(own: Path, source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RETFound.1.pth").touch()

    def loader(_: str) -> tuple[Any, dict[str, Any]]:
        return tiny_loader("stub-1")

    assert embed(own, source, name=None, loader=loader, describe=lambda _: describe_tiny("stub-1"))["model"]["name"] == name
    assert (own / f"latent-{name}.parquet").exists()


def test_mistakes_are_one_line(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--name a/b: expected letters"):
        embed(own, name="a/b")
    with pytest.raises(UserError, match="runs/none: no such run"):
        embed(own, "runs/none", describe=describe_features_model)
    with pytest.raises(UserError, match="no cohort here"):
        embed(tmp_path / "nowhere")
    shutil.rmtree(own / "images")
    with pytest.raises(UserError, match="image folder is missing"):
        embed(own)
    pd.read_parquet(own / "cohort.parquet").iloc[:0].to_parquet(own / "cohort.parquet")
    with pytest.raises(UserError, match="the cohort holds no images"):
        embed(own)


def evaluate(cohort: Path, out: Path, **changes: Any) -> Path:
    task = out.parent / "dr.yaml"
    task.write_text(TASK, encoding="utf-8")
    arguments: dict[str, Any] = {"shards": out.parent / "shards", "seeds": 1, "replicates": 100, "workers": 1}
    arguments |= {"loader": tiny_loader, "describe": describe_tiny}
    return evaluate_models({"A": "stub-1"}, [read_task(task)], cohort=cohort, out=out, **{**arguments, **changes})


def test_an_evaluation_takes_its_features_from_the_embedding_and_is_the_same(own: Path, tmp_path: Path) -> None:
    without = evaluate(own, tmp_path / "without")
    embed(own)
    embed(own, "stub-2", name="a")  # another model's is passed over
    with_it = evaluate(own, tmp_path / "with", loader=lambda source: pytest.fail("a model was loaded"))
    files = sorted(p.relative_to(without) for p in without.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(with_it) for p in with_it.rglob("*") if p.is_file())
    assert [f for f in files if sha256_file(without / f) != sha256_file(with_it / f)] == []


@pytest.mark.parametrize("change", ["view", "cohort", "rows", "version"])
def test_an_embedding_of_anything_else_is_not_taken(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    if change == "rows":
        path = own / "images" / "im-0030-left.jpg"
        whole = path.read_bytes()
        path.write_bytes(b"")
    embed(own)
    if change == "rows":
        path.write_bytes(whole)
    if change == "view":
        monkeypatch.setattr("evaluate.embed.VIEW", "as a square")
    if change == "cohort":
        pd.read_parquet(own / "cohort.parquet").iloc[:100].to_parquet(own / "cohort.parquet")
    if change == "version":
        about = (own / "latent-m.json").read_text()
        (own / "latent-m.json").write_text(about.replace('"version": "', '"version": "9'))
    calls.clear()
    _loaded.cache_clear()
    evaluate(own, tmp_path / "evaluation")
    assert calls == ["stub-1"]


def test_large_images_go_through_the_model_in_smaller_batches(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def watch(backbone: Any, images: torch.Tensor) -> torch.Tensor:
        seen.add(tuple(images.shape))
        return images.flatten(1)[:, :3]

    monkeypatch.setattr("evaluate.features.pooled", watch)
    few = pd.read_parquet(own / "cohort.parquet").iloc[:7]
    few.to_parquet(own / "cohort.parquet")
    embed(own, describe=lambda source: {**describe_tiny(source), "input_size": [3, 518, 518]})
    assert seen == {(5, 3, 518, 518)}


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)


def test_processes_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["LokyProcess-1", "LokyProcess-2", "LokyProcess-3", "LokyProcess-4", "MainProcess"]
    for gpus, wanted in ((0, ["cpu"] * 5), (1, ["cuda:0"] * 5), (3, ["cuda:1", "cuda:2", "cuda:0", "cuda:1", "cuda:0"])):
        with_gpus(monkeypatch, gpus)
        for name, place in zip(names, wanted, strict=True):
            monkeypatch.setattr("evaluate.features.current_process", lambda name=name: SimpleNamespace(name=name))
            assert device() == place


@pytest.mark.parametrize(
    ("gpus", "workers", "processes", "threads"), [(0, 8, 8, 1), (1, 8, 1, 8), (4, 8, 4, 2), (4, 2, 2, 1), (4, 6, 4, 1)]
)
def test_gpus_have_a_process_each_and_the_other_workers_decode(
    own: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, workers: int, processes: int, threads: int
) -> None:
    with_gpus(monkeypatch, gpus)
    given = []

    def note(function: Any, parts: Any, *, workers: int, **others: Any) -> Any:
        given.append((workers, {part[2][5] for part in parts}))
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluate.features.run_parts", note)
    with pytest.raises(KeyboardInterrupt):
        embed(own, workers=workers)
    assert given == [(processes, {threads})]


def test_threads_that_decode_give_the_images_in_order_and_stop_at_an_error() -> None:
    from evaluate.features import _mapped

    def double(value: str) -> str:
        if value == "bad":
            raise UserError("no such file")
        return value * 2

    with _mapped(double, [str(n) for n in range(50)], 4) as results:
        assert list(results) == [str(n) * 2 for n in range(50)]
    with pytest.raises(UserError, match="no such file"), _mapped(double, ["1", "bad", "3"], 4) as results:
        list(results)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_gives_nearly_what_the_processor_gives_and_the_same_bytes_again(own: Path) -> None:
    def on_gpu(source: str) -> tuple[Any, dict[str, Any]]:
        backbone, info = tiny_loader(source)
        return backbone.to(device()), info

    assert embed(own, name="gpu", loader=on_gpu, workers=4)["devices"] == ["cuda"]
    embed(own, name="again", loader=on_gpu, workers=1)
    embed(own, name="cpu")
    gpu, again, cpu = (pd.read_parquet(own / f"latent-{name}.parquet").iloc[:, 1:].to_numpy() for name in ("gpu", "again", "cpu"))
    np.testing.assert_array_equal(gpu, again)
    np.testing.assert_allclose(gpu, cpu, atol=1e-4)


def test_a_gpu_that_is_too_small_is_one_line(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("evaluate.features.pooled", full)
    with pytest.raises(UserError, match="stub-1: the GPU's memory is too small for it"):
        embed(own)


def test_the_command_embeds_and_says_where(own: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from curate.command import run
    from evaluate.cli import app

    few = pd.read_parquet(own / "cohort.parquet").iloc[:2]
    few.to_parquet(own / "cohort.parquet")
    for path in few["path"]:
        Image.open(own / "images" / path).resize((40, 50)).save(own / "images" / path)
    for arguments, code in (
        (["--model", "random:test_vit", "--workers", "1"], 0),
        (["--model", "random:test_vit", "--workers", "1", "--json"], 0),
        (["--model", "random:test_vitt"], 2),
    ):
        monkeypatch.setattr(sys, "argv", ["evaluate", "embed", str(own), *arguments])
        monkeypatch.setattr("curate.console.mode.json", False)
        with pytest.raises(SystemExit) as left:
            run(app, "evaluate")
        assert left.value.code == code
        said = capfd.readouterr()
        if "--json" in arguments:
            assert json.loads(said.out)["images"] == 2
        elif code:
            assert "architecture 'test_vitt' is not in timm" in said.err
            assert len(said.err.strip().splitlines()) == 1
        else:
            assert said.out == f"{own}/latent-random-test_vit.parquet: 2 images, 128 features each (test_vit)\n"


def test_the_real_loader_gives_the_description_that_is_had_without_it() -> None:
    assert load_features_model("random:test_vit")[1] == describe_features_model("random:test_vit")
