"""``evaluate figures``: the numbers drawn, the files written, and names that nobody expects."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from curate import UserError, figures
from evaluate.calibration import expected_calibration_error
from evaluate.comparisons import PAPER
from evaluate.figures import curves
from evaluate.figures.folder import Choice, Evaluation
from evaluate.figures.forest import Block, Mark, Row, forest, limits
from evaluate.figures.run import draw_figures
from evaluate.proportions import net_benefit, treat_all
from evaluate.score import score_file

Made = tuple[Path, Path, dict[str, Any]]


def predictions(n: int = 160, *, models: int = 2, seeds: int = 2, classes: int = 2, seed: int = 0) -> pd.DataFrame:
    """Two images a patient, a validation split, sexes and ages."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) // 2
    label = rng.choice(classes, n)
    age, sex = rng.integers(20, 90, n // 2)[patient], np.where(rng.random(n // 2) < 0.4, "female", "male")[patient]
    rows = []
    for m, s in [(m, s) for m in range(models) for s in range(seeds)]:
        z = rng.normal(size=(n, classes)) + (1.5 - 0.3 * m) * np.eye(classes)[label]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        ids = {"image_id": [f"i{i:04d}" for i in range(n)], "patient_id": [f"p{i:04d}" for i in patient]}
        split = np.where(patient % 4 == 0, "val", "test")
        rows.append(
            pd.DataFrame({**ids, "model": f"model {m}", "seed": s, "split": split, "label": label, "age": age, "sex": sex})
            .assign(**{f"p_{k}": p[:, k] for k in range(classes)})
        )  # fmt: skip
    return pd.concat(rows)


def evaluation(table: pd.DataFrame, folder: Path, **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "t.parquet")
    return score_file(folder / "t.parquet", **{"scores": "p_", "out": folder / "evaluation", "replicates": 100, "by": "age,sex", **options})


def drawn(folder: Path, **choice: tuple[str, ...]) -> tuple[Path, dict[str, Any]]:
    out = draw_figures(folder, choice=Choice(**choice))
    return out, json.loads((out / "figures.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An evaluation of two classes, two models, two seeds, with its figures: folder, figures' folder, ``figures.json``."""
    folder = evaluation(predictions(), tmp_path_factory.mktemp("binary"))
    return folder, *drawn(folder, attributes=("sex",))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same of three classes, without the forests."""
    folder = evaluation(predictions(classes=3), tmp_path_factory.mktemp("three"))
    return folder, *drawn(folder, kinds=("roc", "precision-recall", "reliability"), attributes=("age",), models=("model 0",))


def numbers(made: Made, stem: str) -> pd.DataFrame:
    return pd.read_csv(made[1] / f"{stem}.csv", dtype={"threshold": str, "class": str}, keep_default_na=False, na_values=[""])


def test_every_figure_is_there_as_png_svg_and_numbers_with_a_caption(binary: Made) -> None:
    _, out, about = binary
    assert {f["kind"] for f in about["figures"]} == {
        "bars", "differences", "estimates", "thresholds", "gaps", "roc", "precision-recall", "reliability", "net-benefit"
    }  # fmt: skip
    listed = [name for f in about["figures"] for name in f["files"]]
    assert sorted([*listed, "figures.json"]) == sorted(p.name for p in out.iterdir())
    for figure in about["figures"]:
        png, svg, csv = (out / name for name in figure["files"])
        with Image.open(png) as image:
            assert image.width / 300 == pytest.approx(figures.SINGLE, abs=0.02) or 5.5 < image.width / 300 < 7.3
            assert image.height / 300 < 9.5
        assert b"<svg" in svg.read_bytes()[:600]
        assert len(pd.read_csv(csv)) > 0
        assert figure["caption"].endswith(".")
        assert "like those tested" in figure["caption"] or figure["kind"] not in ("bars", "differences", "estimates", "roc")
    assert [row["figure"] for row in about["left_out"]] == ["generalisability"]


def test_the_numbers_of_bars_and_forests_are_the_estimates(binary: Made) -> None:
    folder, _, _ = binary
    estimates = pd.read_parquet(folder / "estimates.parquet")
    keys = ["model", "attribute", "group", "metric", "threshold", "class"]
    for stem in ("estimates-t-as-given-model-0", "thresholds-t-as-given-model-1-youden"):
        shown = numbers(binary, stem).fillna({"threshold": ""})
        both = shown.merge(estimates.fillna({"threshold": ""}), on=keys, suffixes=("", "_there"))
        assert len(both) == len(shown) == 2 * (1 + 2)
        np.testing.assert_allclose(both[["value", "low", "high"]], both[["value_there", "low_there", "high_there"]], rtol=1e-12)
    bars = numbers(binary, "bars")
    everyone = estimates[(estimates["group"] == "all") & (estimates["class"] == "macro") & estimates["metric"].isin(["auroc", "auprc"])]
    assert sorted(bars.loc[bars["what"] == "estimate", "value"]) == pytest.approx(sorted(everyone["value"]), rel=1e-12)


def test_the_difference_forest_holds_both_analyses_of_the_pair(binary: Made) -> None:
    shown = numbers(binary, "differences-t-as-given-auroc-model-1-minus-model-0")
    there = pd.read_parquet(binary[0] / "comparisons.parquet")
    there = there[(there["metric"] == "auroc") & (there["attribute"] != "age")]
    assert len(shown) == len(there) == 2 * 3
    assert (shown["method"] == PAPER).sum() == 3
    np.testing.assert_allclose(shown["difference"].to_numpy(float), there["difference"].to_numpy(float), rtol=1e-12)


def test_a_pair_chosen_the_other_way_round_changes_sign(binary: Made, tmp_path: Path) -> None:
    from evaluate.figures.forests import _pair

    view = Evaluation(binary[0], Choice()).views()[0]
    straight, turned = _pair(view, "model 0", "model 1", "auroc"), _pair(view, "model 1", "model 0", "auroc")
    np.testing.assert_array_equal(straight["difference"], -turned["difference"])
    np.testing.assert_array_equal(straight["low"], -turned["high"])


def test_the_area_under_the_drawn_curves_is_the_estimate(binary: Made) -> None:
    estimates = pd.read_parquet(binary[0] / "estimates.parquet")
    for kind, metric in (("roc", "auroc"), ("precision-recall", "auprc")):
        for stem, group in ((f"{kind}-t-as-given", "all"), (f"{kind}-t-as-given-by-sex", "male")):
            shown = numbers(binary, stem)
            for model in ("model 0", "model 1"):
                line = shown[(shown["model"] == model) & (shown["group"] == group) & (shown["what"] == "curve")]
                x, y = line["x"].to_numpy(), line["y"].to_numpy()
                area = float(np.trapezoid(y, x)) if kind == "roc" else float((np.diff(x) * y[1:]).sum())
                row = estimates[(estimates["model"] == model) & (estimates["group"] == group) & (estimates["metric"] == metric)]
                assert area == pytest.approx(row["value"].iloc[0], abs=1e-12)


def test_operating_points_are_the_estimates_at_the_thresholds(binary: Made) -> None:
    shown = numbers(binary, "roc-t-as-given-by-sex")
    point = shown[(shown["what"] == "operating point: youden") & (shown["model"] == "model 1") & (shown["group"] == "female")].iloc[0]
    e = pd.read_parquet(binary[0] / "estimates.parquet")
    e = e[(e["model"] == "model 1") & (e["group"] == "female") & (e["class"] == "1") & (e["threshold"] == "youden")].set_index("metric")
    assert (point["x"], point["y"]) == pytest.approx((1 - e.loc["specificity", "value"], e.loc["sensitivity", "value"]))


def test_averages_over_classes_have_no_operating_point(three: Made) -> None:
    shown = numbers(three, "roc-t-as-given")
    marked = shown[shown["what"].str.startswith("operating")]
    assert set(marked["class"]) == {"0", "1", "2"}
    assert set(shown.loc[shown["what"] == "curve", "class"]) == {"macro", "0", "1", "2"}


@pytest.mark.parametrize(("kind", "metric"), [("roc", "auroc"), ("precision-recall", "auprc")])
def test_the_macro_curve_has_the_macro_area(three: Made, kind: str, metric: str) -> None:
    shown = numbers(three, f"{kind}-t-as-given-by-age")
    estimates = pd.read_parquet(three[0] / "estimates.parquet")
    line = shown[(shown["model"] == "model 0") & (shown["group"] == "40 to 70") & (shown["what"] == "curve")]
    x, y = line["x"].to_numpy(), line["y"].to_numpy()
    area = float(np.trapezoid(y, x)) if kind == "roc" else float((np.diff(x) * y[1:]).sum())
    row = estimates.query("model == 'model 0' and group == '40 to 70' and `class` == 'macro'").query("metric == @metric")
    assert area == pytest.approx(row["value"].iloc[0], abs=1e-9)


def test_calibration_of_several_classes_by_group_says_why_it_is_left_out(three: Made) -> None:
    assert {
        "figure": "reliability",
        "of": "t (as given), by group",
        "why": "it is of one class at a time; choose one with --class",
    } in three[2]["left_out"]


@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_single_seeds_roc_goes_through_scikit_learns_points(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    positive = np.append(rng.random(n) < 0.4, [True, False])
    scores = rng.normal(size=n + 2).round(0 if ties else 9)
    curve = curves.roc(scores[None], positive)
    x, y, _ = roc_curve(positive, scores, drop_intermediate=False)
    drawn_points = set(zip(curve.x.round(9), curve.y.round(9), strict=True))
    for point in zip(x.round(9), y.round(9), strict=True):
        on_steps = point in drawn_points
        # A point between two on the same upright line isn't an end of it.
        same = curve.y[np.isclose(curve.x, point[0], atol=1e-8)]
        assert on_steps or same.min() - 1e-8 <= point[1] <= same.max() + 1e-8
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_single_seeds_precision_is_scikit_learns_at_the_strictest_threshold(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    positive = np.append(rng.random(n) < 0.4, [True, False])
    scores = rng.normal(size=n + 2).round(0 if ties else 9)
    curve = curves.precision_recall(scores[None], positive)
    precision, recall, _ = precision_recall_curve(positive, scores)  # falling recall: the last of equals is the strictest
    for x, y in zip(curve.x, curve.y, strict=True):
        assert y == pytest.approx(precision[np.flatnonzero(recall >= x - 1e-9)[-1]])
    area = float((np.diff(np.append(0, curve.x)) * curve.y).sum())
    assert area == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


def test_seeds_are_averaged_at_equal_false_positive_rates_never_pooled() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(300) < 0.3
    scores = np.stack([rng.normal(size=300) + positive, 100 * (rng.normal(size=300) + positive) - 7])  # scales of their own
    both = curves.roc(scores, positive)
    each = [curves.roc(row[None], positive) for row in scores]
    np.testing.assert_allclose(both.y, (each[0].y + each[1].y) / 2)


def test_long_curves_are_thinned_and_keep_their_area() -> None:
    rng = np.random.default_rng(2)
    positive = rng.random(20_000) < 0.3
    scores = rng.normal(size=(1, 20_000)) + positive
    curve = curves.roc(scores, positive)
    assert len(curve.x) == 2 * (curves.POINTS + 1)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc_score(positive, scores[0]), abs=1e-3)
    assert len(curves.precision_recall(scores, positive).x) == curves.POINTS


def test_reliability_bins_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    p = np.append(rng.random((2, 98)), [[0.3, 1.0], [0.7, 0.0]], axis=1)
    positive, patients = rng.random(100) < p[0], np.arange(100) // 2
    bins = {round(10 * b.low): b for b in curves.reliability(p, positive, patients)}
    for k in range(10):
        inside = [(s, i) for s in range(2) for i in range(100) if min(int(p[s, i] * 10), 9) == k]
        assert bins[k].images == len(inside) / 2
        assert bins[k].patients == len({patients[i] for _, i in inside})
        assert bins[k].predicted == pytest.approx(np.mean([p[s, i] for s, i in inside]))
        assert bins[k].observed == pytest.approx(np.mean([positive[i] for _, i in inside]))
        assert bins[k].observed_low <= bins[k].observed <= bins[k].observed_high


def test_the_gaps_of_the_reliability_bins_add_up_to_the_calibration_error() -> None:
    rng = np.random.default_rng(4)
    p = rng.random((1, 200))
    positive = rng.random(200) < p[0] ** 2
    bins = curves.reliability(p, positive, np.arange(200))
    error = sum(b.images * abs(b.observed - b.predicted) for b in bins) / 200
    assert error == pytest.approx(expected_calibration_error(p[0], positive))


def test_an_interval_of_reliability_knows_that_one_patients_images_are_alike() -> None:
    rng = np.random.default_rng(5)
    positive = np.repeat(rng.random(60) < 0.5, 10)
    p = np.full((1, 600), 0.45)
    (alone,), (clustered,) = (curves.reliability(p, positive, who) for who in (np.arange(600), np.arange(600) // 10))
    assert clustered.observed_high - clustered.observed_low > 2.5 * (alone.observed_high - alone.observed_low)


def test_net_benefit_is_that_of_the_estimates() -> None:
    rng = np.random.default_rng(6)
    p, positive = rng.random((2, 80)).round(2), rng.random(80) < 0.4
    values = curves.net_benefit(p, positive)
    for t in (0.05, 0.2, 0.5, 0.9):
        place = int(np.argmin(abs(curves.THRESHOLDS - t)))
        assert values[place] == pytest.approx(np.mean([net_benefit(row, positive, np.arange(80), t).value for row in p]))
        assert curves.treat_everybody(positive)[place] == pytest.approx(treat_all(positive.mean(), t))


def test_the_same_evaluation_gives_the_same_bytes(binary: Made, tmp_path: Path) -> None:
    again = draw_figures(binary[0], out=tmp_path / "again", choice=Choice(kinds=("bars", "differences", "roc"), attributes=("sex",)))
    names = [p.name for p in again.iterdir() if p.name != "figures.json"]
    assert len(names) == 3 * (1 + 2 + 2)
    for name in names:
        assert (again / name).read_bytes() == (binary[1] / name).read_bytes(), name


def test_drawing_again_does_nothing_and_another_choice_is_refused(binary: Made) -> None:
    before = {p: p.stat().st_mtime_ns for p in binary[1].iterdir()}
    assert draw_figures(binary[0], choice=Choice(attributes=("sex",))) == binary[1]
    assert before == {p: p.stat().st_mtime_ns for p in binary[1].iterdir()}
    with pytest.raises(UserError, match="was made with another specification"):
        draw_figures(binary[0], choice=Choice(kinds=("bars",)))


MISTAKES: dict[str, tuple[dict[str, tuple[str, ...]], str]] = {
    "kind": ({"kinds": ("rocs",)}, "--figures rocs: no figure of that name; did you mean 'roc'"),
    "task": ({"tasks": ("u",)}, "--task u: the evaluation has none of that name.*it has t"),
    "model": ({"models": ("model 2",)}, "--model model 2: the evaluation has none"),
    "adaptation": ({"adaptations": ("finetune",)}, "--adapt finetune: .*it has as given"),
    "attribute": ({"attributes": ("ethnicity",)}, "--by ethnicity: .*it has age, sex"),
    "group": ({"groups": ("over 80",)}, "--group over 80: .*did you mean 'over 70'"),
    "class": ({"classes": ("2",)}, "--class 2: .*it has 0, 1"),
    "nothing": ({"kinds": ("generalisability",)}, "nothing to draw: generalisability left out .*: no models of several sites"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_choice_is_one_line_and_leaves_nothing(binary: Made, tmp_path: Path, name: str) -> None:
    choice, message = MISTAKES[name]
    with pytest.raises(UserError, match=message) as error:
        draw_figures(binary[0], out=tmp_path / "figures", choice=Choice(**choice))
    assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


def test_what_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not an evaluation \(evaluation.json is missing\)"):
        draw_figures(tmp_path)


def test_chosen_models_and_groups_alone_are_drawn(binary: Made, tmp_path: Path) -> None:
    choice = Choice(kinds=("estimates",), models=("model 1",), attributes=("age",), groups=("over 70",))
    out = draw_figures(binary[0], out=tmp_path / "figures", choice=choice)
    shown = pd.read_csv(out / "estimates-t-as-given-model-1.csv")
    assert set(shown["group"]) == {"all", "over 70"}
    assert len(list(out.glob("*.png"))) == 1


HOSTILE = ["$\\frac{x}{$ <b>&", "‮right‬ to left", "x" * 79 + "a", "x" * 79 + "b", "上海", "大连", "\x07\x1b[31m", "../../../etc"]


def test_names_of_any_kind_are_drawn_and_told_apart(tmp_path: Path) -> None:
    table = predictions(n=320)
    code = table["image_id"].str[1:].astype(int) // 8 % len(HOSTILE)
    table["sex"] = [HOSTILE[c] for c in code]
    table["model"] = table["model"].map({"model 0": "מודל", "model 1": "y" * 80})
    folder = evaluation(table, tmp_path, by="sex", classes="no,<script>")
    out, about = drawn(folder, kinds=("bars", "differences", "roc"))
    groups = set(pd.read_csv(out / about["figures"][1]["files"][2])["group"])
    assert {"上海", "大连", "x" * 79 + "a", "x" * 79 + "b"} <= groups  # the table has the names as they are
    assert all(p.parent == out for p in out.rglob("*"))
    for svg in out.glob("*.svg"):
        import xml.etree.ElementTree as tree

        tree.parse(svg)


def test_more_groups_than_a_page_or_a_panel_holds(tmp_path: Path) -> None:
    table = predictions(n=640, models=1, seeds=1)
    table["sex"] = "centre " + (table["image_id"].str[1:].astype(int) // 2 % 50).astype(str)
    folder = evaluation(table, tmp_path, by="sex")
    out, about = drawn(folder, kinds=("estimates", "roc"))
    pages = [f for f in about["figures"] if f["kind"] == "estimates"]
    assert len(pages) == 2
    rows = [set(pd.read_csv(out / f["files"][2])["group"]) for f in pages]
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == 1 + 50
    roc = next(f for f in about["figures"] if f["title"].endswith("by sex"))
    assert len(set(pd.read_csv(out / roc["files"][2])["group"])) == 6
    assert "with most positives and negatives are drawn" in roc["caption"]


def test_ten_models_are_drawn_in_one_panel(tmp_path: Path) -> None:
    out, _ = drawn(evaluation(predictions(n=80, models=10, seeds=1), tmp_path, by=""), kinds=("bars", "roc"))
    assert len(set(pd.read_csv(out / "roc-t-as-given.csv")["model"])) == 10


def test_more_than_three_models_are_compared_with_the_first(tmp_path: Path) -> None:
    _, about = drawn(evaluation(predictions(n=80, models=4, seeds=1), tmp_path, by=""), kinds=("differences",))
    assert len(about["figures"]) == 3 * 2
    assert "there are 4 models; choose with --model" in {row["why"] for row in about["left_out"]}


def test_one_model_scores_that_only_rank_and_a_group_of_one_class(tmp_path: Path) -> None:
    table = predictions(n=60, models=1, seeds=1).assign(score=lambda t: 9 * t["p_1"] - 3).drop(columns=["p_0", "p_1"])
    table.loc[table["sex"] == "female", "label"] = 1
    folder = evaluation(table, tmp_path, scores=None, score="score", by="sex")
    out, about = drawn(folder)
    why = {row["figure"]: row["why"] for row in about["left_out"]}
    assert why["differences"] == "there is one model"
    assert why["reliability"] == why["net-benefit"] == "the scores are not probabilities"
    shown = numbers((folder, out, about), "estimates-t-as-given-model-0")
    female = shown[shown["group"] == "female"]
    assert len(female) == 2
    assert female["value"].isna().all()
    roc = next(f for f in about["figures"] if f["title"].endswith("by sex") and f["kind"] == "roc")
    assert "Not drawn, without positives or without negatives: 'female'." in roc["caption"]


def test_without_estimates_curves_are_drawn_and_the_rest_says_why(binary: Made, tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    for name in ("evaluation.json", "predictions.parquet"):
        (folder / name).write_bytes((binary[0] / name).read_bytes())
    _, about = drawn(folder, attributes=("sex",))
    assert {f["kind"] for f in about["figures"]} == {"roc", "precision-recall", "reliability", "net-benefit"}
    assert {row["figure"] for row in about["left_out"]} == {"bars", "differences", "estimates", "thresholds", "gaps", "generalisability"}


def test_without_predictions_bars_and_forests_are_drawn(binary: Made, tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    for name in ("evaluation.json", "estimates.parquet", "comparisons.parquet"):
        (folder / name).write_bytes((binary[0] / name).read_bytes())
    _, about = drawn(folder, attributes=("sex",), models=("model 1", "model 0"))
    assert {f["kind"] for f in about["figures"]} == {"bars", "differences", "estimates", "thresholds"}
    assert "the evaluation has no predictions of the test split" in {row["why"] for row in about["left_out"]}


def test_models_of_two_sites_are_drawn_at_home_and_away(tmp_path: Path) -> None:
    from evaluate.compare import compare_models

    table = predictions(n=240)
    table["site"] = np.where(table["patient_id"].str[1:].astype(int) % 2 == 0, "london", "shanghai")
    folder = evaluation(table, tmp_path, by="site")
    sites = ["model 0=london", "model 1=shanghai"]
    both = compare_models([str(folder)], out=tmp_path / "both", by="site", trained_on=sites, replicates=100)
    out, about = drawn(both, kinds=("generalisability",))
    assert len(about["figures"]) == 3
    shown = pd.read_csv(out / "generalisability-t-as-given-auroc.csv")
    there = pd.read_parquet(both / "generalisation.parquet").query("metric == 'auroc'")
    overall = there.loc[there["kind"] == "overall", "value"].iloc[0]
    assert shown.loc[shown["kind"] == "overall", "value"].iloc[0] == pytest.approx(overall)


def test_an_axis_is_set_by_the_groups_that_are_large_enough() -> None:
    large, small = Mark(0.1, 0.05, 0.15, ("",)), Mark(0.12, -0.9, 0.95, ("",), hollow=True)
    low, high = limits([large, small, None], Block(("",), "difference", 0.0))
    assert -0.05 < low < 0
    assert 0.15 < high < 0.2
    assert limits([small], Block(("",), "difference"))[0] < -0.9
    assert limits([Mark(math.nan, math.nan, math.nan, ("",))], Block(("",), "difference")) == (0.0, 1.0)


def test_texts_of_a_forest_do_not_lie_upon_each_other() -> None:
    mark = Mark(0.9, 0.8, 0.95, ("0.900 [0.800, 0.950]", "too few"))
    rows = [Row("Age"), *[Row("w" * 26, ("1,000,000", "999,999", "555,555"), (mark, mark)) for _ in range(3)]]
    with figures.style():
        figure = forest("title", rows, ("images", "patients", "positive"), [Block(("value [95 %]", ""), "AUROC")] * 2)
        figure.canvas.draw()
        boxes = [t.get_window_extent() for t in figure.texts if t.get_text().strip()]
        for i, a in enumerate(boxes):
            assert a.x0 >= 0
            assert a.x1 <= figure.bbox.x1 + 1
            for b in boxes[:i]:
                assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
        for axes in figure.axes:
            assert not any(axes.get_window_extent().overlaps(b) for b in boxes)


def test_the_command_draws_and_says_what_is_left_out(binary: Made, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "evaluate",
        "figures",
        str(binary[0]),
        "--figures",
        "bars,generalisability",
        "--out",
        str(tmp_path / "f"),
    ]
    root = Path(__file__).parents[2]
    env = {"PYTHONPATH": str(root), "PATH": ""}
    done = subprocess.run([*command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "generalisability left out (t (as given)): no models of several sites were compared" in done.stdout
    assert "1 figures as PNG and SVG" in done.stdout
