"""Measures that another tool has taken: its tables, brought into the cohort's own table of measures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.imported.tables import (
        Imported,
        add_imports,
        import_tables,
        join_ledgers,
        parse_imports,
        show_import,
    )
    from curate.imported.values import RULES

_MODULE_OF = {
    **dict.fromkeys(("Imported", "add_imports", "import_tables", "join_ledgers", "parse_imports", "show_import"), "tables"),
    "RULES": "values",
}

__all__ = [
    *_MODULE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'curate.imported' has no attribute '{name}'")
    return getattr(importlib.import_module(f"curate.imported.{_MODULE_OF[name]}"), name)
