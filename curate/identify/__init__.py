"""Identify: which metadata drive the variation of an archive's images, and what to balance by."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.identify.report import read_suggested_balance, show
    from curate.identify.run import identify_cohort

_MODULE_OF = {"identify_cohort": "run", "read_suggested_balance": "report", "show": "report"}

__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'curate.identify' has no attribute '{name}'")
    return getattr(importlib.import_module(f"curate.identify.{_MODULE_OF[name]}"), name)
