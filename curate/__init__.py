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
    from curate.describe import DescribeRequest, describe_cohort
    from curate.engines import PartDone, engine
    from curate.errors import UserError, nearest
    from curate.groups import DEFAULT_ATTRIBUTES, DEFAULT_BINS, UNKNOWN, bin_labels, group_of, group_order, parse_bins
    from curate.identify import identify_cohort
    from curate.ingest import ingest_archive
    from curate.measure import measure_cohort
    from curate.parts import run_parts, slices, worker_count
    from curate.phantom.archive import simulate_archive
    from curate.photographs import to_eight_bits
    from curate.repair import repair_shards
    from curate.request import SampleRequest
    from curate.rules import Comparison, fitting, is_rule, parse_rule
    from curate.sample import sample_cohort
    from curate.shards import ShardSet, open_shards
    from curate.verify import verify_shards

_HOME = {
    "allocation": ("link",),
    "artefacts": (
        "begin", "discard", "drop", "finish", "partial_of", "provenance", "read_json", "same_or_refuse", "sha256_file",
        "sweep", "tool_version", "write_array", "write_json", "write_parquet", "writing",
    ),
    "cohort": ("Cohort", "read_cohort"),
    "describe": ("DescribeRequest", "describe_cohort"),
    "engines": ("PartDone", "engine"),
    "errors": ("UserError", "nearest"),
    "groups": ("DEFAULT_ATTRIBUTES", "DEFAULT_BINS", "UNKNOWN", "bin_labels", "group_of", "group_order", "parse_bins"),
    "identify": ("identify_cohort",),
    "ingest": ("ingest_archive",),
    "measure": ("measure_cohort",),
    "parts": ("run_parts", "slices", "worker_count"),
    "phantom.archive": ("simulate_archive",),
    "photographs": ("to_eight_bits",),
    "repair": ("repair_shards",),
    "request": ("SampleRequest",),
    "rules": ("Comparison", "fitting", "is_rule", "parse_rule"),
    "sample": ("sample_cohort",),
    "shards": ("ShardSet", "open_shards"),
    "verify": ("verify_shards",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'curate' has no attribute '{name}'")
    return getattr(importlib.import_module(f"curate.{_MODULE_OF[name]}"), name)
