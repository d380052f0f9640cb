"""Task files, labels and splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import UserError
from evaluate.labels import class_indices, finding_labels, with_classes
from evaluate.split import linked_patients, patient_names, split_images
from evaluate.task import METRICS, Task, find_task, read_task, shipped_tasks, with_groups

GOOD = """
name: dr
label: grade
classes: {none: [0], mild: [1], severe: [2, 3]}
split: {test: holdout, val: 0.2}
"""


def task(**changes: object) -> Task:
    fields = {"name": "t", "label": "grade", "classes": {"no": ["0"], "yes": ["1"]}, "split": {"train": 0.6, "val": 0.2, "test": 0.2}}
    return Task.model_validate({**fields, **changes})


def test_a_task_file_has_defaults(task_file: Callable[[str], Path]) -> None:
    read = read_task(task_file(GOOD))
    assert read.subgroups == ["age", "sex", "ethnicity"]
    assert read.bins == {"age": [40, 70]}
    assert read.metrics == list(METRICS)
    assert read.thresholds == ["youden", "specificity=0.9"]
    assert list(read.classes) == ["none", "mild", "severe"]
    assert read.classes["severe"] == ["2", "3"]


def test_yaml_words_stay_words(task_file: Callable[[str], Path]) -> None:
    read = read_task(task_file("name: t\nlabel: x\nclasses: [no, yes]\nsplit: {column: split}\n"))
    assert read.classes == {"no": ["no"], "yes": ["yes"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("label:", "lable:"), "unknown field 'lable'; did you mean 'label'"),
        (("val: 0.2", "vall: 0.2"), "unknown field 'split.vall'; did you mean 'val'"),
        (("label: grade\n", ""), "label is missing"),
        (("val: 0.2", "val: 1.5"), "split.val: input should be less than 1"),
        (("val: 0.2", "val: much"), "split.val: input should be a valid number"),
        (("test: holdout", "test: held-out"), "split.test: input should be 'holdout'"),
        (("{test: holdout, val: 0.2}", "{train: 0.5, val: 0.2, test: 0.2}"), "split: train, val and test add up to 0.9, not 1"),
        (("{test: holdout, val: 0.2}", "half"), "split: expected"),
        (("val: 0.2", "val: 0.2, train: 0.9"), "split: train and val, shares of those not held out, add up to 1.1, more than 1"),
        (("mild: [1]", "mild: [0]"), "classes: value '0' is in class 'none' and in class 'mild'"),
        (("{none: [0], mild: [1], severe: [2, 3]}", "{none: [0]}"), "classes: at least two classes"),
        (("name: dr", "name: a/b"), "name: string should match pattern"),
        (("name: dr", "name: dr\nmetrics: [accuracy]"), "; known are auroc, auprc, auprc_adjusted, brier"),
        (("name: dr", "name: dr\npattern: '(?P<x'"), "pattern: not a regular expression"),
        (("name: dr", "name: dr\npattern: '(train|test)/'"), "pattern: has no named group"),
        (("name: dr", "name: dr\nmetrics: [aurok]"), "metrics: 'aurok' is not a metric; did you mean 'auroc'"),
        (("name: dr", "name: dr\nthresholds: [yuden]"), "thresholds: threshold 'yuden': expected youden, specificity=X"),
        (("name: dr", "name: dr\nnet_benefit_at: [20]"), "net_benefit_at: 20 is not a threshold probability"),
        (("name: dr", "name: dr\nintersections: [[age, age]]"), "intersections: each is a list of two or more different subgroups"),
        (("name: dr", "name: dr\nkind: multilable"), "kind: input should be 'classification' or 'multilabel'"),
        (("name: dr", "name: dr\nkind: multilabel"), "label: a multilabel task has none"),
        (("label: grade\nclasses: {none: [0], mild: [1], severe: [2, 3]}", "classes: {yes: 'years <= 3', no: [0]}"), "label is missing"),
        (("name: dr", "name: dr\nbins: {age: [70, 40]}"), "bins: the edges of 'age' must be rising"),
        (("name: dr", "name: [dr"), "cannot be read as YAML"),
    ],
)
def test_a_fault_is_one_line_with_file_and_field(task_file: Callable[[str], Path], change: tuple[str, str], message: str) -> None:
    path = task_file(GOOD.replace(*change))
    with pytest.raises(UserError) as error:
        read_task(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_task_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task file here"):
        read_task(tmp_path / "none.yaml")


def test_options_go_over_the_file() -> None:
    changed = with_groups(task(bins={"age": [50]}), "sex, site,sex", ["bmi=25,30"])
    assert changed.subgroups == ["sex", "site"]
    assert changed.bins == {"age": [50.0], "bmi": [25.0, 30.0]}


def test_a_star_crosses_subgroups_and_makes_them_subgroups() -> None:
    changed = with_groups(task(), "sex,age*sex, age*sex*site", None)
    assert changed.subgroups == ["sex", "age", "site"]
    assert changed.intersections == [["age", "sex"], ["age", "sex", "site"]]
    assert task(subgroups=["site"], intersections=[["age", "sex"]]).subgroups == ["site", "age", "sex"]
    for text in ("age*", "age*age"):
        with pytest.raises(UserError, match="expected different columns with a star between"):
            with_groups(task(), text, None)


def test_a_task_is_a_file_or_the_name_of_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "idrid").mkdir()  # a folder of this name is no task file
    assert find_task("idrid") == shipped_tasks()["idrid"]
    (tmp_path / "retina").write_text(GOOD, encoding="utf-8")
    assert read_task(find_task("retina")).name == "dr"
    with pytest.raises(UserError, match="aptos: no task file here and no shipped task of this name; did you mean 'aptos2019'"):
        find_task("aptos")


def test_classes_may_come_from_the_cohort_in_sorted_order() -> None:
    left_out = {"classes": {}}
    assert list(with_classes(task(**left_out), pd.DataFrame({"grade": [10.0, 2.0, None, 2.0]}), "cohort").classes) == ["2", "10"]
    assert list(with_classes(task(**left_out), pd.DataFrame({"grade": ["b", "10", "2"]}), "cohort").classes) == ["10", "2", "b"]
    with pytest.raises(UserError, match="column 'grade' holds 1 different values; name the classes"):
        with_classes(task(**left_out), pd.DataFrame({"grade": ["a", "a"]}), "cohort")


def test_a_pattern_reads_columns_from_paths_for_this_task_alone() -> None:
    from evaluate.labels import with_path_columns

    photographs = pd.DataFrame({"path": ["train/a/1.jpg", "test/b/2.jpg", "3.jpg"], "site": [None, None, None]})
    rule = task(pattern="(?P<part>train|val|test)/(?P<site>[^/]+)/", label="site", classes={})
    seen = with_path_columns(rule, photographs)
    assert seen["part"].tolist()[:2] == ["train", "test"]
    assert seen[["part", "site"]].isna().all(axis=1).tolist() == [False, False, True]
    assert list(with_classes(rule, photographs, "cohort").classes) == ["a", "b"]
    with pytest.raises(UserError, match="the cohort has a column 'site' of its own"):
        with_path_columns(rule, photographs.assign(site="North"))
    with pytest.raises(UserError, match=r"pattern: fits no image's path; the first is 3\.jpg"):
        with_path_columns(rule, photographs.iloc[2:])


def test_of_rules_the_first_that_fits_wins_and_the_rest_is_counted() -> None:
    rules = {"no": ["years > 3", "years == missing and followed >= 3"], "yes": ["years <= 3"]}
    people = pd.DataFrame({"years": [1.0, 3.0, 4.0, None, None], "followed": [9.0, 9.0, 9.0, 3.0, 2.5]})
    labels, left_out = class_indices(task(label="", classes=rules), people, "cohort")
    assert labels.tolist()[:4] == [1, 1, 0, 0]
    assert left_out == {"no rule fits": 1}
    either = task(label="", classes={"first": ["years >= 0"], "second": ["followed > 0"]})
    assert class_indices(either, people, "cohort")[0].tolist() == [0, 0, 0, 1, 1]


def test_findings_are_columns_or_rules_and_may_be_unknown_each_by_itself() -> None:
    several = task(kind="multilabel", label="", classes={"oedema": "dme", "late": "grade >= 3", "drusen": "amd"})
    people = pd.DataFrame({"dme": ["yes", "No", None, None], "grade": [0, 3, 4, 0], "amd": [True, False, True, False]})
    labels, left_out = finding_labels(several, people, "cohort")
    assert labels["label_0"].tolist()[:2] == [1, 0]
    assert labels["label_0"].isna().tolist() == [False, False, True, True]
    assert labels["label_1"].tolist() == [0, 1, 1, 0]
    assert labels["label_2"].tolist() == [1, 0, 1, 0]
    assert left_out == {}
    with pytest.raises(UserError, match=r"classes\.oedema: column 'dme' holds 'maybe' in 1 rows; expected 0 or 1"):
        finding_labels(several, people.assign(dme=["maybe", "no", "yes", None]), "cohort")
    with pytest.raises(UserError, match=r"classes\.oedema: cohort has no column 'dme'; did you mean 'dme2'"):
        finding_labels(several, people.rename(columns={"dme": "dme2"}), "cohort")
    only = task(kind="multilabel", label="", classes={"oedema": "dme"})
    assert finding_labels(only, people, "cohort")[1] == {"no label": 2}


@pytest.mark.parametrize("column", [[0.0, 1.0, None, 2.0], [0, 1, None, 2], ["0", " 1", None, "2"]])
def test_labels_compare_numbers_as_numbers_and_text_as_text(column: list[object]) -> None:
    labels, left_out = class_indices(task(), pd.DataFrame({"grade": column}), "cohort")
    assert labels.tolist()[:2] == [0, 1]
    assert labels.isna().tolist() == [False, False, True, True]
    assert left_out == {"2": 1, "no label": 1}


def test_labels_may_be_booleans() -> None:
    labels, _ = class_indices(task(classes={"no": ["False"], "yes": ["true"]}), pd.DataFrame({"grade": [True, False]}), "cohort")
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("column", "classes", "message"),
    [
        ([0, 0], {"no": ["0"], "yes": ["1"]}, "holds 1 of the 2 classes; it has the values '0'"),
        (["N", "D"], {"no": ["0"], "yes": ["1"]}, "holds 0 of the 2 classes; it has the values 'N', 'D'"),
        ([0, 1], {"no": ["none"], "yes": ["1"]}, "classes.no: 'none' is text but column 'grade' holds numbers"),
    ],
)
def test_labels_that_do_not_fit_say_what_is_there(column: list[object], classes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_indices(task(classes=classes), pd.DataFrame({"grade": column}), "cohort")


def test_a_missing_label_column_names_the_nearest() -> None:
    with pytest.raises(UserError, match="no column 'grade'; did you mean 'dr_grade'"):
        class_indices(task(), pd.DataFrame({"dr_grade": [0, 1]}), "cohort")


def table(patients: int, *, eyes: int = 2, classes: int = 2) -> pd.DataFrame:
    rows = [(f"i{p}-{e}", f"p{p}", p % classes) for p in range(patients) for e in range(eyes)]
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "label"])


@given(st.integers(12, 200), st.integers(0, 5))
def test_fractions_divide_patients_within_their_label(patients: int, seed: int) -> None:
    images = table(patients)
    split = split_images(task(), images, "label", seed=seed, shards=Path("none"))
    assert (split.groupby(images["patient_id"]).nunique() == 1).all()
    per_patient = images.assign(split=split).drop_duplicates("patient_id")
    for _, stratum in per_patient.groupby("label"):
        for name, fraction in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs((stratum["split"] == name).sum() - fraction * len(stratum)) <= 1


def test_a_division_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    images = table(60)
    split = split_images(task(), images, "label", seed=1, shards=Path("none"))
    shuffled = images.sample(frac=1, random_state=0)
    assert split_images(task(), shuffled, "label", seed=1, shards=Path("none")).sort_index().equals(split)
    assert not split_images(task(), images, "label", seed=2, shards=Path("none")).equals(split)


def test_held_out_patients_are_the_test_set_with_all_their_images(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    pd.DataFrame({"image_id": ["i0-0", "i1-0", "i2-0"], "patient_id": ["p0", "p1", "p2"]}).to_parquet(
        tmp_path / "private" / "holdout.parquet"
    )
    images = table(40)
    split = split_images(task(split={"test": "holdout", "val": 0.25}), images, "label", seed=0, shards=tmp_path)
    assert set(images.loc[split == "test", "image_id"]) == {f"i{p}-{e}" for p in range(3) for e in range(2)}
    assert (split == "val").sum() == pytest.approx(0.25 * 74, abs=3)


def test_few_labels_are_a_part_of_more_beside_the_same_validation_split(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    pd.DataFrame({"image_id": ["i0-0"], "patient_id": ["p0"]}).to_parquet(tmp_path / "private" / "holdout.parquet")
    images = table(101)
    split_at = lambda train: split_images(  # noqa: E731
        task(split={"test": "holdout", "val": 0.2, **({"train": train} if train else {})}), images, "label", seed=0, shards=tmp_path
    )
    few, more, rest, sums_to_one = split_at(0.1), split_at(0.4), split_at(None), split_at(0.8)
    assert [(s == "train").sum() for s in (few, more, rest)] == pytest.approx([20, 80, 160], abs=4)
    for split in (few, more, sums_to_one):
        for name in ("val", "test"):
            assert (split == name).equals(rest == name)
    assert set(images.index[few == "train"]) < set(images.index[more == "train"]) < set(images.index[rest == "train"])
    assert sums_to_one.equals(rest)
    assert set(few.dropna()) == {"train", "val", "test"}


def test_a_missing_or_foreign_hold_out_list_says_so(tmp_path: Path) -> None:
    rule = task(split={"test": "holdout", "val": 0.25})
    with pytest.raises(UserError, match=r"holdout\.parquet: missing; 'test: holdout' needs"):
        split_images(rule, table(40), "label", seed=0, shards=tmp_path)
    (tmp_path / "private").mkdir()
    pd.DataFrame({"image_id": ["x"], "patient_id": ["someone"]}).to_parquet(tmp_path / "private" / "holdout.parquet")
    with pytest.raises(UserError, match="none of the patients held out"):
        split_images(rule, table(40), "label", seed=0, shards=tmp_path)


@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=40), st.integers(0, 3))
def test_patients_linked_by_photographs_stay_together(links: list[tuple[int, int]], seed: int) -> None:
    images = table(60)
    pairs = pd.DataFrame({"image_a": [f"i{a}-0" for a, _ in links], "image_b": [f"i{b}-1" for _, b in links]}, dtype=object)
    unit = linked_patients(patient_names(images), images["image_id"], pairs)
    reach = {p: p for p in range(60)}  # brute force: the least patient that each can reach
    for _ in range(60):
        for a, b in links:
            reach[a] = reach[b] = min(reach[a], reach[b])
    groups = images["patient_id"].str[1:].astype(int).map(reach)
    assert (unit.groupby(groups).nunique() == 1).all()
    assert (groups.groupby(unit).nunique() == 1).all()
    split = split_images(task(split={"train": 0.34, "val": 0.33, "test": 0.33}), images, "label", seed=seed, shards=Path("none"), unit=unit)
    assert (split.groupby(unit).nunique() == 1).all()


def test_whoever_shares_a_photograph_with_a_held_out_patient_is_tested_with_them(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    pd.DataFrame({"image_id": ["i0-0"], "patient_id": ["p0"]}).to_parquet(tmp_path / "private" / "holdout.parquet")
    images = table(40)
    unit = linked_patients(patient_names(images), images["image_id"], pd.DataFrame({"image_a": ["i0-1"], "image_b": ["i7-0"]}))
    split = split_images(task(split={"test": "holdout", "val": 0.25}), images, "label", seed=0, shards=tmp_path, unit=unit)
    assert set(images.loc[split == "test", "patient_id"]) == {"p0", "p7"}


def test_a_split_column_is_followed_and_gaps_are_left_out() -> None:
    images = table(4, eyes=1).assign(part=["train", "val", "Test", None])
    split = split_images(task(split={"column": "part"}), images, "label", seed=0, shards=Path("none"))
    assert split.tolist()[:3] == ["train", "val", "test"]
    assert split.isna().tolist() == [False, False, False, True]


def test_a_patient_in_two_splits_is_refused_and_listed() -> None:
    images = table(4).assign(part=["train", "test"] + ["train"] * 2 + ["val"] * 2 + ["test"] * 2)
    with pytest.raises(UserError, match=r"1 patients are in two splits \(patient p0 in train and test\)"):
        split_images(task(split={"column": "part"}), images, "label", seed=0, shards=Path("none"))


def test_a_split_column_with_other_words_says_which() -> None:
    images = table(4, eyes=1).assign(part=["train", "dev", "test", "val"])
    with pytest.raises(UserError, match="'part' holds 'dev' in 1 rows; expected train, val, test or nothing"):
        split_images(task(split={"column": "part"}), images, "label", seed=0, shards=Path("none"))


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="no labelled image falls into the split 'val'"):
        split_images(task(), table(2), "label", seed=0, shards=Path("none"))
