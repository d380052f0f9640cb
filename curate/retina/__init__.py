"""The retina: quality and vessel morphology of colour fundus photographs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.retina.image import DEFAULT_RESOLUTION, MEASURES, OF_THE_PHOTOGRAPH, STATES, measure_image

_MODULE_OF = {"measure_image": "image", "MEASURES": "image", "OF_THE_PHOTOGRAPH": "image", "STATES": "image", "DEFAULT_RESOLUTION": "image"}

__all__ = [
    *_MODULE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'curate.retina' has no attribute '{name}'")
    return getattr(importlib.import_module(f"curate.retina.{_MODULE_OF[name]}"), name)
