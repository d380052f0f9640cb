"""evaluate: from backbones, or anyone's predictions, to estimates with intervals, by subgroup.

The names below are what the other rooms may use; each is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.compare import Chosen, compare_models
    from evaluate.embed import embed_cohort
    from evaluate.figures.folder import Choice
    from evaluate.figures.run import draw_figures
    from evaluate.influence import auroc, interval
    from evaluate.planning import evaluation_power, planned_power
    from evaluate.precision import average_precision
    from evaluate.run import evaluate_models
    from evaluate.score import score_file
    from evaluate.task import Task, read_task

_MODULE_OF = {
    "auroc": "influence",
    "interval": "influence",
    "average_precision": "precision",
    "Chosen": "compare",
    "compare_models": "compare",
    "embed_cohort": "embed",
    "Choice": "figures.folder",
    "draw_figures": "figures.run",
    "evaluation_power": "planning",
    "planned_power": "planning",
    "evaluate_models": "run",
    "score_file": "score",
    "Task": "task",
    "read_task": "task",
}

__all__ = [
    *_MODULE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'evaluate' has no attribute '{name}'")
    return getattr(importlib.import_module(f"evaluate.{_MODULE_OF[name]}"), name)
