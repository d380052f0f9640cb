"""What a backbone is, said from its files where it has any: nothing is built, and for a run torch isn't needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate import UserError, read_json, sha256_file

WEIGHTS, CONFIG = "backbone.safetensors", "config.json"


def describe_backbone(spec: str | Path) -> dict[str, Any]:
    """Describe a backbone as `pretrain.load_backbone` does, by hashing its file instead of loading it.

    Args:
        spec: as for `load_backbone`. ``timm:NAME`` and ``random:NAME`` have no file of their own and are loaded.

    Returns:
        See `load_backbone`.

    Raises:
        UserError: where there is nothing of this name, the run is unfinished, or weights cannot be had.
    """
    text = str(spec)
    if is_named(text):
        from pretrain.backbone import load_backbone

        return load_backbone(text)[1]
    if is_file(text):
        from pretrain.released import describe_released

        return {**describe_released(text), "source": text}
    return {**describe_run(Path(spec)), "source": text}


def is_named(spec: str) -> bool:
    """Say whether a backbone is timm's, trained or untrained, and not a file or folder."""
    source, _, name = spec.partition(":")
    return source in ("timm", "random") and bool(name)


def is_file(spec: str) -> bool:
    """Say whether a backbone is a file of weights: ``FILE``, or ``FILE@PIXELS``."""
    return Path(spec).is_file() or Path(spec.rpartition("@")[0]).is_file()


def describe_run(folder: Path) -> dict[str, Any]:
    """Describe the backbone of a run's folder; see `load_backbone`."""
    config, weights = read_config(folder), weights_of(folder)
    if not weights.exists():
        raise UserError(f"{weights}: missing")
    digest = read_json(folder / "run.json", "a run")["shards"]["digest"] if (folder / "run.json").exists() else None
    return {**described(config), "sha256": sha256_file(weights), "shards_digest": digest}


def weights_of(folder: Path) -> Path:
    """Give the weights file of a run's folder, or of one that was exported."""
    return next((folder / name for name in (WEIGHTS, "model.safetensors") if (folder / name).exists()), folder / WEIGHTS)


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a finished run's folder, or of one that was exported.

    Raises:
        UserError: where there is none, or the run is not finished.
    """
    if not folder.exists():
        raise UserError(
            f"{folder}: no such run; give a run's folder, a checkpoint's file, timm:NAME (pretrained weights) or random:NAME (untrained)"
        )
    if (folder / "run.json").exists() and read_json(folder / "run.json", "a run").get("status") != "finished":
        raise UserError(f"{folder}: this run is not finished; run the same pretrain command again, it resumes")
    config = read_json(folder / CONFIG, "a run's folder")
    if missing := {"architecture", "model_args", "pretrained_cfg"} - config.keys():
        raise UserError(f"{folder / CONFIG}: not a backbone's configuration ({', '.join(sorted(missing))} missing)")
    return config


def described(config: dict[str, Any]) -> dict[str, Any]:
    """Give architecture, input_size, mean and std from what ``config.json`` holds."""
    cfg = config["pretrained_cfg"]
    return {"architecture": config["architecture"], **{k: list(cfg[k]) for k in ("input_size", "mean", "std")}}
