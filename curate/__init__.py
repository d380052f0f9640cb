"""curate: from an archive and its metadata table to a cohort, and from the cohort to balanced shards.

The names below are what the other rooms may use; each is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.allocation import link
    from curate.artefacts import (
        begin,
        discard,
        drop,
        finish,
        partial_of,
        provenance,
        read_json,
        same_or_refuse,
        sha256_file,
        sweep,
        tool_version,
        write_array,
        write_json,
        write_parquet,
        writing,
    )
    from curate.cohort import Cohort, read_cohort
    from curate.engines import PartDone, engine
    from curate.errors import UserError, nearest
    from curate.groups import DEFAULT_ATTRIBUTES, DEFAULT_BINS, UNKNOWN, bin_labels, group_of, group_order, parse_bins
    from curate.parts import run_parts, slices, worker_count
    from curate.photographs import to_eight_bits
    from curate.rules import Comparison, fitting, is_rule, parse_rule
    from curate.shards import ShardSet, open_shards

_HOME = {
    "allocation": ("link",),
    "artefacts": (
        "begin", "discard", "drop", "finish", "partial_of", "provenance", "read_json", "same_or_refuse", "sha256_file",
        "sweep", "tool_version", "write_array", "write_json", "write_parquet", "writing",
    ),
    "cohort": ("Cohort", "read_cohort"),
    "engines": ("PartDone", "engine"),
    "errors": ("UserError", "nearest"),
    "groups": ("DEFAULT_ATTRIBUTES", "DEFAULT_BINS", "UNKNOWN", "bin_labels", "group_of", "group_order", "parse_bins"),
    "parts": ("run_parts", "slices", "worker_count"),
    "photographs": ("to_eight_bits",),
    "rules": ("Comparison", "fitting", "is_rule", "parse_rule"),
    "shards": ("ShardSet", "open_shards"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'curate' has no attribute '{name}'")
    return getattr(importlib.import_module(f"curate.{_MODULE_OF[name]}"), name)
