"""Taking a backbone out of its run: a folder that timm and the Hugging Face hub understand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from curate import UserError, partial_of, read_json, sha256_file, writing
from pretrain.description import CONFIG, WEIGHTS


def export_run(run: str | Path, out: str | Path) -> dict[str, Any]:
    """Copy the backbone of a finished run with its configuration and the stub of a model card.

    Args:
        run: the run's folder.
        out: a folder that is not there yet.

    Returns:
        out, and the SHA-256 of the weights.

    Raises:
        UserError: where the run is not finished, its weights are not those that it wrote, or `out` is there.
    """
    run, out = Path(run), Path(out)
    about = read_json(run / "run.json", "a run")
    if about.get("status") != "finished":
        raise UserError(f"{run}: this run is not finished; run the same pretrain command again, it resumes")
    if not (run / WEIGHTS).exists() or sha256_file(run / WEIGHTS) != about["result"]["backbone_sha256"]:
        raise UserError(f"{run / WEIGHTS}: missing, or changed since the run wrote it")
    if out.exists():
        raise UserError(f"{out}: exists already; choose another folder")
    partial = partial_of(out)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(run / WEIGHTS, partial / "model.safetensors")
    shutil.copyfile(run / CONFIG, partial / CONFIG)
    with writing(partial / "README.md", "w") as file:
        file.write(model_card(about))
    os.replace(partial, out)
    return {"out": str(out), "backbone_sha256": about["result"]["backbone_sha256"]}


def model_card(about: dict[str, Any]) -> str:
    """Write the stub of a model card from a finished run's ``run.json``: what the run knows, and no more."""
    recipe, result, shards, made_by = about["recipe"], about["result"], about["shards"], about["made_by"]
    software = ", ".join(f"{name} {about['environment'][name]}" for name in ("torch", "timm"))
    return f"""---
library_name: timm
tags: [image-feature-extraction, timm]
---
# {about["name"]}

{recipe["model"]["architecture"]} at {recipe["data"]["size"]} px, pre-trained by {recipe["method"].upper()} without labels.

| | |
|---|---|
| recipe | {recipe["name"]} |
| shard set | {shards["name"]} |
| shard set digest | `{shards["digest"]}` |
| images | {shards["images"]:,} |
| samples seen | {result["samples_seen"]:,} in {result["steps"]:,} steps of {recipe["optim"]["batch"]:,} |
| seed | {made_by["seed"]} |
| weights (SHA-256) | `{result["backbone_sha256"]}` |
| made by | {made_by["tool"]} {made_by["version"]}, {software} |

```python
import timm
model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True)
```

Whose photographs these were, and for whom the model works how well, is the data card's to say: build one with `cards build`.
"""
