"""Describe: who is in a cohort, what its images measure, and how it differs from another."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.describe.describe import DescribeRequest, describe_cohort
    from curate.describe.report import show

_MODULE_OF = {"DescribeRequest": "describe", "describe_cohort": "describe", "show": "report"}

__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'curate.describe' has no attribute '{name}'")
    return getattr(importlib.import_module(f"curate.describe.{_MODULE_OF[name]}"), name)
