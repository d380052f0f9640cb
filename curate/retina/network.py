"""Networks that the user names: ONNX models that mark vessels, arteries and veins, or the disc of a photograph.

A YAML file says which model it is, what it wants to see and what its output means. Nothing is downloaded; the model's bytes
are compared with the SHA-256 in that file before they are run. What a network marks is used as a mask in a folder would be.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curate.artefacts import sha256_file
from curate.errors import UserError
from curate.retina import field
from curate.retina.masks import Masks
from curate.yaml_file import read_yaml

_TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
}  # fmt: skip
_MARKS = {"vessels": ("vessels",), "artery_vein": ("artery", "vein", "crossing"), "disc": ("disc",)}
Channels = int | list[int]


class Input(BaseModel):
    """What the network wants to see.

    Attributes:
        size: pixels: one number for a square, or height and width; the image is brought to it, whatever its own shape.
        layout: NCHW or NHWC; the output has the same.
        channels: RGB, BGR, or green alone (one channel).
        scale: levels from 0 to 255 are divided by it.
        mean, sd: taken away and divided by after that; one number, or one a channel.
    """

    model_config = ConfigDict(extra="forbid")

    size: int | tuple[int, int]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR", "green"] = "RGB"
    scale: float = Field(default=255.0, gt=0)
    mean: float | list[float] = 0.0
    sd: float | list[float] = 1.0

    @field_validator("size")
    @classmethod
    def _is_positive(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        if min(value if isinstance(value, tuple) else (value,)) < 16 or max(value if isinstance(value, tuple) else (value,)) > 8192:
            raise ValueError("expected 16 to 8192 pixels")
        return value

    @field_validator("sd")
    @classmethod
    def _is_above_zero(cls, value: float | list[float]) -> float | list[float]:
        if not all(v > 0 for v in (value if isinstance(value, list) else [value])):
            raise ValueError("expected numbers above 0")
        return value

    @model_validator(mode="after")
    def _fits_the_channels(self) -> Input:
        for name, value in (("mean", self.mean), ("sd", self.sd)):
            if isinstance(value, list) and len(value) != self.depth:
                raise ValueError(f"{name} has {len(value)} numbers, the input has {self.depth} channel(s)")
        return self

    @property
    def depth(self) -> int:
        """How many channels the network sees."""
        return 1 if self.channels == "green" else 3

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


class Output(BaseModel):
    """What the network's output means.

    Attributes:
        name: of the output, where there are several.
        values: "sigmoid": probabilities, each channel for itself; "logits": the same before the sigmoid; "softmax": probabilities or
            scores of classes that exclude each other, one a channel; "labels": whole numbers, the class of each pixel.
        threshold: probability from which a pixel is marked. For softmax the largest class wins where none is given.
        vessels, artery, vein, crossing, disc: the channel or class, or several. A crossing is both artery and vein.
    """

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    values: Literal["sigmoid", "logits", "softmax", "labels"]
    threshold: float | None = Field(default=None, gt=0, lt=1)
    vessels: Channels | None = None
    artery: Channels | None = None
    vein: Channels | None = None
    crossing: Channels | None = None
    disc: Channels | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Output:
        if self.values == "labels" and self.threshold is not None:
            raise ValueError("threshold: labels have none; leave it out")
        for mark in ("vessels", "artery", "vein", "crossing", "disc"):
            if min(self.channels(mark), default=0) < 0:
                raise ValueError(f"{mark}: channels and classes count from 0")
        return self

    def channels(self, mark: str) -> list[int]:
        """Give the channels or classes of a mark; none where it isn't marked."""
        given = getattr(self, mark)
        return [] if given is None else given if isinstance(given, list) else [given]


class Network(BaseModel):
    """A network as its YAML file describes it.

    Attributes:
        file: the ONNX file, relative to the YAML file.
        sha256: of that file, 64 hexadecimal digits.
        segments: what it marks.
        sees: "field": the square around the field of view, black outside it; "photograph": the whole photograph.
        input, output: see there.
        licence: under which it may be used; source: where it comes from. Free text, recorded.
    """

    model_config = ConfigDict(extra="forbid")

    file: Path
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    segments: Literal["vessels", "artery_vein", "disc"]
    sees: Literal["field", "photograph"] = "field"
    input: Input
    output: Output
    licence: str
    source: str

    @model_validator(mode="after")
    def _belongs_together(self) -> Network:
        needed = [mark for mark in _MARKS[self.segments] if mark != "crossing"]
        missing = [mark for mark in needed if not self.output.channels(mark)]
        if missing:
            raise ValueError(f"output: which channel or class is {missing[0]} is not said")
        of_others = [m for marks in _MARKS.values() for m in marks if m not in _MARKS[self.segments] and self.output.channels(m)]
        if of_others:
            raise ValueError(f"output: '{of_others[0]}' doesn't belong to a network that segments {self.segments}")
        if self.sees == "field" and self.input.shape[0] != self.input.shape[1]:
            raise ValueError("input: size: the field of view is a square; give one number")
        return self

    def specification(self) -> dict[str, Any]:
        """Give everything that decides the masks, as plain values."""
        return {**self.model_dump(mode="json", exclude_none=True), "file": self.file.name, "sha256": self.sha256.lower()}


def read_networks(files: Sequence[Path]) -> tuple[Network, ...]:
    """Read descriptions of networks, and compare their models with the digests there; nothing is run.

    Args:
        files: YAML files.

    Returns:
        The networks, with the paths of their models from here.

    Raises:
        UserError: where a file is wrong, a model is missing or isn't the one that it describes, or two mark the same.
    """
    networks: list[Network] = []
    for file in files:
        network = read_yaml(file, Network)
        network = network.model_copy(update={"file": (file.parent / network.file).resolve()})
        other = next((n for n in networks if n.segments == network.segments), None)
        if other is not None:
            raise UserError(f"--model {file}: segments {network.segments}, as {other.file.name} does; give one")
        if not network.file.is_file():
            raise UserError(f"{file}: its model {network.file} is missing")
        digest = sha256_file(network.file)
        if digest != network.sha256.lower():
            said = f"its SHA-256 is {digest[:12]}..., there {network.sha256[:12].lower()}..."
            raise UserError(f"{network.file}: is not the model that {file} describes ({said})")
        networks.append(network)
    return tuple(networks)


def try_networks(networks: Sequence[Network]) -> None:
    """Run each network on a black image, so that what is wrong with it shows before the work begins.

    Raises:
        UserError: where onnxruntime isn't installed, or a model can't be run or doesn't give what its file says.
    """
    for network in networks:
        Runner(network).marks(np.zeros((*network.input.shape, 3), np.uint8))


@dataclass(frozen=True)
class _Session:
    run: Any
    input_name: str
    type: type[Any]
    output_name: str


class Runner:
    """A network that is ready to run, in one thread.

    Args:
        network: as its file describes it.

    Raises:
        UserError: where its model can't be loaded or doesn't have the input and output that were described.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._session = _load(network)

    def masks(self, rgb: np.ndarray) -> Masks:
        """Mark a photograph.

        Args:
            rgb: (H, W, 3) uint8.

        Returns:
            Masks of (H, W), of the kind that the network segments; none where it sees the field of view and there is none.

        Raises:
            UserError: where the network fails or gives NaN.
        """
        if self.network.sees == "photograph":
            size = self.network.input.shape
            shrinking = rgb.shape[0] > size[0]
            way = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
            seen = rgb if rgb.shape[:2] == size else cv2.resize(rgb, size[::-1], interpolation=way)
            marked = {mark: _resized(above, rgb.shape[:2]) for mark, above in self.marks(seen).items()}
        else:
            found = field.find_field(rgb)
            if found is None:
                return Masks()
            seen, _ = field.normalise(rgb, found, self.network.input.shape[0])
            marked = {mark: _placed(above, rgb.shape[:2], found) for mark, above in self.marks(seen).items()}
        if self.network.segments != "artery_vein":
            return Masks(**marked)
        crossing = marked.get("crossing")
        artery, vein = (marked[m] if crossing is None else marked[m] | crossing for m in ("artery", "vein"))
        return Masks(artery=artery, vein=vein)

    def marks(self, seen: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network.

        Args:
            seen: (H, W, 3) uint8, of the input's size.

        Returns:
            Mark -> (h, w) float32, how far each pixel is above the threshold: 0 and more where it is marked.

        Raises:
            UserError: where the network fails, or its output isn't what its file says.
        """
        output = self._output(self._run(seen))
        described = self.network.output
        wanted = {mark: described.channels(mark) for mark in _MARKS[self.network.segments] if described.channels(mark)}
        if np.isnan(output).any():
            raise UserError(f"{self.network.file}: gives NaN")
        if described.values == "labels":
            return {mark: np.isin(output[0], classes) - np.float32(0.5) for mark, classes in wanted.items()}
        highest = max(c for channels in wanted.values() for c in channels)
        if highest >= len(output):
            raise UserError(f"{self.network.file}: its output has {len(output)} channel(s), counted from 0; {highest} is not one of them")
        if described.values == "softmax" and len(output) == 1:
            raise UserError(
                f"{self.network.file}: softmax has a channel for each class, and its output has one; sigmoid or logits, perhaps"
            )
        if described.values == "softmax" and described.threshold is None:
            largest = output.argmax(axis=0)
            return {mark: np.isin(largest, classes) - np.float32(0.5) for mark, classes in wanted.items()}
        limit = described.threshold or 0.5
        if described.values == "logits":  # the sigmoid reaches the threshold where the score reaches its logit
            scores = np.clip(output, -50, 50) - np.float32(np.log(limit / (1 - limit)))
            return {mark: scores[channels].max(axis=0) for mark, channels in wanted.items()}
        if output.min() < -1e-3 or output.max() > 1 + 1e-3:
            said = f"its output goes from {output.min():.3g} to {output.max():.3g}, and values: {described.values} are probabilities"
            raise UserError(f"{self.network.file}: {said}; scores are logits, or softmax without a threshold")
        together = np.sum if described.values == "softmax" else np.max
        return {mark: together(output[channels], axis=0) - np.float32(limit) for mark, channels in wanted.items()}

    def _run(self, seen: np.ndarray) -> np.ndarray:
        described = self.network.input
        chosen = {"RGB": [0, 1, 2], "BGR": [2, 1, 0], "green": [1]}[described.channels]
        pixels: np.ndarray = seen[:, :, chosen].astype(np.float32) / np.float32(described.scale)
        pixels = (pixels - np.asarray(described.mean, np.float32)) / np.asarray(described.sd, np.float32)
        pixels = pixels.transpose(2, 0, 1) if described.layout == "NCHW" else pixels
        if self._session.type is np.uint8:
            pixels = np.clip(np.rint(pixels), 0, 255)
        feed = {self._session.input_name: np.ascontiguousarray(pixels[None]).astype(self._session.type)}
        try:
            return np.asarray(self._session.run([self._session.output_name], feed)[0])
        except Exception as error:  # onnxruntime's errors have no class in common
            raise UserError(f"{self.network.file}: can't be run on {pixels.shape} ({_short(error)})") from None

    def _output(self, output: np.ndarray) -> np.ndarray:
        """Bring the output to (channels, h, w), and labels to (1, h, w)."""
        labels = self.network.output.values == "labels"
        if output.dtype.kind not in "fiub":
            raise UserError(f"{self.network.file}: its output holds {output.dtype}, no numbers")
        expected = "(1, H, W) or with a channel" if labels else "(1, C, H, W)" if self.network.input.layout == "NCHW" else "(1, H, W, C)"
        shape = output.shape
        if output.ndim == 4 and shape[0] == 1:
            planes = output[0] if self.network.input.layout == "NCHW" else output[0].transpose(2, 0, 1)
        elif output.ndim == 3 and shape[0] == 1:
            planes = output
        else:
            raise UserError(f"{self.network.file}: its output has the shape {shape}, expected {expected}")
        if min(planes.shape) < 1 or min(planes.shape[1:]) < 8 or (labels and len(planes) != 1):
            raise UserError(f"{self.network.file}: its output has the shape {shape}, expected {expected} with 8 pixels or more a side")
        return planes if labels else planes.astype(np.float32)


def _resized(above: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bring to a size and mark: compared after resizing, an edge lies where the numbers themselves cross the threshold."""
    if above.shape != shape:
        shrinking = above.shape[0] > shape[0]
        above = cv2.resize(above, shape[::-1], interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return (above >= 0).astype(np.uint8)


def _placed(above: np.ndarray, shape: tuple[int, int], found: field.Field) -> np.ndarray:
    """Put what was marked in the square around the field back to its place in the photograph."""
    left, top, right, bottom = field.square_of(found)
    marked = _resized(above, (bottom - top, right - left))
    whole = np.zeros(shape, np.uint8)
    y0, y1, x0, x1 = max(top, 0), min(bottom, shape[0]), max(left, 0), min(right, shape[1])
    whole[y0:y1, x0:x1] = marked[y0 - top : y1 - top, x0 - left : x1 - left]
    return whole


def add_masks(given: Masks, rgb: np.ndarray, networks: Sequence[Network]) -> Masks:
    """Add what networks mark to what is known already; a kind of mask that is given is kept, and its network not run.

    Args:
        given: masks of the photograph, of any size.
        rgb: (H, W, 3) uint8.
        networks: from `read_networks`.

    Raises:
        UserError: where a network fails.
    """
    known = {"vessels": given.vessels is not None, "artery_vein": given.artery is not None, "disc": given.disc is not None}
    for network in networks:
        if not known[network.segments]:
            marked = _runner(network.model_dump_json()).masks(rgb)
            given = replace(given, **{name: mask for name, mask in vars(marked).items() if mask is not None})
    return given


@lru_cache(maxsize=8)
def _runner(network: str) -> Runner:
    """Load a network once a process."""
    return Runner(Network.model_validate_json(network))


def _load(network: Network) -> _Session:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f'{network.file}: running a model needs a further package: pip install "evenfooting[onnx]"') from None
    try:
        content = network.file.read_bytes()
    except OSError as error:
        raise UserError(f"{network.file}: can't be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != network.sha256.lower():  # what was compared is what is run
        raise UserError(f"{network.file}: changed while it was used")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Weights in a second file are not covered by the digest: they are looked for where there is nothing.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no class in common
        if "external data" in str(error).lower():
            raise UserError(
                f"{network.file}: keeps its weights in a second file; save it as one file, so that its SHA-256 covers them"
            ) from None
        raise UserError(f"{network.file}: not an ONNX model that can be run ({_short(error)})") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        raise UserError(f"{network.file}: has {len(inputs)} inputs, expected one image")
    shape, kind = inputs[0].shape, inputs[0].type
    if kind not in _TYPES:
        raise UserError(f"{network.file}: its input is a {kind}, expected one of {', '.join(_TYPES)}")
    height, width = network.input.shape
    depth = network.input.depth
    wanted = (1, depth, height, width) if network.input.layout == "NCHW" else (1, height, width, depth)
    if len(shape) != 4 or any(isinstance(there, int) and there != want for there, want in zip(shape, wanted, strict=True)):
        raise UserError(f"{network.file}: its input has the shape {_shape(shape)}, the YAML file says {_shape(wanted)}")
    names = [output.name for output in outputs]
    name = network.output.name or (names[0] if len(names) == 1 else None)
    if name is None or name not in names:
        what = f"no output '{name}'" if name else "several outputs, and none is named under output: name"
        raise UserError(f"{network.file}: has {what}; there are: {', '.join(names[:8])}")
    return _Session(session.run, inputs[0].name, _TYPES[kind], name)


def _shape(shape: Sequence[Any]) -> str:
    return f"({', '.join(str(s) if isinstance(s, int) else '?' for s in shape)})"


def _short(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said[:160] + ("..." if len(said) > 160 else "")
