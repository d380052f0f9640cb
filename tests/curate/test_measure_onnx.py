"""Networks that the user names: what they mark is measured exactly as the same masks in a folder are."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from curate.artefacts import write_json, write_parquet
from curate.cli import app
from curate.errors import UserError
from curate.measure import measure_cohort, read_image
from curate.retina import field
from curate.retina.masks import MEASURES as MASK_MEASURES
from curate.retina.network import Network

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

SIZE = 192
# Colours by which the tiny networks below tell what is what: blue is above a half in arteries, red under a half in veins.
ARTERY, VEIN, RETINA, DISC = (150, 60, 140), (90, 60, 40), (200, 110, 50), (240, 235, 60)


def draw(number: int) -> np.ndarray:
    """Draw a retina with arteries, veins and a disc in colours of their own, (192, 192, 3) uint8 RGB."""
    rng = np.random.default_rng(number)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    cv2.circle(image, (96, 96), 92, RETINA, -1)
    for turn in range(14):
        angle = 2 * np.pi * turn / 14 + rng.uniform(-0.1, 0.1)
        end = (round(96 + 85 * np.cos(angle)), round(96 + 85 * np.sin(angle)))
        cv2.line(image, (96, 96), end, ARTERY if turn % 2 else VEIN, 3)
    cv2.circle(image, (96, 96), 12, DISC, -1)
    noisy = image.astype(np.int32) + rng.integers(-3, 4, image.shape) * (image > 0)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def true_masks(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """Mark by the same thresholds as the networks: BGR images as in a folder of masks."""
    red, green, blue = (rgb[:, :, i].astype(int) for i in range(3))
    artery, disc = blue > 100, green > 180
    vein = (red > 70) & (red < 120) & ~artery
    both = np.zeros((*red.shape, 3), np.uint8)
    both[artery], both[vein] = (0, 0, 255), (255, 0, 0)
    return {"artery_vein": both, "vessels": (artery | vein).astype(np.uint8) * 255, "disc": disc.astype(np.uint8) * 255}


def network(weights: Any, bias: Any, *, shape: Any = (1, 3, SIZE, SIZE), after: tuple[str, ...] = (), layout: str = "NCHW") -> bytes:
    """Make a network of one convolution of 1 x 1 pixels: ``weights`` (out, in) and ``bias`` (out,) by hand."""
    from onnx import TensorProto, helper, numpy_helper

    w = np.asarray(weights, np.float32)[:, :, None, None]
    initial = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.asarray(bias, np.float32), "b")]
    nodes, last = [], "image"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [last], ["t"], perm=[0, 3, 1, 2]))
        last = "t"
    nodes.append(helper.make_node("Conv", [last, "w", "b"], ["scores"], name="conv"))
    last = "scores"
    for step in after:
        attributes = {"axis": 1} if step in ("Softmax", "ArgMax") else {}
        if step == "ArgMax":
            attributes["keepdims"] = 0
        if step == "ToLast":
            nodes.append(helper.make_node("Transpose", [last], [step], perm=[0, 2, 3, 1]))
        else:
            nodes.append(helper.make_node(step, [last], [step], **attributes))
        last = step
    kind = TensorProto.INT64 if "ArgMax" in after else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, kind, None)], initial,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


# Scores of artery, vein and disc, times 1000 so that a sigmoid is a step. Input: RGB from 0 to 1.
GREEN_ABOVE_180 = ([[0, 1000, 0]], [-1000 * 180.5 / 255])
BLUE_ABOVE_100 = ([[0, 0, 1000]], [-1000 * 100.5 / 255])


def describe(folder: Path, name: str, model: bytes, **changes: Any) -> Path:
    """Write a model and the YAML file beside it."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(model)
    about: dict[str, Any] = {
        "file": f"{name}.onnx", "sha256": hashlib.sha256(model).hexdigest(), "segments": "disc", "sees": "photograph",
        "input": {"size": SIZE}, "output": {"values": "sigmoid", "disc": 0}, "licence": "none needed", "source": "made by a test",
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({k: v for k, v in (about | changes).items() if v is not None}))
    return folder / f"{name}.yaml"


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Write a cohort of two drawn retinas, and their masks."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    (tmp_path / "images").mkdir()
    for number in range(2):
        rgb = draw(number)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), rgb[:, :, ::-1])
        for kind, mask in true_masks(rgb).items():
            (tmp_path / "masks" / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "masks" / kind / f"{number}.png"), mask)
    names = [f"{number}.png" for number in range(2)]
    write_parquet(folder / "cohort.parquet", pd.DataFrame({"image_id": names, "path": names, "width": SIZE, "height": SIZE}))
    write_json(folder / "cohort.json", {"images": "../images", "name": "drawn"})
    return folder


@pytest.fixture
def measured(cohort: Path) -> Callable[..., pd.DataFrame]:
    """Measure the cohort anew."""

    def measure(**options: Any) -> pd.DataFrame:
        (cohort / "measurements.json").unlink(missing_ok=True)
        measure_cohort(cohort, resolution=256, workers=1, **options)
        return pd.read_parquet(cohort / "measurements.parquet")

    return measure


def only(folder: Path, *kinds: str) -> Path:
    """Leave these kinds of masks alone."""
    for kind in ("vessels", "artery_vein", "disc"):
        if kind not in kinds:
            for file in (folder / kind).glob("*"):
                file.unlink()
    return folder


def test_a_network_of_the_disc_measures_as_the_same_masks_do(measured: Callable[..., pd.DataFrame], tmp_path: Path) -> None:
    model = describe(tmp_path / "models", "disc", network(*GREEN_ABOVE_180, after=("Sigmoid",)))
    by_network = measured(models=[model])
    by_masks = measured(masks=only(tmp_path / "masks", "disc"))
    assert by_masks["Disc_height"].between(90, 150).all()
    assert by_masks["Vessel_density_zone_b"].notna().all()
    pd.testing.assert_frame_equal(by_network, by_masks)


@pytest.mark.parametrize("values", ["sigmoid", "logits", "softmax", "probabilities", "labels"])
def test_arteries_and_veins_measure_as_the_same_masks_do_however_the_output_says_them(
    measured: Callable[..., pd.DataFrame], tmp_path: Path, values: str
) -> None:
    # Class 0 is the rest (a score of 0), 1 arteries, 2 what the disc's green marks: enough to tell the channels apart.
    weights, bias = [[0, 0, 0], [0, 0, 1000], [0, 1000, 0]], [0, -1000 * 100.5 / 255, -1000 * 180.5 / 255]
    after: dict[str, tuple[str, ...]] = {
        "sigmoid": ("Sigmoid",), "logits": (), "softmax": (), "probabilities": ("Softmax",), "labels": ("ArgMax",),
    }  # fmt: skip
    output: dict[str, Any] = {"values": "softmax" if values == "probabilities" else values, "artery": 1, "vein": [2]}
    if values == "probabilities":
        output["threshold"] = 0.6
    model = describe(tmp_path / "models", "av", network(weights, bias, after=after[values]), segments="artery_vein", output=output)
    by_network = measured(models=[model])
    folder = only(tmp_path / "masks", "artery_vein")
    for number in range(2):
        rgb = draw(number).astype(int)
        drawn = np.zeros((SIZE, SIZE, 3), np.uint8)
        drawn[rgb[:, :, 2] > 100], drawn[rgb[:, :, 1] > 180] = (0, 0, 255), (255, 0, 0)
        cv2.imwrite(str(folder / "artery_vein" / f"{number}.png"), drawn)
    by_masks = measured(masks=folder)
    assert by_masks["Artery_Vessel_density"].notna().all()
    pd.testing.assert_frame_equal(by_network, by_masks)


def test_a_network_that_sees_the_field_of_view_puts_its_marks_back_in_their_place(
    measured: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    model = describe(tmp_path / "models", "disc", network(*GREEN_ABOVE_180, after=("Sigmoid",)), sees="field")
    by_network = measured(models=[model])
    folder = only(tmp_path / "masks", "disc")
    by_masks = measured(masks=folder)
    np.testing.assert_allclose(by_network["Disc_height"], by_masks["Disc_height"], rtol=0.1)
    np.testing.assert_allclose(by_network["Disc_width"], by_masks["Disc_width"], rtol=0.1)
    for number in range(2):  # and to the pixel: where the field was cut out, marked and put back by hand
        rgb = draw(number)
        found = field.find_field(rgb)
        assert found is not None
        seen, _ = field.normalise(rgb, found, SIZE)
        left, top, right, bottom = field.square_of(found)
        above = (seen[:, :, 1].astype(np.float32) / np.float32(255)) * 1000 - np.float32(1000 * 180.5 / 255)
        likely = 1 / (1 + np.exp(-np.clip(above, -80, 80))) - 0.5
        shrinking = right - left < SIZE
        placed = cv2.resize(likely, (right - left, bottom - top), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR) >= 0
        whole = np.zeros((SIZE, SIZE), np.uint8)
        whole[top:bottom, left:right] = placed * 255
        cv2.imwrite(str(folder / "disc" / f"{number}.png"), whole)
    pd.testing.assert_frame_equal(by_network, measured(masks=folder))


@pytest.mark.parametrize("way", ["BGR", "NHWC", "mean and sd", "green", "larger"])
def test_what_the_network_wants_to_see_is_what_it_sees(measured: Callable[..., pd.DataFrame], tmp_path: Path, way: str) -> None:
    (weights,), bias = GREEN_ABOVE_180
    changes: dict[str, Any] = {}
    if way == "BGR":  # green is second in both orders: look at blue instead
        model = network([[1000, 0, 0]], BLUE_ABOVE_100[1], after=("Sigmoid",))
        same = describe(tmp_path / "models", "same", network(*BLUE_ABOVE_100, after=("Sigmoid",)))
        changes["input"] = {"size": SIZE, "channels": "BGR"}
    else:
        same = describe(tmp_path / "models", "same", network(*GREEN_ABOVE_180, after=("Sigmoid",)))
    if way == "NHWC":
        model = network([weights], bias, shape=(1, SIZE, SIZE, 3), after=("Sigmoid", "ToLast"), layout="NHWC")
        changes["input"] = {"size": [SIZE, SIZE], "layout": "NHWC"}
    elif way == "mean and sd":  # (x / 255 - mean) / sd, undone by the weights
        model = network([[0, 100, 0]], [bias[0] + 1000 * 0.4], after=("Sigmoid",))
        changes["input"] = {"size": SIZE, "mean": [0.1, 0.4, 0.2], "sd": [1, 0.1, 1]}
    elif way == "green":
        model = network([[1000 / 255]], bias, shape=("n", 1, "h", "w"), after=("Sigmoid",))
        changes["input"] = {"size": SIZE, "channels": "green", "scale": 1}
    elif way == "larger":
        model = network([weights], bias, shape=(1, 3, 2 * SIZE, 2 * SIZE), after=("Sigmoid",))
        changes["input"] = {"size": 2 * SIZE}
    first = measured(models=[same])
    second = measured(models=[describe(tmp_path / "models", "other", model, **changes)])
    if way == "larger":
        np.testing.assert_allclose(second["Disc_height"], first["Disc_height"], rtol=0.08)
    else:
        pd.testing.assert_frame_equal(first, second)


def test_a_threshold_and_classes_that_belong_together_decide_what_is_marked(measured: Callable[..., pd.DataFrame], tmp_path: Path) -> None:
    # A score that rises slowly with green: the disc is marked at one threshold and not at another.
    model = network([[0, 4, 0]], [-2], after=("Sigmoid",))
    low = measured(models=[describe(tmp_path / "models", "low", model, output={"values": "sigmoid", "disc": 0, "threshold": 0.75})])
    high = measured(models=[describe(tmp_path / "models", "high", model, output={"values": "sigmoid", "disc": 0, "threshold": 0.95})])
    assert low["Disc_height"].notna().all()
    assert high["Disc_height"].isna().all()
    halves = network([[0, 1000, 0], [0, 1000, 0], [0, 0, 0]], [-1000 * 180.5 / 255, -1000 * 180.5 / 255, 0], after=("Softmax",))
    said = {"values": "softmax", "disc": [0, 1], "threshold": 0.9}  # each is a half; together they are the disc
    both = measured(models=[describe(tmp_path / "models", "halves", halves, output=said)])
    np.testing.assert_allclose(both["Disc_height"], low["Disc_height"], rtol=0.1)


def test_masks_go_before_the_network_for_each_kind_of_each_image(
    measured: Callable[..., pd.DataFrame], cohort: Path, tmp_path: Path
) -> None:
    nothing = network([[0, 0, 0]], [-100], after=("Sigmoid",))  # marks no disc anywhere
    models = [
        describe(tmp_path / "models", "disc", nothing),
        describe(tmp_path / "models", "vessels", network(*BLUE_ABOVE_100, after=("Sigmoid",)), segments="vessels",
                 output={"values": "sigmoid", "vessels": 0}),
    ]  # fmt: skip
    masks = only(tmp_path / "masks", "disc")
    (masks / "disc" / "1.png").unlink()
    table = measured(models=models, masks=masks)
    assert table["Disc_height"].notna().tolist() == [True, False]
    assert list(table.columns)[-len(MASK_MEASURES) :] == list(MASK_MEASURES)
    alone = measured(models=models[1:])
    np.testing.assert_array_equal(table["Vessel_density"], alone["Vessel_density"])
    assert table["Vessel_density_zone_b"].notna().tolist() == [True, False]


def test_what_ran_is_recorded_and_another_threshold_is_another_specification(cohort: Path, tmp_path: Path) -> None:
    content = network(*GREEN_ABOVE_180, after=("Sigmoid",))
    model = describe(tmp_path / "models", "disc", content)
    about = measure_cohort(cohort, models=[model], workers=1)
    (recorded,) = about["made_by"]["specification"]["models"]
    assert recorded["sha256"] == about["made_by"]["inputs"]["model disc"] == hashlib.sha256(content).hexdigest()
    assert recorded["licence"] == "none needed"
    assert recorded["source"] == "made by a test"
    assert json.loads((cohort / "measurements.json").read_text()) == about
    assert measure_cohort(cohort, models=[model], workers=1) == about
    describe(tmp_path / "models", "disc", content, output={"values": "sigmoid", "disc": 0, "threshold": 0.7})
    with pytest.raises(UserError, match=r"measurements\.json: was made with another specification .*remove it"):
        measure_cohort(cohort, models=[model], workers=1)


def test_a_large_jpeg_is_shown_to_the_network_at_the_size_it_wants(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "curate.measure.read_image", lambda path, **options: (asked.append(options["at_least"]), read_image(path, **options))[1]
    )
    model = describe(
        tmp_path / "models", "disc", network(*GREEN_ABOVE_180, shape=("n", 3, "h", "w"), after=("Sigmoid",)), input={"size": 640}
    )
    measure_cohort(cohort, models=[model], resolution=256, workers=1)
    assert asked == [512, 640] * 2


def test_without_onnxruntime_one_line_names_the_extra(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = describe(tmp_path / "models", "disc", network(*GREEN_ABOVE_180, after=("Sigmoid",)))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'pip install "evenfooting\[onnx\]"'):
        measure_cohort(cohort, models=[model], workers=1)
    assert measure_cohort(cohort, workers=1)["states"] == {"ok": 2}  # nothing else needs it


WIDE = {"values": "sigmoid", "disc": 3}


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (b"not a model", {}, "not an ONNX model that can be run"),
        (b"", {}, "not an ONNX model that can be run"),
        (None, {"sha256": "0" * 64}, r"is not the model that .*disc\.yaml describes \(its SHA-256 is [0-9a-f]{12}\.\.\., there 0{12}"),
        (None, {"sha256": "abc"}, "field 'sha256'"),
        (None, {"file": "gone.onnx"}, r"its model .*gone\.onnx is missing"),
        (None, {"thresold": 1}, "unknown field 'thresold'"),
        (None, {"input": {"size": SIZE, "chanels": "BGR"}}, "unknown field 'input.chanels'; did you mean 'channels'"),
        (None, {"licence": None}, "field 'licence': Field required"),
        (None, {"segments": "fovea"}, "field 'segments'"),
        (None, {"output": {"values": "sigmoid", "vessels": 0}}, "which channel or class is disc is not said"),
        (None, {"output": {"values": "sigmoid", "disc": 0, "vein": 0}}, "'vein' doesn't belong to a network that segments disc"),
        (None, {"output": {"values": "labels", "disc": 0, "threshold": 0.5}}, "labels have none"),
        (None, {"output": {"values": "softmax", "disc": 0}}, "softmax has a channel for each class, and its output has one"),
        (None, {"output": WIDE}, r"its output has 1 channel\(s\), counted from 0; 3 is not one of them"),
        (None, {"output": {"values": "sigmoid", "disc": 0, "name": "mask"}}, "has no output 'mask'; there are: Sigmoid"),
        (None, {"input": {"size": 64}}, r"its input has the shape \(1, 3, 192, 192\), the YAML file says \(1, 3, 64, 64\)"),
        (None, {"input": {"size": SIZE, "channels": "green"}}, r"the YAML file says \(1, 1, 192, 192\)"),
        (None, {"input": {"size": SIZE, "mean": [1, 2]}}, r"mean has 2 numbers, the input has 3 channel"),
        (None, {"input": {"size": SIZE, "sd": 0}}, "expected numbers above 0"),
        (None, {"input": {"size": 1}}, "expected 16 to 8192 pixels"),
        (None, {"sees": "field", "input": {"size": [192, 96]}}, "the field of view is a square"),
        (network(*GREEN_ABOVE_180), {}, "its output goes from .* and values: sigmoid are probabilities; scores are logits"),
        (network(*GREEN_ABOVE_180, shape=(3, SIZE, SIZE)), {}, "not an ONNX model|its input has the shape"),
        (network(*GREEN_ABOVE_180, after=("Sigmoid", "Flatten")), {}, r"its output has the shape \(1, 36864\), expected \(1, C, H, W\)"),
        (network(*GREEN_ABOVE_180, after=("Sqrt",)), {"output": {"values": "logits", "disc": 0}}, "gives NaN"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_used_is_said_in_one_line(
    cohort: Path, tmp_path: Path, model: bytes | None, changes: dict[str, Any], said: str
) -> None:
    content = network(*GREEN_ABOVE_180, after=("Sigmoid",)) if model is None else model
    file = describe(tmp_path / "models", "disc", content, **changes)
    with pytest.raises(UserError, match=said):
        measure_cohort(cohort, models=[file], workers=1)
    assert not (cohort / "measurements.json").exists()


def test_weights_that_the_digest_does_not_cover_are_never_read(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.chdir(models)  # where they would be found
    whole = onnx.load_from_string(network(*GREEN_ABOVE_180, after=("Sigmoid",)))
    onnx.save_model(whole, str(models / "two.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0)
    file = describe(models, "disc", (models / "two.onnx").read_bytes())
    with pytest.raises(UserError, match="keeps its weights in a second file; save it as one file"):
        measure_cohort(cohort, models=[file], workers=1)


def test_two_networks_of_one_kind_and_other_modalities_are_refused(cohort: Path, tmp_path: Path) -> None:
    content = network(*GREEN_ABOVE_180, after=("Sigmoid",))
    first, second = (describe(tmp_path / "models", name, content) for name in ("one", "two"))
    with pytest.raises(UserError, match=r"two\.yaml: segments disc, as one\.onnx does; give one"):
        measure_cohort(cohort, models=[first, second], workers=1)
    with pytest.raises(UserError, match="models are for --modality retina; leave it out for generic"):
        measure_cohort(cohort, modality="generic", models=[first], workers=1)
    done = CliRunner().invoke(app, ["measure", "--cohort", str(cohort), "--model", str(tmp_path / "nowhere.yaml")])
    assert isinstance(done.exception, UserError)
    assert "nowhere.yaml: no such file" in str(done.exception)


def test_the_network_of_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "measure.md").read_text(encoding="utf-8")
    (example,) = (block.split("```")[0] for block in page.split("```yaml\n")[1:] if block.startswith("# av.yaml"))
    described = Network.model_validate(yaml.safe_load(example))
    assert described.segments == "artery_vein"
    assert described.output.channels("crossing") == [3]
