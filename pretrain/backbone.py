"""Backbones: the result of a run, and any timm model, behind one function."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from curate import UserError, nearest, sha256_file, write_json
from pretrain.checkpoint import read_safetensors, write_safetensors
from pretrain.description import CONFIG, WEIGHTS, describe_run, described, is_file, read_config, weights_of

if TYPE_CHECKING:
    from pretrain.recipe import Recipe


def build_backbone(architecture: str, arguments: dict[str, Any], *, seed: int) -> nn.Module:
    """Make an untrained timm model without a head, the same one for the same seed.

    Args:
        architecture: name in timm.
        arguments: keyword arguments of the model.
        seed: of the initial weights.

    Raises:
        UserError: for an unknown architecture or argument.
    """
    import timm

    if not timm.is_model(architecture):
        raise UserError(f"architecture '{architecture}' is not in timm {timm.__version__}{nearest(architecture, timm.list_models())}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(architecture, pretrained=False, **{"num_classes": 0, **arguments})
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise UserError(f"architecture '{architecture}' with {json.dumps(arguments)}: {' '.join(str(error).split())}") from None


def write_backbone(folder: Path, backbone: nn.Module, recipe: Recipe, *, name: str) -> str:
    """Write ``backbone.safetensors`` and the ``config.json`` from which timm builds the same model.

    Args:
        folder: of the run.
        backbone: trained; its ``state_dict`` is written as it is.
        recipe: that made it.
        name: of the run.

    Returns:
        SHA-256 of the weights file.
    """
    write_safetensors(folder / WEIGHTS, backbone.state_dict())
    size = recipe.data.size
    write_config(
        folder, backbone, architecture=recipe.model.architecture, arguments={**recipe.model.arguments, "img_size": size}, size=size,
        mean=list(recipe.data.mean), std=list(recipe.data.std), tag=recipe.method,
        description=f"{recipe.method.upper()} run '{name}' with recipe '{recipe.name}'",
    )  # fmt: skip
    return sha256_file(folder / WEIGHTS)


def write_config(
    folder: Path,
    backbone: Any,
    *,
    architecture: str,
    arguments: dict[str, Any],
    size: int,
    mean: list[float],
    std: list[float],
    tag: str,
    description: str,
) -> None:
    """Write the ``config.json`` from which timm builds a backbone.

    Args:
        folder: where it goes.
        backbone: a timm model.
        architecture: timm's name of it.
        arguments: keyword arguments that it is made with.
        size: of the images, pixels.
        mean: of the channels, for values in 0 ... 1.
        std: likewise.
        tag: how it was made, in a word.
        description: in a sentence.
    """
    pretrained_cfg = {
        "tag": f"evenfooting_{tag}",
        "custom_load": False,
        "input_size": [3, size, size],
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": mean,
        "std": std,
        "num_classes": 0,
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "description": description,
    }
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": backbone.num_features,
        "global_pool": backbone.global_pool,
        "model_args": arguments,
        "pretrained_cfg": pretrained_cfg,
    }
    write_json(folder / CONFIG, config)


def load_backbone(spec: str | Path, *, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Load a backbone for making features.

    Args:
        spec: a run folder; the file of a released checkpoint (see `pretrain.released`), or ``FILE@PIXELS`` to see images
            at another size; ``timm:NAME``, pretrained weights through timm (downloaded where not cached);
            ``random:NAME`` or ``random:RUN``, the same architecture untrained (seed 0), as a baseline.
        device: where it goes.

    Returns:
        The timm model in evaluation mode, without a head, and: architecture (timm's name), sha256 (of the weights
        file, or of the weights as safetensors), input_size ([3, H, W]), mean, std, source (`spec`), shards_digest
        (of the run's shard set, or None).

    Raises:
        UserError: where there is nothing of this name, the run is unfinished, a file doesn't hold exactly a backbone that
            is known, or weights cannot be had.
    """
    text = str(spec)
    source, _, name = text.partition(":")
    if source == "timm" and name:
        model, info = _from_timm(name)
    elif source == "random" and name:
        model, info = _untrained(name)
    elif is_file(text):
        from pretrain.released import load_released

        model, info = load_released(text)
    else:
        model, info = _from_run(Path(spec))
    return model.eval().to(device), {**info, "source": text}


def _from_run(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    config, weights = read_config(folder), weights_of(folder)
    model = build_backbone(config["architecture"], config["model_args"], seed=0)
    try:
        model.load_state_dict(read_safetensors(weights), strict=True)
    except RuntimeError as error:
        raise UserError(f"{weights}: does not fit {config['architecture']} ({' '.join(str(error).split())[:200]})") from None
    return model, describe_run(folder)


def _untrained(name: str) -> tuple[nn.Module, dict[str, Any]]:
    if (Path(name) / CONFIG).exists():
        config = read_config(Path(name))
        model = build_backbone(config["architecture"], config["model_args"], seed=0)
        data = described(config)
    else:
        model = build_backbone(name, {}, seed=0)
        data = _data_of(name, model)
    return model, {**data, "sha256": _digest(model), "shards_digest": None}


def _from_timm(name: str) -> tuple[nn.Module, dict[str, Any]]:
    import timm

    base = name.partition(".")[0]
    if not timm.is_model(base):
        raise UserError(f"architecture '{base}' is not in timm {timm.__version__}{nearest(base, timm.list_models())}")
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # whatever the network, the hub or the cache does wrong: there are no weights
        raise UserError(
            f"timm:{name}: pretrained weights cannot be had ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
        ) from None
    return model, {**_data_of(name, model), "sha256": _digest(model), "shards_digest": None}


def _data_of(name: str, model: nn.Module) -> dict[str, Any]:
    import timm

    data = timm.data.resolve_model_data_config(model)
    return {"architecture": name, **{k: list(data[k]) for k in ("input_size", "mean", "std")}}


def _digest(model: nn.Module) -> str:
    from safetensors.torch import save

    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(save(tensors, metadata={"format": "pt"})).hexdigest()
