"""What a card is made from: the artefacts of the other rooms, read as they lie on the disk.

Only the cohort is needed; what else is absent leaves its section to say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import DEFAULT_BINS, Cohort, UserError, read_cohort, read_json, sha256_file

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Sources:
    """Everything that was found.

    Attributes:
        cohort: the source archive after cleaning.
        sample: ``sample.json`` of the shard set, or None.
        keys: ``private/keys.parquet`` (key, image_id, patient_id), or None where it is absent or belongs to another cohort.
        keys_problem: ``"absent"``, ``"other cohort"`` or ``""``.
        runs: name of the folder -> ``run.json``, in order of name.
        evaluation: ``evaluation.json``, or None.
        estimates, comparisons, groups: the evaluation's tables, or None.
        identified: ``identify.json``, or None.
        digests: name of each input -> SHA-256, for the provenance.
    """

    cohort: Cohort
    sample: dict[str, Any] | None = None
    keys: pd.DataFrame | None = None
    keys_problem: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None
    estimates: pd.DataFrame | None = None
    comparisons: pd.DataFrame | None = None
    groups: pd.DataFrame | None = None
    identified: dict[str, Any] | None = None
    digests: dict[str, str] = field(default_factory=dict)

    @cached_property
    def source(self) -> pd.DataFrame:
        """The cohort's table, with people as whole numbers: they are only ever counted."""
        import pandas as pd

        return self.cohort.table.assign(patient_id=pd.factorize(self.cohort.table["patient_id"])[0])

    @cached_property
    def chosen(self) -> pd.DataFrame | None:
        """The rows of the cohort that are in the set, or None where that can't be known."""
        if self.keys is None:
            return None
        return self.source[self.source["image_id"].isin(self.keys["image_id"])]

    @property
    def bins(self) -> dict[str, tuple[float, ...]]:
        """The edges of the groups of numbers, the sample's where it gave any."""
        given = (self.sample or {}).get("bins") or {}
        return {**DEFAULT_BINS, **{column: tuple(float(e) for e in edges) for column, edges in given.items()}}

    @property
    def set_name(self) -> str:
        """The name of what the card is about: the set, or the cohort where there is none."""
        return str((self.sample or {}).get("name") or self.cohort.name)


def read_sources(cohort: Path, shards: Path, runs: Path, evaluation: Path, identify: Path = Path("identify")) -> Sources:
    """Read the artefacts.

    Args:
        cohort: the cohort folder; must be there.
        shards, runs, evaluation, identify: the other folders; each may be absent.

    Raises:
        UserError: where the cohort is absent, or a folder that is there isn't what its name says.
    """
    found = Sources(read_cohort(cohort))
    missing = {"image_id", "patient_id"} - set(found.source.columns)
    if missing:
        raise UserError(f"{cohort / 'cohort.parquet'}: column '{min(missing)}' is missing; ingest again")
    found.digests["cohort"] = found.cohort.digest
    if (cohort / "measurements.parquet").exists():
        found.digests["measurements"] = sha256_file(cohort / "measurements.parquet")
    if shards.exists():
        _read_shards(found, shards)
    if runs.exists():
        for folder in sorted(p for p in runs.iterdir() if (p / "run.json").exists()):
            found.runs[folder.name] = read_json(folder / "run.json", "a run")
            found.digests[f"runs/{folder.name}"] = sha256_file(folder / "run.json")
    if evaluation.exists():
        found.evaluation = read_json(evaluation / "evaluation.json", "an evaluation")
        found.estimates = _parquet(evaluation / "estimates.parquet", required=True)
        found.comparisons = _parquet(evaluation / "comparisons.parquet", required=False)
        found.groups = _parquet(evaluation / "groups.parquet", required=False)
        for name in ("estimates", "comparisons", "groups"):
            if (evaluation / f"{name}.parquet").exists():
                found.digests[name] = sha256_file(evaluation / f"{name}.parquet")
    if identify.exists():
        found.identified = read_json(identify / "identify.json", "what matters")
        found.digests["identify"] = sha256_file(identify / "identify.json")
    return found


def _read_shards(found: Sources, shards: Path) -> None:
    found.sample = read_json(shards / "sample.json", "a shard set")
    found.digests["sample"] = sha256_file(shards / "sample.json")
    if (shards / "index.parquet").exists():
        found.digests["shards"] = sha256_file(shards / "index.parquet")
    found.keys = _parquet(shards / "private" / "keys.parquet", required=False)
    if found.keys is None:
        found.keys_problem = "absent"
        return
    found.digests["keys"] = sha256_file(shards / "private" / "keys.parquet")
    other = found.sample.get("cohort", {}).get("digest") not in (None, found.cohort.digest)
    # Looked up from the cohort's side, since the set may be small and the archive large.
    if other or found.chosen is None or found.chosen["image_id"].nunique() != found.keys["image_id"].nunique():
        found.keys, found.keys_problem = None, "other cohort"


def _parquet(path: Path, *, required: bool) -> pd.DataFrame | None:
    import pandas as pd

    if not path.exists():
        if required:
            raise UserError(f"{path}: missing; make the evaluation again")
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
