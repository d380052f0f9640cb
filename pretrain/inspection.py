"""What a file or folder of weights is, before anybody trusts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate import UserError, read_json, sha256_file
from pretrain.description import CONFIG, described, read_config, weights_of


def inspect_weights(path: str | Path) -> dict[str, Any]:
    """Say what a checkpoint, a run or a released file is.

    Args:
        path: a run's folder, one of its checkpoints, an exported folder, or a file of weights.

    Returns:
        kind (``run``, ``checkpoint``, ``backbone`` or ``file``), path, and what there is to say of that kind: architecture,
        input_size, mean, std, sha256, parameters, tensors; of a run and its checkpoints recipe, method, step, steps, seed, status,
        shards; of a file what `pretrain.released.examine_file` gives.

    Raises:
        UserError: where there is nothing, or nothing that can be read as weights.
    """
    found = Path(path)
    if found.is_file():
        from pretrain.released import examine_file

        return {"kind": "file", "path": str(found), "bytes": found.stat().st_size, "sha256": sha256_file(found), **examine_file(found)}
    if (found / "state.json").exists():
        return _checkpoint(found)
    if (found / "run.json").exists():
        return _run(found)
    if (found / CONFIG).exists():
        return {"kind": "backbone", "path": str(found), **described(read_config(found)), **_weights(weights_of(found))}
    if not found.exists():
        raise UserError(f"{found}: no such file or folder")
    raise UserError(f"{found}: neither a run, nor a checkpoint, nor a backbone's folder (no run.json, state.json or {CONFIG} in it)")


def _weights(path: Path) -> dict[str, Any]:
    """Count tensors and parameters by a file's header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    count = 0
    for shape in shapes.values():
        size = 1
        for side in shape:
            size *= side
        count += size
    return {"sha256": sha256_file(path), "tensors": len(shapes), "parameters": count}


def _of_run(about: dict[str, Any]) -> dict[str, Any]:
    recipe = about["recipe"]
    return {
        "recipe": recipe["name"],
        "method": recipe["method"],
        "architecture": recipe["model"]["architecture"],
        "input_size": [3, recipe["data"]["size"], recipe["data"]["size"]],
        "steps": max(1, round(recipe["optim"]["samples"] / recipe["optim"]["batch"])),
        "batch": recipe["optim"]["batch"],
        "seed": about["made_by"]["seed"],
        "status": about["status"],
        "shards": {k: about["shards"].get(k) for k in ("name", "digest", "images")},
    }


def _run(folder: Path) -> dict[str, Any]:
    about = read_json(folder / "run.json", "a run")
    steps = sorted(int(p.name[5:]) for p in (folder / "checkpoints").glob("step-*") if p.name[5:].isdigit())
    found: dict[str, Any] = {"kind": "run", "path": str(folder), **_of_run(about), "checkpoints": steps}
    if about["status"] == "finished":
        found |= {"loss": about["result"]["final_loss"], **_weights(weights_of(folder))}
        if found["sha256"] != about["result"]["backbone_sha256"]:
            raise UserError(f"{weights_of(folder)}: changed since the run wrote it")
    return found


def _checkpoint(folder: Path) -> dict[str, Any]:
    state = read_json(folder / "state.json", "a checkpoint")
    run = folder.parent.parent / "run.json"
    of_run = _of_run(read_json(run, "a run")) if run.exists() else {}
    optimiser = (folder / "optimizer.safetensors").exists()
    return {
        "kind": "checkpoint",
        "path": str(folder),
        **of_run,
        "step": state["step"],
        "optimiser": optimiser,
        **_weights(folder / "model.safetensors"),
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Put what was found into rows for people."""
    kinds = {
        "run": "a run of evenfooting",
        "checkpoint": "a checkpoint of a run, with decoder or heads",
        "backbone": "a backbone's folder, which timm loads",
        "file": "a file of weights" if "reason" in found else "a released checkpoint",
    }
    lines = [("what it is", kinds[found["kind"]])]
    for name, value in found.items():
        if name not in ("kind", "path") and value not in (None, [], {}):
            lines.append((name.replace("_", " "), _text(value)))
    uses = {
        "run": "evaluate --model {path}; pretrain run --init {path}; pretrain export {path} FOLDER",
        "checkpoint": "pretrain run --init {path}: goes on from it, heads and all, with other data or another recipe",
        "backbone": "evaluate --model {path}; pretrain run --init {path}",
        "file": "nothing here: " + str(found.get("reason"))
        if "reason" in found
        else "evaluate --model {path}; pretrain run --init {path}; pretrain export {path} FOLDER",
    }
    return [*lines, ("good for", uses[found["kind"]].format(path=found["path"]))]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_text(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
