"""Dirt with known truth: every fault planted in a phantom archive is found, and what can be repaired is right again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from curate.cohort import Cohort, read_cohort
from curate.ingest import ingest_archive
from curate.phantom.archive import simulate_archive

COLUMNS = {"image_file": "path", "eye": "laterality", "exam_date": "acquired_on", "camera": "device", "hospital": "site"}
# What is lost for good becomes missing; everything else must come back as it was.
LOST = {"sentinel in the age column", "age not given", "age falls across visits", "sex unknown as a code", "ethnicity not stated"}
LOST |= {"date that stands for unknown", "sex conflicts within a patient", "birth year in the age column"}


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("dirt")
    simulate_archive(folder / "phantom", patients=150, size=256, dirt=True, workers=1)
    ingest_archive(folder / "phantom/manifest.csv", images=[folder / "phantom/images"], out=folder / "cohort", max_bad=0.02, workers=1)
    return read_cohort(folder / "cohort"), pd.read_csv(folder / "phantom/truth/dirt.csv", dtype=str)


def test_every_planted_fault_is_in_the_ledger(dirty: tuple[Cohort, pd.DataFrame]) -> None:
    cohort, planted = dirty
    assert planted["fault"].nunique() >= 18
    entries = cohort.ledger()
    found = set(zip(entries["row"], entries["column"], strict=True))
    for fault in planted.itertuples():
        if fault.fault in ("sex in capitals", "same photograph under two patient ids"):
            continue  # case alone is no change of meaning; a photograph is looked for below
        assert (int(fault.row), COLUMNS.get(fault.column, fault.column)) in found, fault


def test_a_photograph_under_two_patients_is_noted(dirty: tuple[Cohort, pd.DataFrame]) -> None:
    cohort, planted = dirty
    pair = planted[planted["fault"] == "same photograph under two patient ids"].iloc[0]
    noted = cohort.ledger().query("rule == 'same-photograph'")
    assert int(pair["row"]) in set(noted["row"])
    assert len(noted) == 2


def test_what_can_be_repaired_is_what_it_was(dirty: tuple[Cohort, pd.DataFrame]) -> None:
    cohort, planted = dirty
    table = cohort.table.assign(file=cohort.table["path"].map(lambda p: Path(p).stem)).set_index("file")
    checked = 0
    for fault in planted.itertuples():
        column = COLUMNS.get(fault.column, fault.column)
        if column == "path" or fault.fault in LOST or "two patient ids" in fault.fault:
            continue
        found = table.loc[Path(str(fault.image_file)).stem, column]
        assert float(found) == float(fault.clean) if column == "age" else found == fault.clean, fault
        checked += 1
    assert checked > 30
