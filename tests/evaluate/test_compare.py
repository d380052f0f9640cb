"""Models that were evaluated together or apart, compared; at home and away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score

from curate import UserError, write_json
from evaluate.compare import Chosen, compare_models
from evaluate.comparisons import PAPER
from evaluate.generalise import CELL, OVERALL, SAME_IMAGES, SAME_MODEL, parse_trained_on, recorded_site
from evaluate.report import report
from evaluate.score import score_file

HOME = {"A": "london", "B": "shanghai"}


def predictions(patients: int = 300, seeds: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 2 * patients
    site = np.repeat(np.where(np.arange(patients) % 2, "london", "shanghai"), 2)
    sex = np.repeat(rng.choice(["female", "male"], patients), 2)
    label = np.repeat((rng.random(patients) < 0.4).astype(int), 2)
    base = np.repeat(rng.normal(size=patients), 2) * 0.5 + rng.normal(size=n)
    tables = []
    for model, home in HOME.items():
        for seed in range(seeds):
            z = base + label * np.where(site == home, 2.2, 1.4) + rng.normal(size=n) * 0.3
            table = {"image_id": [f"i{i:04d}" for i in range(n)], "patient_id": [f"p{i // 2}" for i in range(n)], "label": label}
            more = {"sex": sex, "site": site, "model": model, "seed": seed, "p_0": 1 / (1 + np.exp(z)), "p_1": 1 / (1 + np.exp(-z))}
            tables.append(pd.DataFrame({**table, **more}))
    return pd.concat(tables, ignore_index=True)


def evaluation(table: pd.DataFrame, folder: Path, *, by: str = "sex,site", **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "dr.csv", index=False)
    arguments = {"metrics": "auroc,auprc", "replicates": 100, **options}
    return score_file(folder / "dr.csv", scores="p_", by=by, out=folder / "evaluation", **arguments)


def compared(sources: list[Any], out: Path, **options: Any) -> pd.DataFrame:
    folder = compare_models([str(s) for s in sources], out=out, replicates=100, **options)
    return pd.read_parquet(folder / "comparisons.parquet")


def test_models_evaluated_apart_are_compared_as_if_together(tmp_path: Path) -> None:
    table = predictions()
    whole = pd.read_parquet(evaluation(table, tmp_path / "whole") / "comparisons.parquet")
    parts = [evaluation(table[table["model"] == m], tmp_path / m) for m in HOME]
    pd.testing.assert_frame_equal(compared(parts, tmp_path / "together"), whole)


def test_files_and_folders_can_be_mixed(tmp_path: Path) -> None:
    table = predictions(seeds=1)
    folder = evaluation(table[table["model"] == "A"], tmp_path / "a")
    file = tmp_path / "dr.csv"
    table[table["model"] == "B"].drop(columns=["model", "seed", "sex", "site"]).to_csv(file, index=False)
    found = compared([folder, file], tmp_path / "both")
    assert set(found["model_b"]) == {"dr"}  # named after its file
    assert set(found["group"]) == {"all", "female", "male", "london", "shanghai"}  # sex and site are those of the folder


def test_the_same_command_gives_the_same_bytes_and_another_one_is_refused(tmp_path: Path) -> None:
    folder = evaluation(predictions(), tmp_path / "a")
    for out in ("x", "y"):
        compare_models([str(folder)], out=tmp_path / out, replicates=100)
    for name in ("comparisons.parquet", "groups.parquet", "evaluation.json"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()
    compare_models([str(folder)], out=tmp_path / "x", replicates=100)
    with pytest.raises(UserError, match="was made with another specification"):
        compare_models([str(folder)], out=tmp_path / "x", replicates=100, by="sex")


def test_models_are_chosen_and_ordered(tmp_path: Path) -> None:
    folder = evaluation(pd.concat([predictions(), predictions().query("model == 'B'").assign(model="C")]), tmp_path / "a")
    found = compared([folder], tmp_path / "chosen", chosen=Chosen(models=("C", "A")), by="sex")
    assert {(a, b) for a, b in zip(found["model_a"], found["model_b"], strict=True)} == {("A", "C")}
    assert set(found["attribute"]) == {"all", "sex"}


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    table = predictions()
    folders = [evaluation(table[table["model"] == "A"], tmp_path / name) for name in ("old", "new")]
    with pytest.raises(UserError, match=r"model 'A' is in .*old.evaluation too \(task dr\); tell them apart, as old="):
        compared(folders, tmp_path / "x")
    found = compared([f"old={folders[0]}", f"new={folders[1]}"], tmp_path / "y")
    assert set(found["model_a"]) | set(found["model_b"]) == {"old:A", "new:A"}
    assert (found["difference"] == 0).all()


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"chosen": Chosen(models=("D",))}, "--model D: the sources have no such model; there are: A, B"),
    "task": ({"chosen": Chosen(tasks=("amd",))}, "--task amd: the sources have no such task; there are: dr"),
    "adaptation": ({"chosen": Chosen(adaptations=("knn",))}, "--adapt knn: the sources have no such adaptation"),
    "column": ({"by": "age"}, "--by age: no column 'age'"),
    "site": ({"by": "site", "trained_on": ["A=paris"]}, "--trained-on A=paris: no group 'paris' of site; there are: london, shanghai"),
    "who": ({"by": "site", "trained_on": ["D=london"]}, "--trained-on D=london: no model 'D'"),
    "form": ({"by": "site", "trained_on": ["london"]}, "--trained-on london: expected MODEL=SITE"),
    "one site": ({"by": "site", "trained_on": ["A=london", "A=shanghai"]}, "model 'A' is given twice"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, name: str) -> None:
    options, message = MISTAKES[name]
    folder = evaluation(predictions(60), tmp_path / "a")
    with pytest.raises(UserError, match=message):
        compare_models([str(folder)], out=tmp_path / "x", replicates=100, **options)
    assert not (tmp_path / "x").exists()


def test_other_images_are_refused(tmp_path: Path) -> None:
    table = predictions()
    rest = table[(table["model"] == "B") & (table["image_id"] != "i0003")]
    folders = [evaluation(table[table["model"] == "A"], tmp_path / "a"), evaluation(rest, tmp_path / "b")]
    with pytest.raises(UserError, match="model B, seed 0 has no prediction for 1 images that others have, first: i0003"):
        compared(folders, tmp_path / "x")


def test_other_classes_are_refused(tmp_path: Path) -> None:
    table = predictions()
    folders = [
        evaluation(table[table["model"] == "A"], tmp_path / "a"),
        evaluation(table[table["model"] == "B"], tmp_path / "b", classes="no,yes"),
    ]
    with pytest.raises(UserError, match="task dr has the classes no, yes and elsewhere 0, 1"):
        compared(folders, tmp_path / "x")


@pytest.fixture(scope="module")
def abroad(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Predictions of two models at two sites, the table of generalisation, and its folder."""
    folder = tmp_path_factory.mktemp("abroad")
    table = predictions()
    made = compare_models(
        [str(evaluation(table, folder))], out=folder / "x", by="site", replicates=100, trained_on=[f"{m}={s}" for m, s in HOME.items()]
    )
    return table, pd.read_parquet(made / "generalisation.parquet"), made


def auroc_at(table: pd.DataFrame, model: str, site: str) -> np.ndarray:
    mine = table[(table["model"] == model) & (table["site"] == site)]
    return np.array([roc_auc_score(rows["label"], rows["p_1"]) for _, rows in mine.groupby("seed")])


def test_every_model_is_shown_at_every_site(abroad: tuple[pd.DataFrame, pd.DataFrame, Path]) -> None:
    table, found, _ = abroad
    cells = found[(found["kind"] == CELL) & (found["metric"] == "auroc")]
    assert len(cells) == 4
    for row in cells.to_dict("records"):
        assert row["value"] == pytest.approx(auroc_at(table, row["model_a"], row["site_a"]).mean())
        assert row["trained_on_a"] == HOME[row["model_a"]]
        assert row["low"] < row["value"] < row["high"]


def test_at_one_site_the_home_model_is_paired_with_the_other(abroad: tuple[pd.DataFrame, pd.DataFrame, Path]) -> None:
    table, found, folder = abroad
    rows = found[(found["kind"] == SAME_IMAGES) & (found["metric"] == "auroc") & (found["site_a"] == "shanghai")]
    ours, paper = rows[rows["method"] != PAPER].iloc[0], rows[rows["method"] == PAPER].iloc[0]
    assert (ours["model_a"], ours["model_b"]) == ("B", "A")
    comparisons = pd.read_parquet(folder / "comparisons.parquet")
    same = comparisons.query("metric == 'auroc' and group == 'shanghai' and method != @PAPER").iloc[0]  # B minus A
    for column in ("low", "high", "se", "p"):
        assert ours[column] == pytest.approx(same[column])
    assert ours["value"] == pytest.approx(same["difference"])
    home, away = auroc_at(table, "B", "shanghai"), auroc_at(table, "A", "shanghai")
    assert paper["p"] == pytest.approx(ttest_ind(home, away).pvalue)


def test_one_model_at_two_sites_is_unpaired(abroad: tuple[pd.DataFrame, pd.DataFrame, Path]) -> None:
    _, found, _ = abroad
    rows = found[found["metric"] == "auroc"]
    row = rows[(rows["kind"] == SAME_MODEL) & (rows["model_a"] == "A")].iloc[0]
    cells = rows[(rows["kind"] == CELL) & (rows["model_a"] == "A")].set_index("site_a")
    assert row["value"] == pytest.approx(cells.loc["london", "value"] - cells.loc["shanghai", "value"])
    assert row["se"] == pytest.approx(np.hypot(*cells["se"]))
    assert "the sites' own difficulty is in it" in row["estimand"]


def test_overall_is_the_mean_over_sites_of_home_minus_away(abroad: tuple[pd.DataFrame, pd.DataFrame, Path]) -> None:
    _, found, _ = abroad
    for metric in ("auroc", "auprc"):
        rows = found[(found["metric"] == metric) & (found["method"] != PAPER)]
        parts, overall = rows[rows["kind"] == SAME_IMAGES], rows[rows["kind"] == OVERALL].iloc[0]
        assert overall["value"] == pytest.approx(parts["value"].mean())
        assert overall["se"] == pytest.approx(np.hypot(*parts["se"]) / 2)
        assert overall["p"] < 0.05


def test_where_nothing_says_a_models_site_there_is_no_such_table(tmp_path: Path) -> None:
    made = compare_models([str(evaluation(predictions(60), tmp_path / "a"))], out=tmp_path / "x", by="site", replicates=100)
    assert not (made / "generalisation.parquet").exists()


def test_a_run_says_where_it_was_trained(tmp_path: Path) -> None:
    for name in ("run", "shards"):
        (tmp_path / name).mkdir()
    write_json(tmp_path / "run" / "run.json", {"shards": {"path": str(tmp_path / "shards")}})
    write_json(tmp_path / "shards" / "sample.json", {"cohort": {"name": "london"}, "marginals": [{"group": "under 40"}]})
    model = {"name": "A", "path": str(tmp_path / "run")}
    assert recorded_site(model, ["london", "shanghai"]) == "london"
    assert recorded_site(model, ["paris"]) is None
    assert recorded_site({"name": "A", "path": "timm:vit"}, ["london"]) is None


def test_trained_on_is_read() -> None:
    assert parse_trained_on(["A=london", "B = shanghai"]) == HOME


def test_the_report_prints_and_gives_everything(
    abroad: tuple[pd.DataFrame, pd.DataFrame, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = report(abroad[2])
    printed = capsys.readouterr().out
    assert "At home and away: AUROC" in printed
    assert "Is it even?" in printed
    assert "B minus A: AUROC" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert len(result["generalisation"]) == len(abroad[1])
    assert {"estimates", "comparisons", "groups", "significant", "notes"} < set(result)
    json.dumps(result, allow_nan=False)
