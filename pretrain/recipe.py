"""Recipes: everything that decides what a training run makes, in one file of values.

A recipe is a YAML file of this package, or the user's own. Any field can be set from the command line by its
dotted name; a field that does not exist stops the command with the nearest name that does.
"""

from __future__ import annotations

import copy
import re
import reprlib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curate import UserError, nearest

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
METHODS = ("mae", "dinov2")


class _Loader(yaml.SafeLoader):
    """YAML whose numbers are those of YAML 1.2: PyYAML takes 1e-5 for a text, as YAML 1.1 did."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class About(_Section):
    """What a reader should know before spending anything."""

    source: str
    samples: str
    cost: str
    result: str
    verified: str


class Model(_Section):
    """The encoder: a timm model name and the keyword arguments it is made with."""

    architecture: str
    arguments: dict[str, Any] = {}


class MaeSettings(_Section):
    """Masked autoencoder (He et al. 2022): share of patches removed, shape of the decoder, target."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    decoder_depth: Annotated[int, Field(ge=1)] = 8
    decoder_width: Annotated[int, Field(ge=4, multiple_of=4)] = 512
    decoder_heads: Annotated[int, Field(ge=1)] = 16
    normalise_target: bool = True


class HeadSettings(_Section):
    """A projection head: width of its two hidden layers, width of what is normalised, number of prototypes."""

    hidden: Annotated[int, Field(ge=1)] = 2048
    bottleneck: Annotated[int, Field(ge=1)] = 256
    prototypes: Annotated[int, Field(ge=2)] = 65536


class Dinov2Settings(_Section):
    """DINOv2 (Oquab et al. 2024): heads, weights of the three losses, masks, and what changes over the run.

    What happens early in a run is a share of its length, so that a run of another length keeps its shape: the teacher's
    temperature rises over the first `temperature_warmup` of it, the heads' last layer stands still for the first
    `freeze_last_layer` of it. The teacher's momentum goes from `momentum` to `momentum_end` on half a cosine.
    """

    dino_head: HeadSettings = HeadSettings()
    ibot_head: HeadSettings = HeadSettings()
    dino_weight: Annotated[float, Field(ge=0)] = 1.0
    ibot_weight: Annotated[float, Field(ge=0)] = 1.0
    koleo_weight: Annotated[float, Field(ge=0)] = 0.1
    mask_share: Share = 0.5
    mask_ratio: tuple[Share, Share] = (0.1, 0.5)
    student_temperature: Positive = 0.1
    teacher_temperature: tuple[Positive, Positive] = (0.04, 0.07)
    temperature_warmup: Share = 0.3
    momentum: Share = 0.994
    momentum_end: Share = 1.0
    freeze_last_layer: Share = 0.01
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Dinov2Settings:
        if self.mask_ratio[0] > self.mask_ratio[1]:
            raise ValueError("mask_ratio is [smallest, largest]")
        return self


class LocalCrops(_Section):
    """The small crops that only the student sees: how many of a photograph, side in pixels, share of the area."""

    crops: Annotated[int, Field(ge=0)] = 8
    size: Annotated[int, Field(ge=8)] = 98
    crop_area: tuple[Share, Share] = (0.05, 0.32)

    @model_validator(mode="after")
    def _ordered(self) -> LocalCrops:
        if self.crop_area[0] > self.crop_area[1] or self.crop_area[0] == 0:
            raise ValueError("crop_area is [smallest, largest], above 0")
        return self


class Colour(_Section):
    """Changes of colour: strengths of brightness, contrast, saturation and hue, and how likely each change is.

    `blur` and `solarise` are the probabilities of the first global crop, the second one, and the local crops. The blur of the
    official code comes out as one minus what its configuration says, never on the first crop and 0.9 on the
    second; the released models were trained that way, so these are the numbers here.
    """

    jitter: tuple[Share, Share, Share, Annotated[float, Field(ge=0, le=0.5)]] = (0.4, 0.4, 0.2, 0.1)
    jitter_probability: Share = 0.8
    grey: Share = 0.2
    blur: tuple[Share, Share, Share] = (0.0, 0.9, 0.5)
    solarise: tuple[Share, Share, Share] = (0.0, 0.2, 0.0)
    solarise_threshold: Annotated[int, Field(ge=0, le=255)] = 128


class Data(_Section):
    """What a view is: side in pixels, share of the area kept by the crop, aspect, flip, channel statistics.

    With local crops, `size` and `crop_area` are those of the global ones; aspect and flip are the same for all.
    """

    size: Annotated[int, Field(ge=8)]
    crop_area: tuple[Share, Share] = (0.2, 1.0)
    crop_aspect: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.5
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    max_damaged: Share = 0.01
    local: LocalCrops | None = None
    colour: Colour | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Data:
        if self.crop_area[0] > self.crop_area[1] or self.crop_aspect[0] > self.crop_aspect[1] or self.crop_area[0] == 0:
            raise ValueError("crop_area and crop_aspect are [smallest, largest], above 0")
        return self


class Optim(_Section):
    """Length, batch and AdamW. The peak learning rate is `lr`, or `base_lr` x batch / 256 where `lr` is not given.

    Weight decay goes from `weight_decay` to `weight_decay_end` on half a cosine, where that is given. The gradient of each
    part of the method is clipped to the norm `clip`, where that is given. The rate of a backbone's layer is the
    schedule's times `layer_decay` for every layer above it, and for the patch embedding times `patch_embed_lr` too.
    """

    samples: Annotated[int, Field(ge=1)]
    warmup_samples: Annotated[int, Field(ge=0)]
    batch: Annotated[int, Field(ge=1)]
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    base_lr: Positive = 1.5e-4
    lr: Positive | None = None
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Share, Share] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    weight_decay_end: Annotated[float, Field(ge=0)] | None = None
    clip: Positive | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    patch_embed_lr: Annotated[float, Field(ge=0)] = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def peak_lr(self) -> float:
        """The highest learning rate of the schedule."""
        return self.lr if self.lr is not None else self.base_lr * self.batch / 256

    @property
    def steps(self) -> int:
        """Optimiser steps: whole batches nearest to `samples`, at least one."""
        return max(1, round(self.samples / self.batch))


class Log(_Section):
    """How often, in steps, something is written down. Never changes the weights."""

    every: Annotated[int, Field(ge=1)] = 10
    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    pictures_every: Annotated[int, Field(ge=1)] = 5000
    keep_last: Annotated[int, Field(ge=1)] = 2


class Engine(_Section):
    """How the work is done. Changes speed, memory and the last digits, not what is trained, so a run may go on with another.

    `compile`: translate each transformer block (None: on a GPU). `activation_checkpointing`: keep only what goes into a block and
    compute the rest again on the way back. `tf32`: float32 products on a GPU with 10 bits of mantissa. `fsdp`: share out weights,
    gradients and moments to the processes.
    """

    compile: bool | None = None
    activation_checkpointing: bool = False
    tf32: bool = True
    fsdp: bool = False


class Recipe(_Section):
    """A whole recipe."""

    name: str
    method: Literal["mae", "dinov2"]
    about: About
    model: Model
    mae: MaeSettings | None = None
    dinov2: Dinov2Settings | None = None
    data: Data
    optim: Optim
    log: Log = Log()
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _of_its_method(self) -> Recipe:
        sections = {"mae": self.mae, "dinov2": self.dinov2, "data.local": self.data.local, "data.colour": self.data.colour}
        its_own = {"mae": {"mae"}, "dinov2": {"dinov2", "data.local", "data.colour"}}[self.method]
        for name, section in sections.items():
            if section is None and name in its_own:
                raise ValueError(f"a recipe of method {self.method} needs the section {name}")
            if section is not None and name not in its_own:
                raise ValueError(f"a recipe of method {self.method} has no section {name}")
        return self

    def decisive(self) -> dict[str, Any]:
        """Give the fields that decide the weights: all but the texts, the logging and the engine."""
        return self.model_dump(mode="json", exclude={"about", "log", "engine"})


def recipe_names() -> list[str]:
    """List the recipes that come with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in files("pretrain").joinpath("recipes").iterdir() if f.name.endswith(".yaml"))


def read_recipe(recipe: str, overrides: list[str] | tuple[str, ...] = (), *, samples: int | None = None) -> Recipe:
    """Read a recipe and apply what the user set.

    Args:
        recipe: a name from `recipe_names`, or the path of a YAML file.
        overrides: ``"dotted.field=value"`` each, applied in order; values are YAML.
        samples: replaces ``optim.samples``; the warm-up keeps its share of the length.

    Returns:
        The validated recipe.

    Raises:
        UserError: for an unknown recipe or field, with the nearest name, or a value that does not fit.
    """
    values, where = _load(recipe)
    values = copy.deepcopy(values)
    for override in overrides:
        _override(values, override)
    if samples is not None and isinstance(values.get("optim"), dict):
        optim = values["optim"]
        share = optim.get("warmup_samples", 0) / max(1, optim.get("samples", 1))
        optim.update(samples=samples, warmup_samples=round(samples * share))
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error)}") from None


def _load(recipe: str) -> tuple[dict[str, Any], str]:
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{recipe}: no such recipe file")
        text, where = path.read_text(encoding="utf-8"), recipe
    elif recipe in recipe_names():
        text, where = files("pretrain").joinpath("recipes", f"{recipe}.yaml").read_text(encoding="utf-8"), f"recipe {recipe}"
    else:
        raise UserError(f"recipe '{recipe}' is not known (or give the path of a .yaml file){nearest(recipe, recipe_names())}")
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: a recipe is a mapping of fields")
    return values, where


def _override(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise UserError(f"--set {override}: write it as field=value, for example --set optim.lr=1e-3")
    *sections, last = dotted.split(".")
    here: Any = values
    for section in sections:
        here = here.setdefault(section, {}) if isinstance(here, dict) else None
        if here is None:
            break
    if not isinstance(here, dict):
        raise UserError(f"--set {override}: {'.'.join(sections)} has no fields of its own")
    try:
        here[last] = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not YAML") from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        *sections, unknown = location
        return f"no field '{'.'.join(location)}'{nearest(unknown, _fields_at(sections))}"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    value = first.get("input")  # written short: a few aliases of YAML can stand for millions of values
    given = "" if first["type"] == "missing" else f", given {(value if isinstance(value, str) else reprlib.repr(value))[:60]}"
    return f"field '{'.'.join(location)}': {first['msg'][0].lower()}{first['msg'][1:]}{given}{more}"


def _fields_at(sections: list[str]) -> list[str]:
    level: type[BaseModel] = Recipe
    for section in sections:
        inner = level.model_fields[section].annotation if section in level.model_fields else None
        inner = next((a for a in get_args(inner) if a is not type(None)), inner)  # a section that may be left out
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        level = inner
    return list(level.model_fields)
