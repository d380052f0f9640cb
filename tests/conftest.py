"""What all rooms' tests share: the real photographs, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A busy machine is no fault of a property.
settings.register_profile("evenfooting", deadline=None)
settings.load_profile("evenfooting")

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def odir() -> Path:
    """The ODIR-5K folder, or skip."""
    folder = REAL / "odir5k"
    if not folder.is_dir():
        pytest.skip("the real photographs are not at hand: no ../shared/data/odir5k")
    return folder


@pytest.fixture(scope="session")
def chase() -> Path:
    """The CHASE_DB1 folder, or skip."""
    folder = REAL / "chase_db1"
    if not folder.is_dir():
        pytest.skip("the real photographs are not at hand: no ../shared/data/chase_db1")
    return folder
