"""``evaluate score`` and the command line: anyone's predictions, and mistakes in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from curate import UserError
from evaluate.score import score_file


def binary(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.4).astype(int)
    score = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * label)))
    age = rng.integers(20, 90, n)
    sex = np.where(rng.random(n) < 0.5, "F", "M")
    ids = [f"i{i:04d}" for i in range(n)]
    return pd.DataFrame(
        {"image_id": ids, "patient_id": [f"p{i // 2}" for i in range(n)], "label": label, "score": score, "age": age, "sex": sex}
    )


def three(n: int = 150) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, n)
    p = np.exp(rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[label])
    p /= p.sum(axis=1, keepdims=True)
    return pd.DataFrame({"label": label, "p_0": p[:, 0], "p_1": p[:, 1], "p_2": p[:, 2]})


def save(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def score(table: pd.DataFrame, tmp_path: Path, name: str = "predictions.csv", **options: Any) -> pd.DataFrame:
    arguments = {"out": tmp_path / "evaluation", "replicates": 100, **options}
    return pd.read_parquet(score_file(save(table, tmp_path / name), **arguments) / "estimates.parquet")


def value(table: pd.DataFrame, metric: str, group: str = "all", class_: str = "macro") -> float:
    rows = table[(table["metric"] == metric) & (table["group"] == group) & (table["class"] == class_)]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.parquet"])
def test_a_score_column_gives_scikit_learns_values(tmp_path: Path, name: str) -> None:
    table = binary()
    estimates = score(table, tmp_path, name, score="score")
    assert value(estimates, "auroc") == pytest.approx(roc_auc_score(table["label"], table["score"]), abs=1e-12)
    assert value(estimates, "auprc") == pytest.approx(average_precision_score(table["label"], table["score"]), abs=1e-12)
    over = table[table["age"] > 70]
    assert value(estimates, "auroc", "over 70") == pytest.approx(roc_auc_score(over["label"], over["score"]), abs=1e-12)


def test_probabilities_of_three_classes_are_averaged(tmp_path: Path) -> None:
    table = three()
    estimates = score(table, tmp_path, scores="p_")
    assert value(estimates, "auroc") == pytest.approx(
        roc_auc_score(table["label"], table[["p_0", "p_1", "p_2"]], multi_class="ovr"), abs=1e-12
    )
    assert set(estimates["class"]) == {"macro", "0", "1", "2"}


def test_columns_named_by_class_and_labels_as_names(tmp_path: Path) -> None:
    table = three().rename(columns={"p_0": "p_none", "p_1": "p_mild", "p_2": "p_severe"})
    table["label"] = table["label"].map({0: "none", 1: "mild", 2: "severe"})
    estimates = score(table, tmp_path, scores="p_")
    assert list(estimates["class"].unique()) == ["macro", "none", "mild", "severe"]


def test_scores_that_are_not_probabilities_keep_their_order_and_values(tmp_path: Path) -> None:
    table = binary()
    table["score"] = 100 * table["score"] - 3
    estimates = score(table, tmp_path, score="score")
    assert value(estimates, "auroc") == pytest.approx(roc_auc_score(table["label"], table["score"]), abs=1e-12)
    about = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert "'score' is not a probability: p_1 holds it as given" in about["notes"]
    assert about["tasks"][0]["probabilities"] is False


def test_several_models_are_compared_and_seeds_averaged(tmp_path: Path) -> None:
    tables = [binary().assign(model=m, seed=s, score=binary()["score"] ** (1 + s) + 0.01 * k) for k, m in enumerate("ab") for s in (0, 1)]
    table = pd.concat(tables)
    estimates = score(table, tmp_path, score="score")
    assert set(estimates["seeds"]) == {2}
    assert set(estimates["estimand"]) == {"the mean of these 2 seeds of this model, on new patients like those tested"}
    comparisons = pd.read_parquet(tmp_path / "evaluation" / "comparisons.parquet")
    assert (
        comparisons.loc[comparisons["method"] != "paper: t-test over seeds", "difference"].dropna().abs().max() == 0
    )  # same order of scores


def test_without_patients_each_image_counts_as_one(tmp_path: Path) -> None:
    estimates = score(binary()[["label", "score"]], tmp_path, score="score")
    assert set(estimates["n_patients"]) == {200}
    notes = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["notes"]
    assert any(note.startswith("patients are unknown") for note in notes)


def test_only_the_test_split_is_estimated(tmp_path: Path) -> None:
    table = binary().assign(split=np.where(np.arange(200) < 100, "val", "test"))
    assert set(score(table, tmp_path, score="score", by="")["n"]) == {100}


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    straight = score(binary(), tmp_path, score="score", out=tmp_path / "a")
    shuffled = score(binary().sample(frac=1, random_state=0), tmp_path, "y.csv", score="score", out=tmp_path / "b", task="predictions")
    pd.testing.assert_frame_equal(straight, shuffled)


def one(column: str, row: int, new: object) -> Any:
    """A change of one value."""
    return lambda t: t.assign(**{column: t[column].astype(object).mask(t.index == row, new)})


SCORE = {"score": "score"}
MISTAKES: dict[str, tuple[Any, dict[str, str], str]] = {
    "nan score": (one("score", 6, None), SCORE, r"1 rows have scores that are missing.*row 7 \(image i0006\): missing"),
    "text score": (one("score", 2, "high"), SCORE, r"column 'score' is not a number: row 3 .*'high'"),
    "label outside": (one("label", 4, 7), SCORE, r"1 labels are none of the classes 0, 1.*row 5 .*'7'"),
    "no label": (lambda t: t.drop(columns="label"), SCORE, "no column 'label'"),
    "no such score": (lambda t: t, {"score": "scores"}, "no column 'scores'; did you mean 'score'"),
    "row twice": (lambda t: pd.concat([t, t.iloc[[9]]]), SCORE, r"1 rows repeat an image.*row 201 \(image i0009\)"),
    "no ids": (lambda t: t.assign(model="m").drop(columns="image_id"), SCORE, "need a column image_id"),
    "two sexes": (lambda t: pd.concat([t, t.head(1).assign(model="b", sex="?")]), SCORE, "image i0000 has sex '.' in one row and"),
    "group": (lambda t: t, {**SCORE, "by": "gender"}, "--by gender: no column 'gender'"),
    "split word": (lambda t: t.assign(split="holdout"), SCORE, "200 rows have another split than train, val, test"),
    "shared patient": (lambda t: t.assign(split=["val", "test"] * 100), SCORE, "100 patients are in two splits"),
    "seed": (lambda t: t.assign(seed="first"), SCORE, "200 seeds are not whole numbers"),
    "two tasks": (lambda t: t.assign(task=["a", "b"] * 100), SCORE, r"holds 2 tasks \(a, b\); choose one with --task"),
    "both": (lambda t: t, {"score": "score", "scores": "p_"}, "give either --score"),
    "neither": (lambda t: t, {}, "give either --score"),
    "no probabilities": (lambda t: t, {"scores": "p_"}, "0 columns begin with 'p_'; at least two"),
    "classes": (lambda t: t, {"score": "score", "classes": "a,b,c"}, "--score is for two classes, here are 3"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_the_first_rows(tmp_path: Path, name: str) -> None:
    change, options, message = MISTAKES[name]
    with pytest.raises(UserError, match=message) as error:
        score(change(binary()), tmp_path, **options)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.csv"]


def test_probabilities_must_add_up_to_one(tmp_path: Path) -> None:
    table = three()
    table.loc[[3, 5], "p_0"] += 0.5
    with pytest.raises(
        UserError, match=r"2 rows are not probabilities that add up to one: row 4: .* add up to 1.5; row 6: .* add up to 1.5"
    ):
        score(table, tmp_path, scores="p_")


def test_columns_of_probabilities_must_be_complete(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected p_0 to p_1, found p_0, p_2"):
        score(three().drop(columns="p_1"), tmp_path, scores="p_")


@pytest.mark.parametrize(
    ("content", "message"), [("", "cannot be read"), ("label,score\n", "holds no predictions"), (None, "no such file")]
)
def test_a_file_without_predictions_says_so(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        score_file(path, score="score", out=tmp_path / "evaluation")


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "evaluate", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_tables_and_the_estimand(tmp_path: Path) -> None:
    save(binary(), tmp_path / "x.csv")
    done = command("score", "x.csv", "--score", "score", "--replicates", "100", cwd=tmp_path)
    assert done.returncode == 0
    assert "x: 200 test images of 100 patients" in done.stdout
    assert "Intervals: this model, on new patients like those tested." in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("age: over 70"))
    assert "few" in line
    assert "[" in line


def test_the_command_prints_json(tmp_path: Path) -> None:
    save(binary(), tmp_path / "x.csv")
    done = command("score", "x.csv", "--score", "score", "--replicates", "100", "--json", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result["estimates"][0]["group"] == "all"
    assert result["out"] == "evaluation"


def test_a_mistake_leaves_the_command_with_2_and_one_line(tmp_path: Path) -> None:
    done = command("score", "x.csv", "--score", "score", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: x.csv: no such file\n"
    done = command("run", "--model", "A=runs/a", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --task is missing: give a task file")


def test_a_distribution_of_the_same_import_name_is_pointed_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from evaluate.cli import _warn_of_namesake

    _warn_of_namesake()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.4.6")
    _warn_of_namesake()
    assert "the distribution 'evaluate' 0.4.6 (Hugging Face) is installed too" in capsys.readouterr().err
