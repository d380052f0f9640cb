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
    ranked = comparisons[comparisons["metric"].isin(["auroc", "auprc"]) & (comparisons["method"] != "paper: t-test over seeds")]
    assert ranked["difference"].dropna().abs().max() == 0  # same order of scores


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
MISTAKES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nan score": (one("score", 6, None), SCORE, r"1 rows have scores that are missing.*row 7 \(image i0006\): missing"),
    "text score": (one("score", 2, "high"), SCORE, r"column 'score' is not a number: row 3 .*'high'"),
    "label outside": (one("label", 4, 7), SCORE, r"1 labels are none of the classes 0, 1.*row 5 .*'7'"),
    "no label": (lambda t: t.drop(columns="label"), SCORE, "no column 'label'"),
    "no such score": (lambda t: t, {"score": "scores"}, "no column 'scores'; did you mean 'score'"),
    "row twice": (lambda t: pd.concat([t, t.iloc[[9]]]), SCORE, r"1 rows repeat an image.*row 201 \(image i0009\)"),
    "no ids": (lambda t: t.assign(model="m").drop(columns="image_id"), SCORE, "need a column image_id"),
    "two sexes": (lambda t: pd.concat([t, t.assign(model="b", sex="?")]), SCORE, "image i0000 has sex '.' in one row and"),
    "group": (lambda t: t, {**SCORE, "by": "gender"}, "--by gender: no column 'gender'"),
    "split word": (lambda t: t.assign(split="holdout"), SCORE, "200 rows have another split than train, val, test"),
    "shared patient": (lambda t: t.assign(split=["val", "test"] * 100), SCORE, "100 patients are in two splits"),
    "seed": (lambda t: t.assign(seed="first"), SCORE, "200 seeds are not whole numbers"),
    "two tasks": (lambda t: t.assign(task=["a", "b"] * 100), SCORE, r"holds 2 tasks \(a, b\); choose one with --task"),
    "map": (lambda t: t, {**SCORE, "mapping": ["image_id=ID"]}, "--map image_id=ID: no column 'ID'"),
    "map twice": (lambda t: t, {**SCORE, "mapping": ["label=a", "label=b"]}, "--map label=b: 'label' is mapped twice"),
    "map over": (lambda t: t, {**SCORE, "mapping": ["label=sex"]}, "--map label=sex: the file has a column 'label' too"),
    "map form": (lambda t: t, {**SCORE, "mapping": ["label"]}, "--map label: expected FIELD=COLUMN"),
    "threshold word": (lambda t: t, {**SCORE, "thresholds": "best"}, "--thresholds best: threshold 'best': expected youden"),
    "no validation": (lambda t: t, {**SCORE, "thresholds": "youden"}, "'youden' is fixed on validation rows and the file has none"),
    "net benefit": (lambda t: t, {**SCORE, "net_benefit_at": "0.1,2"}, "--net-benefit-at 0.1,2: expected probabilities between 0 and 1"),
    "metric": (lambda t: t, {**SCORE, "metrics": "auroc,sensitivty"}, "'sensitivty' is not a metric; did you mean 'sensitivity'"),
    "labels": (lambda t: t, {**SCORE, "labels": "truth_"}, "--labels truth_: no column begins with 'truth_'"),
    "cross": (lambda t: t, {**SCORE, "by": "age*"}, "expected different columns with a star between"),
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


def test_logits_become_probabilities_in_float64(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(150, 3)) * 30
    table = three().drop(columns=["p_0", "p_1", "p_2"]).assign(**{f"logit_{k}": logits[:, k] for k in range(3)})
    score(table, tmp_path, logits="logit_")
    stored = pd.read_parquet(tmp_path / "evaluation" / "predictions.parquet")[["p_0", "p_1", "p_2"]].to_numpy()
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(np.sort(stored, axis=0), np.sort(shifted / shifted.sum(axis=1, keepdims=True), axis=0), rtol=1e-12)


def test_logits_given_as_probabilities_are_recognised(tmp_path: Path) -> None:
    table = three().assign(p_0=5.0, p_1=-3.0, p_2=1.0)
    with pytest.raises(UserError, match="if these are logits, give --logits instead of --scores"):
        score(table, tmp_path, scores="p_")


def test_one_logit_is_enough_for_two_classes(tmp_path: Path) -> None:
    table = binary()
    table["z"] = np.log(table["score"] / (1 - table["score"]))
    by_logit = score(table, tmp_path, logits="z", out=tmp_path / "a")
    by_score = score(table, tmp_path, score="score", out=tmp_path / "b")
    pd.testing.assert_frame_equal(by_logit, by_score, atol=1e-9)


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    names = {"image_id": "ID", "patient_id": "Person", "label": "Truth", "age": "Age at visit"}
    mapping = [f"{field}={column}" for field, column in names.items()]
    mapped = score(binary().rename(columns=names), tmp_path, score="score", mapping=mapping, out=tmp_path / "a")
    pd.testing.assert_frame_equal(mapped, score(binary(), tmp_path, score="score", out=tmp_path / "b"))


def multilabel(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    truth = (rng.random((n, 3)) < [0.5, 0.3, 0.2]).astype(float)
    p = 1 / (1 + np.exp(-(rng.normal(size=(n, 3)) + 1.5 * truth - 1)))
    truth[:20, 1] = np.nan
    columns = {f"label_{k}": truth[:, k] for k in range(3)} | {f"p_{k}": p[:, k] for k in range(3)}
    return pd.DataFrame({"image_id": [f"i{i}" for i in range(n)], **columns})


def test_several_labels_an_image_are_judged_each_where_it_is_known(tmp_path: Path) -> None:
    table = multilabel()
    estimates = score(table, tmp_path, scores="p_", classes="dr,glaucoma,amd")
    known = table["label_1"].notna()
    assert value(estimates, "auroc", class_="glaucoma") == pytest.approx(roc_auc_score(table["label_1"][known], table["p_1"][known]))
    each = [value(estimates, "auroc", class_=c) for c in ("dr", "glaucoma", "amd")]
    assert value(estimates, "auroc") == pytest.approx(np.mean(each))
    rows = estimates[(estimates["class"] == "glaucoma") & (estimates["metric"] == "auroc")]
    assert rows["n"].tolist() == [280]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one("label_1", 30, 2), r"column 'label_1': 1 values are not 0 or 1 \(or empty\): row 31 \(image i30\): '2'"),
        (lambda t: t.drop(columns="p_2"), "the scores are p_0, p_1 and the labels label_0, label_1, label_2: each label needs both"),
        (lambda t: t.assign(p_0=t["p_0"] + 1), "300 rows have probabilities below 0 or above 1"),
    ],
)
def test_mistakes_in_several_labels_are_one_line(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(change(multilabel()), tmp_path, scores="p_")


def test_predictions_of_an_evaluation_can_be_scored_again(tmp_path: Path) -> None:
    first = score(multilabel(), tmp_path, scores="p_")
    again = score_file(tmp_path / "evaluation" / "predictions.parquet", scores="p_", out=tmp_path / "b", replicates=100)
    pd.testing.assert_frame_equal(pd.read_parquet(again / "estimates.parquet").drop(columns="task"), first.drop(columns="task"))


def test_thresholds_are_fixed_on_validation_rows(tmp_path: Path) -> None:
    table = binary(400).assign(split=np.where(np.arange(400) < 200, "val", "test"))
    estimates = score(table, tmp_path, score="score", thresholds="specificity=0.8,0.5")
    assert set(estimates.loc[estimates["metric"] == "sensitivity", "threshold"]) == {"specificity=0.8", "0.5"}
    held = table[(table["split"] == "val") & (table["label"] == 0)]["score"]
    test = table[table["split"] == "test"]
    cut = min(t for t in table.loc[table["split"] == "val", "score"] if (held < t).mean() >= 0.8)
    row = estimates[(estimates["metric"] == "specificity") & (estimates["threshold"] == "specificity=0.8") & (estimates["group"] == "all")]
    assert row["value"].iloc[0] == pytest.approx((test.loc[test["label"] == 0, "score"] < cut).mean())


def test_without_validation_rows_there_are_no_thresholds_and_a_note_says_so(tmp_path: Path) -> None:
    estimates = score(binary(), tmp_path, score="score")
    assert not (estimates["metric"] == "sensitivity").any()
    notes = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["notes"]
    assert any("no validation rows" in note for note in notes)


def test_groups_can_be_crossed(tmp_path: Path) -> None:
    table = binary(400)
    estimates = score(table, tmp_path, score="score", by="age,age*sex")
    both = table[(table["age"] > 70) & (table["sex"] == "F")]
    row = estimates[(estimates["attribute"] == "age x sex") & (estimates["group"] == "over 70 x F") & (estimates["metric"] == "auroc")]
    assert row["n"].tolist() == [len(both)] * len(row)
    assert row["value"].iloc[0] == pytest.approx(roc_auc_score(both["label"], both["score"]))


def cohort_predictions(cohort: Path) -> pd.DataFrame:
    people = pd.read_parquet(cohort / "cohort.parquet")
    label = (people["dr_grade"] > 0).astype(int)
    noise = np.random.default_rng(0).normal(size=len(people))
    return pd.DataFrame({"image_id": people["image_id"], "label": label, "score": 1 / (1 + np.exp(-noise - label))})


def test_patients_and_subgroups_come_from_the_cohort(tmp_path: Path, cohort: Path) -> None:
    estimates = score(cohort_predictions(cohort), tmp_path, score="score", cohort=cohort)
    assert estimates.loc[estimates["group"] == "all", "n_patients"].iloc[0] == 60
    assert list(estimates["attribute"].unique()) == ["all", "age", "sex", "ethnicity"]


def test_images_that_are_not_in_the_cohort_are_refused(tmp_path: Path, cohort: Path) -> None:
    table = cohort_predictions(cohort)
    table.loc[4, "image_id"] = "elsewhere"
    with pytest.raises(UserError, match=r"1 rows are of images that are not in the cohort .*: row 5 \(image elsewhere\)"):
        score(table, tmp_path, score="score", cohort=cohort)


def test_another_patient_than_in_the_cohort_is_refused(tmp_path: Path, cohort: Path) -> None:
    table = cohort_predictions(cohort).assign(patient_id="P0000")
    with pytest.raises(UserError, match=r"118 rows have another patient than in the cohort .*P0000 here, P0001 there"):
        score(table, tmp_path, score="score", cohort=cohort)


def test_scoring_works_where_torch_is_not_installed(tmp_path: Path) -> None:
    save(binary(), tmp_path / "x.csv")
    program = (
        "import sys\n"
        "for name in ('torch', 'timm', 'torchvision'): sys.modules[name] = None\n"
        "sys.argv = ['evaluate', 'score', 'x.csv', '--score', 'score', '--replicates', '100', '--quiet']\n"
        "from evaluate.__main__ import main\n"
        "main()\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "evaluation" / "groups.parquet").exists()


def test_published_numbers_come_out_of_a_file(tmp_path: Path) -> None:
    """Hanley and McNeil 1982, table I: 109 CT images rated 1 to 5 (58 normal, 51 abnormal)."""
    counts = {0: (33, 6, 6, 11, 2), 1: (3, 2, 2, 11, 33)}
    rows = [(label, rating) for label, n in counts.items() for rating, times in enumerate(n, start=1) for _ in range(times)]
    estimates = score(pd.DataFrame(rows, columns=["label", "rating"]), tmp_path, score="rating", metrics="auroc")
    row = estimates[estimates["class"] == "macro"].iloc[0]
    assert row["value"] == pytest.approx(0.89317, abs=5e-6)
    assert row["se"] == pytest.approx(0.03072, abs=5e-6)
    assert (row["n_pos"], row["n_neg"]) == (51, 58)


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
    assert "[95 % intervals]: this model, on new patients like those tested." in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("age: over 70"))
    assert line.startswith("age: over 70 *")
    assert "* fewer than 100 positives or negatives" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "estimates.parquet: every metric, threshold, class and group" in done.stdout


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
