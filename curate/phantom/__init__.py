"""A phantom retinal archive: photographs drawn from known parameters, with the faults of real archives on request.

Everything that a study of an archive should find is known here: age changes the vessels, devices change the colour,
retinopathy draws its lesions, and sex and ethnicity change nothing at all in the picture.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.phantom.archive import simulate_archive

_MODULE_OF = {"simulate_archive": "archive"}

__all__ = ["simulate_archive"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'curate.phantom' has no attribute '{name}'")
    return getattr(importlib.import_module(f"curate.phantom.{_MODULE_OF[name]}"), name)
