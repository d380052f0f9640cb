"""Backbones: the result of a run, and any timm model, behind one function."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from curate import UserError, nearest, read_json, sha256_file, write_json
from pretrain.checkpoint import read_safetensors, write_safetensors

if TYPE_CHECKING:
    from pretrain.recipe import Recipe

WEIGHTS, CONFIG = "backbone.safetensors", "config.json"


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
    size = recipe.data.size
    write_safetensors(folder / WEIGHTS, backbone.state_dict())
    pretrained_cfg = {
        "tag": f"evenfooting_{recipe.method}",
        "custom_load": False,
        "input_size": [3, size, size],
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": list(recipe.data.mean),
        "std": list(recipe.data.std),
        "num_classes": 0,
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "description": f"{recipe.method.upper()} run '{name}' with recipe '{recipe.name}'",
    }
    config = {
        "architecture": recipe.model.architecture,
        "num_classes": 0,
        "num_features": backbone.num_features,
        "global_pool": backbone.global_pool,
        "model_args": {**recipe.model.arguments, "img_size": size},
        "pretrained_cfg": pretrained_cfg,
    }
    write_json(folder / CONFIG, config)
    return sha256_file(folder / WEIGHTS)


def load_backbone(spec: str | Path, *, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Load a backbone for making features.

    Args:
        spec: a run folder; ``timm:NAME``, pretrained weights through timm (downloaded where not cached);
            ``random:NAME`` or ``random:RUN``, the same architecture untrained (seed 0), as a baseline.
        device: where it goes.

    Returns:
        The timm model in evaluation mode, without a head, and: architecture (timm's name), sha256 (of the weights
        file, or of the weights as safetensors), input_size ([3, H, W]), mean, std, source (`spec`), shards_digest
        (of the run's shard set, or None).

    Raises:
        UserError: where there is nothing of this name, the run is unfinished, or weights cannot be had.
    """
    text = str(spec)
    source, _, name = text.partition(":")
    if source == "timm" and name:
        model, info = _from_timm(name)
    elif source == "random" and name:
        model, info = _untrained(name)
    else:
        model, info = _from_run(Path(spec))
    return model.eval().to(device), {**info, "source": text}


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.exists():
        raise UserError(f"{folder}: no such run; give a run's folder, timm:NAME (pretrained weights) or random:NAME (untrained)")
    if (folder / "run.json").exists() and read_json(folder / "run.json", "a run").get("status") != "finished":
        raise UserError(f"{folder}: this run is not finished; run the same pretrain command again, it resumes")
    config = read_json(folder / CONFIG, "a run's folder")
    if missing := {"architecture", "model_args", "pretrained_cfg"} - config.keys():
        raise UserError(f"{folder / CONFIG}: not a backbone's configuration ({', '.join(sorted(missing))} missing)")
    return config


def _from_run(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    config = _read_config(folder)
    weights = next((folder / name for name in (WEIGHTS, "model.safetensors") if (folder / name).exists()), folder / WEIGHTS)
    model = build_backbone(config["architecture"], config["model_args"], seed=0)
    try:
        model.load_state_dict(read_safetensors(weights), strict=True)
    except RuntimeError as error:
        raise UserError(f"{weights}: does not fit {config['architecture']} ({' '.join(str(error).split())[:200]})") from None
    digest = read_json(folder / "run.json", "a run")["shards"]["digest"] if (folder / "run.json").exists() else None
    return model, {**_described(config), "sha256": sha256_file(weights), "shards_digest": digest}


def _described(config: dict[str, Any]) -> dict[str, Any]:
    cfg = config["pretrained_cfg"]
    return {"architecture": config["architecture"], **{k: list(cfg[k]) for k in ("input_size", "mean", "std")}}


def _untrained(name: str) -> tuple[nn.Module, dict[str, Any]]:
    if (Path(name) / CONFIG).exists():
        config = _read_config(Path(name))
        model = build_backbone(config["architecture"], config["model_args"], seed=0)
        described = _described(config)
    else:
        model = build_backbone(name, {}, seed=0)
        described = _data_of(name, model)
    return model, {**described, "sha256": _digest(model), "shards_digest": None}


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
