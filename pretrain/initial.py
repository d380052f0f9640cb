"""Starting from weights that are there: a timm model, a run of ours, a released checkpoint, or a checkpoint with its heads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from curate import UserError, read_json, sha256_file
from curate.console import warn
from pretrain.backbone import load_backbone
from pretrain.checkpoint import misfit, read_safetensors
from pretrain.description import describe_backbone

if TYPE_CHECKING:
    from pretrain.method import Method
    from pretrain.recipe import Recipe


def start_from(spec: str, method: Method, recipe: Recipe) -> dict[str, Any]:
    """Give an untrained method the weights of another model, all of them or none.

    Args:
        spec: as for `pretrain.load_backbone`: a run's folder, a released checkpoint's file, ``timm:NAME``. Position embeddings are
            resampled to the recipe's grid. Or a checkpoint of a run, ``RUN/checkpoints/step-N``: then decoder, heads and
            teacher start from it too, and nothing is resampled.
        method: changed in place.
        recipe: that made it.

    Returns:
        source (`spec`), sha256 and architecture of what was taken.

    Raises:
        UserError: where there is nothing of this name, or any tensor is missing, would go unused or has another shape.
    """
    _refuse_untrained(spec)
    if _is_checkpoint(spec):
        taken = describe_start(spec)
        _from_checkpoint(Path(spec), method, taken["architecture"])
        return taken
    model, about = load_backbone(spec)
    if (list(about["mean"]), list(about["std"])) != (list(recipe.data.mean), list(recipe.data.std)):
        warn(
            f"--init {spec}: was trained on images normalised by {about['mean']}, {about['std']}; the recipe has {list(recipe.data.mean)}, "
            f"{list(recipe.data.std)} (--set data.mean=... data.std=...)"
        )
    backbone = method.backbone
    tensors = dict(model.state_dict())
    if "pos_embed" in tensors and tensors["pos_embed"].shape != backbone.pos_embed.shape:
        tensors["pos_embed"] = _resampled(tensors["pos_embed"], backbone)
    _check(spec, tensors, backbone.state_dict(), f"{about['architecture']} into {recipe.model.architecture} (--set model.architecture=...)")
    method.start_from(tensors)
    return _taken(spec, about)


def describe_start(spec: str) -> dict[str, Any]:
    """Say what `start_from` would take, by hashing its file alone.

    Args:
        spec: as for `start_from`.

    Returns:
        source, sha256 and architecture.

    Raises:
        UserError: where there is nothing of this name.
    """
    _refuse_untrained(spec)
    if _is_checkpoint(spec):
        weights = Path(spec) / "model.safetensors"
        if not weights.is_file():
            raise UserError(f"--init {spec}: its model.safetensors is missing; take another checkpoint of the run")
        sha256 = sha256_file(weights)
        return _taken(spec, {"sha256": sha256, "architecture": f"checkpoint of {_recipe_of(Path(spec))}"})
    return _taken(spec, describe_backbone(spec))


def _taken(spec: str, about: dict[str, Any]) -> dict[str, Any]:
    return {"source": spec, "sha256": about["sha256"], "architecture": about["architecture"]}


def _refuse_untrained(spec: str) -> None:
    if spec.startswith("random:"):
        raise UserError(f"--init {spec}: untrained weights are where a run starts without --init")


def _is_checkpoint(spec: str) -> bool:
    return (Path(spec) / "state.json").exists()


def _recipe_of(checkpoint: Path) -> str:
    run = checkpoint.parent.parent / "run.json"
    return str(read_json(run, "a run")["recipe"]["name"]) if run.exists() else "another run"


def _from_checkpoint(folder: Path, method: Method, what: str) -> None:
    tensors = read_safetensors(folder / "model.safetensors")
    _check(str(folder), tensors, method.state_dict(), what)
    method.load_state_dict(tensors, strict=True)


def _resampled(positions: Tensor, backbone: Any) -> Tensor:
    """Bring position embeddings to the grid of a backbone, where both have as many prefix tokens."""
    from timm.layers import resample_abs_pos_embed

    prefix = 0 if backbone.no_embed_class else backbone.num_prefix_tokens
    side = round((positions.shape[1] - prefix) ** 0.5)
    if side * side != positions.shape[1] - prefix:
        return positions
    grid = list(backbone.patch_embed.grid_size)
    return resample_abs_pos_embed(positions, new_size=grid, old_size=[side, side], num_prefix_tokens=prefix)


def _check(spec: str, there: dict[str, Tensor], wanted: dict[str, Tensor], what: str) -> None:
    if said := misfit(there, wanted):
        raise UserError(f"--init {spec}: not loaded, it doesn't fit ({what}); {said}")
