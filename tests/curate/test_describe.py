"""curate describe: intervals and tests with patients as the unit, against published or brute-force answers; and the folder it makes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from commands import run
from curate import figures
from curate.artefacts import sha256_file, write_json, write_parquet
from curate.describe import DescribeRequest, describe_cohort
from curate.describe.means import difference, patient_mean, standardised_difference
from curate.describe.shares import multinomial_difference, rao_scott, share_difference, share_interval
from curate.errors import UserError

Frames = tuple[pd.DataFrame, pd.DataFrame | None]


def numbered(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


# -- means ------------------------------------------------------------------------------------------------------------------------


def test_with_one_image_a_patient_the_interval_is_the_ordinary_t_interval() -> None:
    x = np.random.default_rng(1).normal(5, 2, 17)
    mean = patient_mean(x, np.arange(17), 17)
    assert mean.df == pytest.approx(16)
    assert mean.interval() == pytest.approx(stats.t.interval(0.95, 16, x.mean(), stats.sem(x)))


def test_with_equally_many_images_a_patient_it_is_the_t_interval_of_the_patients_means() -> None:
    own = np.random.default_rng(2).normal(5, 2, (9, 4))
    mean = patient_mean(own.ravel(), numbered([4] * 9), 9)
    assert mean.interval() == pytest.approx(stats.t.interval(0.95, 8, own.mean(), stats.sem(own.mean(axis=1))))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=7), st.integers(0, 10**6))
def test_error_and_degrees_of_freedom_are_those_of_the_matrices_of_bell_and_mccaffrey(sizes: list[int], seed: int) -> None:
    patient = numbered(sizes)
    n = len(patient)
    x = np.random.default_rng(seed).normal(0, 1, n)
    residual_maker = np.eye(n) - np.ones((n, n)) / n
    variance, columns = 0.0, []
    for g in range(len(sizes)):
        mine = np.flatnonzero(patient == g)
        block = residual_maker[np.ix_(mine, mine)]
        values, vectors = np.linalg.eigh(block)
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        variance += float((np.ones(len(mine)) @ root @ (x - x.mean())[mine] / n) ** 2)
        columns.append(residual_maker[:, mine] @ root @ np.ones(len(mine)) / n)
    gram = np.array(columns) @ np.array(columns).T
    mean = patient_mean(x, patient, len(sizes))
    assert mean.se**2 == pytest.approx(variance)
    assert mean.df == pytest.approx(np.trace(gram) ** 2 / np.trace(gram @ gram))


def test_intervals_of_clustered_images_hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(3), 0
    for _ in range(600):
        patient = numbered(rng.integers(1, 8, 25).tolist())
        x = rng.normal(0, 1, 25)[patient] + rng.normal(0, 0.5, len(patient))
        low, high = patient_mean(x, patient, 25).interval()
        held += low < 0 < high
    assert 0.92 < held / 600 < 0.98  # the ordinary interval over images holds it in 64 %


def test_different_people_are_compared_as_welch_does() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(0, 1, 12), rng.normal(1, 3, 20)
    found = difference(patient_mean(x, np.arange(12), 32), patient_mean(y, np.arange(12, 32), 32))
    welch = stats.ttest_ind(x, y, equal_var=False)
    assert (found.t, found.p, found.df) == pytest.approx((welch.statistic, welch.pvalue, welch.df))
    assert (found.low, found.high) == pytest.approx(tuple(welch.confidence_interval()))


def test_the_same_people_on_both_sides_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, 15)
    y = x + rng.normal(0.2, 0.3, 15)
    found = difference(patient_mean(x, np.arange(15), 15), patient_mean(y, np.arange(15), 15))
    assert found.p == pytest.approx(stats.ttest_rel(x, y).pvalue)


def test_sides_change_the_sign_and_nothing_else() -> None:
    rng = np.random.default_rng(6)
    x, y = (rng.normal(0, 1, 20), numbered([2] * 10)), (rng.normal(1, 1, 12), 10 + numbered([3] * 4))
    d, low, high = standardised_difference(x, y, 14) or (0, 0, 0)
    assert standardised_difference(y, x, 14) == pytest.approx((-d, -high, -low))


def test_cohens_d_has_the_pooled_deviation_below_and_an_interval_like_the_large_sample_one() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(0.5, 1, 400), rng.normal(0, 1, 300)
    found = standardised_difference((x, np.arange(400)), (y, np.arange(400, 700)), 700)
    assert found is not None
    pooled = math.sqrt((399 * x.var(ddof=1) + 299 * y.var(ddof=1)) / 698)
    assert found[0] == pytest.approx((x.mean() - y.mean()) / pooled)
    # Hedges and Olkin 1985: the variance of d between independent normal samples.
    reach = 1.96 * math.sqrt(1 / 400 + 1 / 300 + found[0] ** 2 / (2 * 700))
    assert found[2] - found[0] == pytest.approx(reach, rel=0.05)


# -- shares -----------------------------------------------------------------------------------------------------------------------


def test_a_share_of_independent_images_has_wilsons_interval() -> None:
    share = patient_mean(np.r_[np.ones(30), np.zeros(170)], np.arange(200), 200)
    assert share_interval(share) == pytest.approx(stats.binomtest(30, 200).proportion_ci(method="wilson"), abs=3e-4)


def test_images_that_repeat_a_patient_make_no_interval_narrower() -> None:
    flags = np.r_[np.ones(12), np.zeros(28)]
    once = patient_mean(flags, np.arange(40), 40)
    often = patient_mean(np.repeat(flags, 9), numbered([9] * 40), 40)
    assert share_interval(often) == pytest.approx(share_interval(once))


def test_a_group_that_nobody_is_in_has_an_upper_bound_by_patients() -> None:
    low, high = share_interval(patient_mean(np.zeros(60), numbered([3] * 20), 20))
    assert (low, high) == pytest.approx(tuple(stats.binomtest(0, 20).proportion_ci(method="wilson")))


def test_the_difference_of_shares_is_newcombes() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:873-890), table II, 56/70 against 48/80: method 10, 0.0524 to 0.3339.
    one = patient_mean(np.r_[np.ones(56), np.zeros(14)], np.arange(70), 150)
    two = patient_mean(np.r_[np.ones(48), np.zeros(32)], np.arange(70, 150), 150)
    assert share_difference(one, two) == pytest.approx((0.2, 0.0524, 0.3339), abs=2e-3)


def test_two_groups_differ_by_the_usual_standardised_difference_of_proportions() -> None:
    usual = abs(0.3 - 0.5) / math.sqrt((0.3 * 0.7 + 0.5 * 0.5) / 2)
    assert multinomial_difference(np.array([0.3, 0.7]), np.array([0.5, 0.5])) == pytest.approx(usual)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)))
def test_the_standardised_difference_does_not_depend_on_which_group_is_left_out(order: list[int]) -> None:
    t, c = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.25, 0.4, 0.1])
    assert multinomial_difference(t[order], c[order]) == pytest.approx(multinomial_difference(t, c))


def test_sides_without_a_group_in_common_have_no_bounded_difference() -> None:
    assert multinomial_difference(np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.2, 0.8])) == math.inf


def test_independent_images_are_tested_as_pearson_does() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.choice(3, 900, p=[0.5, 0.3, 0.2]), rng.choice(3, 1100, p=[0.46, 0.32, 0.22])
    found = rao_scott((a, np.arange(900)), (b, np.arange(900, 2000)), 3, 2000)
    table = np.stack([np.bincount(a), np.bincount(b)])
    pearson = stats.chi2_contingency(table, correction=False)
    assert found is not None
    assert found.chi_squared == pytest.approx(pearson.statistic)
    assert found.p == pytest.approx(pearson.pvalue, abs=5e-4)  # F for chi-squared, and covariances that are not pooled


def test_repeating_every_image_leaves_the_test_as_it_was() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.integers(0, 3, 40), rng.integers(0, 3, 50)
    once = rao_scott((a, np.arange(40)), (b, np.arange(40, 90)), 3, 90)
    often = rao_scott((np.repeat(a, 5), numbered([5] * 40)), (np.repeat(b, 5), 40 + numbered([5] * 50)), 3, 90)
    assert once is not None
    assert often is not None
    assert often.p == pytest.approx(once.p)
    assert often.design_effect == pytest.approx(5 * once.design_effect)


def test_equal_shares_are_refuted_as_often_as_the_level_allows() -> None:
    rng, refuted = np.random.default_rng(10), 0
    for _ in range(400):
        sides = []
        for start in (0, 40):
            patient = numbered(rng.integers(1, 6, 40).tolist())
            group = np.where(rng.random(len(patient)) < 0.8, rng.integers(0, 3, 40)[patient], rng.integers(0, 3, len(patient)))
            sides.append((group, start + patient))
        found = rao_scott(sides[0], sides[1], 3, 80)
        refuted += found is not None and found.p < 0.05
    assert 0.02 < refuted / 400 < 0.08  # Pearson's own refutes in 37 %


# -- the command ------------------------------------------------------------------------------------------------------------------


def people(count: int, *, shift: float = 0.0, seed: int = 0) -> Frames:
    """Two images a patient: ages, sexes and a measure that falls with age."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(count), 2)
    age = np.clip(rng.normal(55 + shift, 15, count), 18, 95).round()[patient]
    sex = rng.choice(["female", "male"], count)[patient].astype(object)
    sex[:2], age[2:4] = "unknown", np.nan
    ids = [f"i{n:05d}" for n in range(2 * count)]
    site = np.where(patient % 3 == 0, "North", "South")
    table = pd.DataFrame({"image_id": ids, "path": ids, "patient_id": [f"p{p}" for p in patient], "age": age, "sex": sex, "site": site})
    table["grade"] = patient % 4
    measured = 1.7 - 0.003 * np.nan_to_num(age, nan=55) + rng.normal(0, 0.02, 2 * count)
    return table, pd.DataFrame({"image_id": ids, "state": "ok", "Fractal_dimension": measured, "field_coverage": 1.0})


@pytest.fixture
def cohort(tmp_path: Path) -> Callable[..., Path]:
    """Write a cohort folder from its tables."""

    def make(frames: Frames, name: str = "cohort") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        table, measures = frames
        write_parquet(folder / "cohort.parquet", table)
        if measures is not None:
            write_parquet(folder / "measurements.parquet", measures)
        write_json(folder / "cohort.json", {"images": "images", "name": name})
        return folder

    return make


def quick(**more: Any) -> DescribeRequest:
    return DescribeRequest(pictures=False, **more)


def number(out: Path, variable: str, statistic: str, **where: str) -> pd.Series:
    rows = pd.read_parquet(out / "description.parquet")
    rows = rows[(rows["variable"] == variable) & (rows["statistic"] == statistic)]
    for column in ("side", "against", "group", "attribute"):
        if column in where:
            rows = rows[rows[column] == where[column]]
        elif column != "side":
            rows = rows[rows[column].isna()]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def test_every_number_stands_in_a_row_of_its_own_with_what_it_estimates(cohort: Callable[..., Path], tmp_path: Path) -> None:
    frames = people(40)
    out = tmp_path / "describe"
    describe_cohort(cohort(frames), quick(), out=out)
    age = number(out, "age", "mean")
    assert age["value"] == pytest.approx(frames[0]["age"].mean())
    assert (age["images"], age["patients"], age["estimand"]) == (78, 39, "mean over images")
    assert age["low"] < age["value"] < age["high"]
    assert number(out, "age", "missing")["value"] == 2
    assert number(out, "sex", "unknown")["value"] == 2
    assert number(out, "sex", "share", attribute="sex", group="unknown")["value"] == pytest.approx(2 / 80)
    young = frames[1]["Fractal_dimension"][frames[0]["age"] < 40].mean()
    assert number(out, "Fractal_dimension", "mean", attribute="age", group="under 40")["value"] == pytest.approx(young)
    rows = pd.read_parquet(out / "description.parquet")
    assert rows["estimand"].notna().all()
    assert not rows.duplicated(["side", "against", "kind", "variable", "attribute", "group", "statistic"]).any()


def test_another_cohort_is_compared_and_unknowns_are_left_out_of_it(cohort: Callable[..., Path], tmp_path: Path) -> None:
    one, two = people(60, shift=8), people(50, seed=1)
    out = tmp_path / "describe"
    about = describe_cohort(cohort(one, "one"), quick(), against=cohort(two, "two"), out=out)
    gap = number(out, "age", "difference", against="two")
    assert gap["value"] == pytest.approx(one[0]["age"].mean() - two[0]["age"].mean())
    known = [f[0]["sex"][f[0]["sex"] != "unknown"].eq("male").mean() for f in (one, two)]
    assert number(out, "sex", "difference", against="two", attribute="sex", group="male")["value"] == pytest.approx(known[0] - known[1])
    entry = about["attributes"]["age"]["compared"]["two"]
    assert list(entry)[:3] == ["smd", "difference", "p"]
    p = [e["compared"]["two"]["p"]["value"] for k in ("attributes", "measures") for e in about[k].values() if "p" in e["compared"]["two"]]
    tested = [v for v in p if v is not None]
    assert entry["p adjusted"]["value"] == pytest.approx(
        dict(zip(tested, stats.false_discovery_control(tested), strict=True))[entry["p"]["value"]]
    )


def test_a_cohort_against_itself_differs_by_nothing_and_is_not_tested(cohort: Callable[..., Path], tmp_path: Path) -> None:
    table, measures = people(30)
    table["sha256"] = table["image_id"]
    about = describe_cohort(cohort((table, measures), "one"), quick(), against=cohort((table, measures), "two"), out=tmp_path / "describe")
    entry = about["attributes"]["age"]["compared"]["two"]
    assert entry["difference"]["value"] == 0
    assert entry["p"]["value"] is None
    assert "60 photographs stand in both cohorts: their 30 patients are taken as the same people" in about["remarks"]


def test_cohorts_that_were_measured_differently_are_said_to_be(cohort: Callable[..., Path], tmp_path: Path) -> None:
    one, two = (cohort(people(30), name) for name in ("one", "two"))
    for folder, compatible in ((one, None), (two, "automorph")):
        write_json(folder / "measurements.json", {"made_by": {"specification": {"modality": "retina", "compatible": compatible}}})
    remarks = describe_cohort(one, quick(), against=two, out=tmp_path / "describe")["remarks"]
    assert "the cohorts were measured differently (compatible None and automorph): measures may differ by that alone" in remarks
    remarks = describe_cohort(one, quick(), against=one, out=tmp_path / "same")["remarks"]
    assert not [r for r in remarks if "measured differently" in r]


def test_groups_of_a_column_are_compared_within_the_cohort(cohort: Callable[..., Path], tmp_path: Path) -> None:
    about = describe_cohort(cohort(people(60)), quick(split="site"), out=tmp_path / "describe")
    assert [s["name"] for s in about["sides"]] == ["South", "North"]
    assert "site" not in about["attributes"]
    assert "North" in about["attributes"]["age"]["compared"]


def test_people_on_both_sides_of_a_split_are_compared_within_themselves(cohort: Callable[..., Path], tmp_path: Path) -> None:
    table, measures = people(60)
    table["laterality"] = ["left", "right"] * 60
    assert measures is not None
    out = tmp_path / "describe"
    about = describe_cohort(cohort((table, measures)), quick(split="laterality", measures=("Fractal_dimension",)), out=out)
    values = measures["Fractal_dimension"].to_numpy()
    assert number(out, "Fractal_dimension", "p", against="right")["value"] == pytest.approx(
        stats.ttest_rel(values[::2], values[1::2]).pvalue
    )
    assert any("within the patient" in r for r in about["remarks"])


def odd() -> Frames:
    """One patient with two images, and columns that are empty or don't vary."""
    table = pd.DataFrame({"image_id": ["a", "b"], "path": ["a", "b"], "patient_id": ["p", "p"], "age": [50.0, 52.0]})
    table["sex"], table["site"], table["ethnicity"] = "female", "Söder $x_1$ 上海", pd.Series([None, None], dtype="string")
    return table, pd.DataFrame({"image_id": ["a", "b"], "Fractal_dimension": [1.5, 1.6], "field_coverage": [1.0, 1.0]})


def test_one_patient_gets_numbers_and_words_but_no_interval(cohort: Callable[..., Path], tmp_path: Path) -> None:
    about = describe_cohort(cohort(odd()), DescribeRequest(), out=tmp_path / "describe")
    assert about["attributes"]["age"]["sides"]["cohort"]["mean"] == {
        "value": 51.0, "method": about["attributes"]["age"]["sides"]["cohort"]["mean"]["method"], "remark": "one patient: no interval",
    }  # fmt: skip
    rows = pd.read_parquet(tmp_path / "describe" / "description.parquet")
    assert rows["low"].isna().all()
    assert "ethnicity: no value is known" in about["remarks"]


def test_one_patient_against_others_is_a_difference_without_a_test(cohort: Callable[..., Path], tmp_path: Path) -> None:
    about = describe_cohort(cohort(odd(), "one"), DescribeRequest(), against=cohort(people(30), "many"), out=tmp_path / "describe")
    entry = about["attributes"]["age"]["compared"]["many"]
    assert entry["difference"]["remark"] == "one patient in one: no interval, no test"
    assert "low" not in entry["difference"]
    assert entry["p"]["value"] is None
    assert any(r.startswith("ethnicity: no such column (many)") or "ethnicity" in r for r in about["remarks"])
    coverage = about["measures"]["field_coverage"]["compared"]["many"]["smd"]
    assert coverage["remark"] == "nothing varies within the sides: no standardised difference"


def test_a_constant_column_does_not_vary_and_says_so(cohort: Callable[..., Path], tmp_path: Path) -> None:
    about = describe_cohort(cohort(people(30)), quick(), out=tmp_path / "describe")
    coverage = about["measures"]["field_coverage"]["sides"]["cohort"]
    assert coverage["mean"]["value"] == 1.0
    assert "low" not in coverage["mean"]
    assert coverage["sd"]["value"] == 0.0
    assert any(r.startswith("field_coverage: does not vary") for r in about["remarks"])


def test_grades_stay_groups_in_their_order_though_gaps_made_them_floats(cohort: Callable[..., Path], tmp_path: Path) -> None:
    table, measures = people(40)
    table["grade"] = table["grade"].astype(float).replace(1.0, np.nan)
    about = describe_cohort(cohort((table, measures)), quick(), out=tmp_path / "describe")
    grade = about["attributes"]["grade"]["sides"]["cohort"]
    assert sorted(grade["by"]["grade"]) == ["0", "2", "3", "unknown"]
    assert grade["missing"] == 20
    assert "mean" not in grade


def test_a_column_of_many_texts_is_named_rather_than_listed(cohort: Callable[..., Path], tmp_path: Path) -> None:
    table, measures = people(40)
    table["keywords"] = [f"text {n % 35}" for n in range(80)]
    folder = cohort((table, measures))
    assert (
        "keywords: 35 different texts, not described; --by lists the commonest"
        in describe_cohort(folder, quick(), out=tmp_path / "all")["remarks"]
    )
    listed = describe_cohort(folder, quick(by=("keywords",)), out=tmp_path / "asked")
    groups = listed["attributes"]["keywords"]["sides"]["cohort"]["by"]["keywords"]
    assert len(groups) == 30
    assert groups["6 others"]["images"] == sum((np.arange(80) % 35) >= 29)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (quick(by=("agee",)), "--by agee: the cohort has no such column; did you mean 'age'?"),
        (quick(measures=("Fractal",)), "--measures Fractal: there is no such measure"),
        (quick(split="image_id"), "--split image_id: has 60 groups, and at most 6 stand side by side"),
        (quick(split="hospital"), "the cohort has no column 'hospital'"),
        (quick(by=("sex",), bins=("age=50",)), "--bins age: is not among the columns of --by"),
        (quick(bins=("sex=50",)), "--bins sex: 'sex' is text, not a number"),
    ],
)
def test_a_mistake_is_named(cohort: Callable[..., Path], tmp_path: Path, request_: DescribeRequest, words: str) -> None:
    with pytest.raises(UserError) as error:
        describe_cohort(cohort(people(30)), request_, out=tmp_path / "describe")
    assert words in str(error.value)
    assert not (tmp_path / "describe").exists()


def test_the_same_request_gives_the_same_bytes_whatever_the_users_own_settings(
    cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    folder, request = cohort(people(30)), DescribeRequest(by=("age",), measures=("Fractal_dimension",))
    describe_cohort(folder, request, out=tmp_path / "one")
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 31.0)
    describe_cohort(folder, request, out=tmp_path / "two")
    assert matplotlib.rcParams["font.size"] == 31.0
    digests = [{f.relative_to(o): sha256_file(f) for f in o.rglob("*") if f.is_file()} for o in (tmp_path / "one", tmp_path / "two")]
    assert len(digests[0]) == 2 + 2 * 3
    assert digests[0] == digests[1]
    svg = (tmp_path / "one" / "pictures" / "distribution-age.svg").read_text()
    assert matplotlib.__version__ not in svg
    assert "<dc:date>" not in svg
    assert b"Software" not in (tmp_path / "one" / "pictures" / "distribution-age.png").read_bytes()


def test_pictures_are_as_wide_as_a_column_and_named_with_their_captions(cohort: Callable[..., Path], tmp_path: Path) -> None:
    import cv2

    about = describe_cohort(cohort(odd(), "odd"), DescribeRequest(), against=cohort(people(30), "many"), out=tmp_path / "describe")
    assert {"pictures/distribution-age", "pictures/groups-sex", "pictures/measure-Fractal_dimension-by-age"} <= {
        p["file"] for p in about["pictures"]
    }
    for picture in about["pictures"]:
        image = cv2.imread(str(tmp_path / "describe" / f"{picture['file']}.png"), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert image.shape[1] == round(figures.SINGLE * figures.DPI)
        assert image.std() > 5
        assert (tmp_path / "describe" / f"{picture['file']}.svg").exists()
        assert picture["caption"]


def test_neighbouring_colours_differ_in_grey() -> None:
    grey = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (figures.lighter(c, 0.0) for c in figures.COLOURS)]
    assert abs(grey[0] - grey[1]) > 0.2


def test_the_command_prints_tables_effects_before_p_values_and_the_notice(cohort: Callable[..., Path], tmp_path: Path) -> None:
    cohort(people(30, shift=20), "cohort")
    cohort(people(30, seed=2), "other")
    text = run("curate", "describe", "--against", "other", "--no-pictures", cwd=tmp_path)
    assert "cohort minus other" in text
    assert text.index("standardised difference") < text.index("p adjusted")
    assert "not for publication" in text
    about = json.loads((tmp_path / "describe" / "description.json").read_text())
    assert about["made_by"]["command"] == "curate describe --against other --no-pictures"
    again = run("curate", "describe", "--against", "other", "--no-pictures", "--json", cwd=tmp_path)
    assert json.loads(again)["done_before"]


@pytest.mark.filterwarnings("error::UserWarning")  # matplotlib's, where a picture has no room for its letters
def test_columns_and_groups_of_any_name_are_described_and_drawn(cohort: Callable[..., Path], tmp_path: Path) -> None:
    table, measures = people(60)
    names = ["上海第一医院", "北京协和医院", "Ωμέγα " * 40, "<b>&amp;</b> $x_1$", "\u202ered\x1b[31m\nline", "Zürich"]
    columns = ["../../etc/passwd", "n" * 300, "n" * 299 + "m", "$\\frac{a}{0}$ {x} %s", "\x1b[31mred\n", "", "上海"]
    for column in columns:
        table[column] = [names[n // 2 % 6] for n in range(120)]
    cohort((table, measures))
    said = run("curate", "describe", "--by", ",".join(c for c in columns if c.strip() == c and c), cwd=tmp_path)
    assert "\x1b" not in said
    assert max(map(len, said.partition("in words")[0].splitlines())) < 160
    described = describe_cohort(tmp_path / "cohort", DescribeRequest(measures=("Fractal_dimension",)), out=tmp_path / "all")
    assert set(columns) <= set(described["attributes"])
    drawn = [p["file"] for p in described["pictures"]]
    assert len(set(map(str.lower, drawn))) == len(drawn)
    assert {p.parent for p in tmp_path.rglob("*.png")} == {tmp_path / "describe" / "pictures", tmp_path / "all" / "pictures"}


def test_where_one_patient_is_all_there_is_it_is_said_once(cohort: Callable[..., Path], tmp_path: Path) -> None:
    cohort(odd())
    said = run("curate", "describe", "--no-pictures", cwd=tmp_path)
    assert said.startswith("cohort: 2 images of 1 patient\n")
    assert "a group of one patient" not in said
    assert "one patient: no interval" in said


def test_images_without_any_measure_are_described_as_they_are(cohort: Callable[..., Path], tmp_path: Path) -> None:
    table, measures = people(30)
    assert measures is not None
    empty = measures.assign(state="unreadable", Fractal_dimension=np.nan, field_coverage=np.nan)
    about = describe_cohort(cohort((table, empty)), DescribeRequest(), out=tmp_path / "describe")
    assert "Fractal_dimension, field_coverage: no known value (cohort)" in about["remarks"]
    assert not any("measure-" in p["file"] for p in about["pictures"])
    assert about["attributes"]["state"]["sides"]["cohort"]["by"]["state"]["unreadable"]["images"] == 60
