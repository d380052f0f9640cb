"""pretrain: from a shard set to a backbone that plain timm loads.

The names below are what the other rooms may use; each is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretrain.backbone import load_backbone
    from pretrain.description import describe_backbone
    from pretrain.export import export_backbone
    from pretrain.inspection import inspect_weights
    from pretrain.plan import plan_pretraining
    from pretrain.recipe import read_recipe
    from pretrain.run import run_pretraining
    from pretrain.schedule import learning_rate

_MODULE_OF = {
    "describe_backbone": "description",
    "export_backbone": "export",
    "inspect_weights": "inspection",
    "learning_rate": "schedule",
    "load_backbone": "backbone",
    "plan_pretraining": "plan",
    "read_recipe": "recipe",
    "run_pretraining": "run",
}

__all__ = [
    *_MODULE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'pretrain' has no attribute '{name}'")
    return getattr(importlib.import_module(f"pretrain.{_MODULE_OF[name]}"), name)
