"""cards: the data card of a set: computed, answered by people, safe to publish, good to read.

The names below are what other programs may use; each is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cards.build import build_card, init_card
    from cards.check import check_card
    from cards.diff.page import diff_cards
    from cards.exports.write import export_card
    from cards.policy import Policy

_MODULE_OF = {
    "build_card": "build",
    "init_card": "build",
    "check_card": "check",
    "diff_cards": "diff.page",
    "export_card": "exports.write",
    "Policy": "policy",
}

__all__ = [
    *_MODULE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cards' has no attribute '{name}'")
    return getattr(importlib.import_module(f"cards.{_MODULE_OF[name]}"), name)
