"""Task files, labels and splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import UserError
from evaluate.split import split_images
from evaluate.task import Task, class_indices, read_task, with_groups

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
    assert read.metrics == ["auroc", "auprc"]
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
        (("mild: [1]", "mild: [0]"), "classes: value '0' is in class 'none' and in class 'mild'"),
        (("{none: [0], mild: [1], severe: [2, 3]}", "{none: [0]}"), "classes: at least two classes"),
        (("name: dr", "name: a/b"), "name: string should match pattern"),
        (("name: dr", "name: dr\nmetrics: [accuracy]"), "metrics.0: input should be 'auroc' or 'auprc'"),
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


def test_a_missing_or_foreign_hold_out_list_says_so(tmp_path: Path) -> None:
    rule = task(split={"test": "holdout", "val": 0.25})
    with pytest.raises(UserError, match=r"holdout\.parquet: missing; 'test: holdout' needs"):
        split_images(rule, table(40), "label", seed=0, shards=tmp_path)
    (tmp_path / "private").mkdir()
    pd.DataFrame({"image_id": ["x"], "patient_id": ["someone"]}).to_parquet(tmp_path / "private" / "holdout.parquet")
    with pytest.raises(UserError, match="none of the patients held out"):
        split_images(rule, table(40), "label", seed=0, shards=tmp_path)


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
