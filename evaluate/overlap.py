"""Whether anyone in the test set was in a model's pre-training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curate import Cohort, ShardSet, UserError, open_shards, read_json

if TYPE_CHECKING:
    import pandas as pd


def check_pretraining(name: str, run: Path, cohort: Cohort, tests: Mapping[str, pd.DataFrame], shards: Sequence[Path]) -> str:
    """Refuse to test a run on patients that it was pre-trained on.

    The shard set's private list of keys is looked for where the run says it was, and in `shards`; only the set with the
    run's digest counts. Patient ids say the same person only within one cohort, so for a set drawn from another cohort
    the answer is a note.

    Args:
        name: the model's.
        run: its folder.
        cohort: what is tested on.
        tests: task -> test images, with image_id and patient_id.
        shards: further folders in which the shard set may be.

    Returns:
        What was found, one sentence for the result's notes.

    Raises:
        UserError: with the number of shared patients and the first of them.
    """
    import pandas as pd

    about = read_json(run / "run.json", "a run").get("shards", {})
    found = _find(str(about.get("digest")), [*([Path(str(about["path"]))] if about.get("path") else []), *shards])
    if found is None:
        return f"{name}: its pre-training set ({about.get('name')}) is not at hand, so shared patients were not looked for"
    source = found.about.get("cohort", {})
    keys = pd.read_parquet(found.folder / "private" / "keys.parquet", columns=["image_id", "patient_id"])
    if source.get("digest") != cohort.digest:
        return f"{name}: pre-trained on another cohort ({source.get('name')}); patient ids of two cohorts cannot be compared"
    for task, test in tests.items():
        known = test["patient_id"].notna() & test["patient_id"].isin(set(keys["patient_id"].dropna()))
        shared = sorted(set(test.loc[known, "patient_id"]))
        images = test[test["image_id"].isin(set(keys["image_id"]))]
        if shared or len(images):
            what = (
                f"{len(shared)} patients ({', '.join(shared[:5])}{', ...' if len(shared) > 5 else ''})"
                if shared
                else f"{len(images)} images"
            )
            raise UserError(
                f"task {task}: {what} of the test split are in the pre-training set of model {name}; test on the patients held out by "
                f"curate sample (split: {{test: holdout, val: 0.2}}) or leave the model out"
            )
    return f"{name}: no test patient is in its pre-training set"


def _find(digest: str, folders: Sequence[Path]) -> ShardSet | None:
    for folder in folders:
        if (folder / "private" / "keys.parquet").exists() and (folder / "index.parquet").exists() and (folder / "sample.json").exists():
            shards = open_shards(folder)
            if shards.digest == digest:
                return shards
    return None
