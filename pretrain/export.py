"""Taking a backbone out of its run: a folder that timm and the Hugging Face hub understand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from curate import UserError, partial_of, read_json, sha256_file, writing
from pretrain.description import CONFIG, WEIGHTS


def export_backbone(spec: str | Path, out: str | Path) -> dict[str, Any]:
    """Write a backbone as a model folder: ``model.safetensors``, ``config.json`` and the stub of a model card.

    Args:
        spec: a finished run's folder, whose weights are copied; or whatever else `pretrain.load_backbone` loads, as a released
            checkpoint's file, whose weights are written under timm's names.
        out: a folder that is not there yet.

    Returns:
        out, and the SHA-256 of the weights.

    Raises:
        UserError: where the run is not finished, its weights are not those that it wrote, there is no such backbone or timm
            has no architecture of its shape, or `out` is there.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: exists already; choose another folder")
    partial = partial_of(out)
    shutil.rmtree(partial, ignore_errors=True)
    is_run = (Path(spec) / "run.json").exists()
    card, sha256 = _copy_run(Path(spec), partial) if is_run else _write_loaded(str(spec), partial, out.name)
    with writing(partial / "README.md", "w") as file:
        file.write(card)
    os.replace(partial, out)
    return {"out": str(out), "backbone_sha256": sha256}


def _copy_run(run: Path, to: Path) -> tuple[str, str]:
    about = read_json(run / "run.json", "a run")
    if about.get("status") != "finished":
        raise UserError(f"{run}: this run is not finished; run the same pretrain command again, it resumes")
    if not (run / WEIGHTS).exists() or sha256_file(run / WEIGHTS) != about["result"]["backbone_sha256"]:
        raise UserError(f"{run / WEIGHTS}: missing, or changed since the run wrote it")
    to.mkdir(parents=True)
    shutil.copyfile(run / WEIGHTS, to / "model.safetensors")
    shutil.copyfile(run / CONFIG, to / CONFIG)
    return model_card(about), about["result"]["backbone_sha256"]


def _write_loaded(spec: str, to: Path, name: str) -> tuple[str, str]:
    import timm

    from pretrain.backbone import load_backbone, write_config
    from pretrain.checkpoint import write_safetensors

    model, about = load_backbone(spec)
    architecture, size = about["architecture"].partition(".")[0], about["input_size"][-1]
    arguments = {"img_size": size, "global_pool": model.global_pool}
    try:
        plain = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
        plain.load_state_dict(model.state_dict(), strict=True)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{spec}: timm has no architecture of exactly this shape ({about['architecture']}: {reason})") from None
    to.mkdir(parents=True)
    write_safetensors(to / "model.safetensors", model.state_dict())
    write_config(
        to, model, architecture=architecture, arguments=arguments, size=size, mean=about["mean"], std=about["std"],
        tag="converted", description=f"converted from a file with SHA-256 {about['sha256']}",
    )  # fmt: skip
    return converted_card(name, about), sha256_file(to / "model.safetensors")


_HEAD = """---
library_name: timm
tags: [image-feature-extraction, timm]
---
# {name}
"""
_USE = """
```python
import timm
model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True)
```
"""


def converted_card(name: str, about: dict[str, Any]) -> str:
    """Write the stub of a model card for weights of others: where they came from, and no more."""
    return f"""{_HEAD.format(name=name)}
{about["architecture"]} at {about["input_size"][-1]} px: the weights of `{Path(about["source"]).name}`, under timm's names.

| | |
|---|---|
| file it was made from (SHA-256) | `{about["sha256"]}` |
{_USE}
Who trained it, on whose photographs and under which licence, is its makers' to say: add it here before you pass it on.
"""


def model_card(about: dict[str, Any]) -> str:
    """Write the stub of a model card from a finished run's ``run.json``: what the run knows, and no more."""
    recipe, result, shards, made_by = about["recipe"], about["result"], about["shards"], about["made_by"]
    software = ", ".join(f"{name} {about['environment'][name]}" for name in ("torch", "timm"))
    return f"""{_HEAD.format(name=about["name"])}
{recipe["model"]["architecture"]} at {recipe["data"]["size"]} px, pre-trained by {recipe["method"].upper()} without labels.

| | |
|---|---|
| recipe | {recipe["name"]} |
| shard set | {shards["name"]} |
| shard set digest | `{shards["digest"]}` |
| images | {"streamed, not counted" if shards["images"] is None else format(shards["images"], ",")} |
| samples seen | {result["samples_seen"]:,} in {result["steps"]:,} steps of {recipe["optim"]["batch"]:,} |
| seed | {made_by["seed"]} |
| weights (SHA-256) | `{result["backbone_sha256"]}` |
| made by | {made_by["tool"]} {made_by["version"]}, {software} |
{_USE}
Whose photographs these were, and for whom the model works how well, is the data card's to say: build one with `cards build`.
"""
