"""The faults of real archives, sown into a clean manifest; each is recorded with the value it replaced."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from curate.manifest import FIRST_ROW
from curate.phantom.devices import DEVICES
from curate.phantom.people import patient_id

COLUMNS = ("row", "image_file", "column", "clean", "dirty", "fault")
# Share of the rows that each fault strikes; at least one row. Damaged and missing images together stay below 0.8 %.
COMMON, SELDOM, RARE = 0.02, 0.006, 0.003
DAMAGED = 0.0035
KEPT_OF_TRUNCATED = 0.4  # of the bytes of a damaged JPEG


@dataclass
class Soiled:
    """A manifest with faults.

    Attributes:
        manifest: the rows as text.
        faults: one entry a fault: row (2 is the first, as in a spreadsheet), image_file as in the clean manifest, column, clean
            and dirty value, and what is wrong.
        missing: image files that must not be there.
        truncated: image files that must be cut short.
        copies: new image file -> the one whose bytes it has.
    """

    manifest: pd.DataFrame
    faults: list[dict[str, object]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)


def sow_faults(clean: pd.DataFrame, rng: np.random.Generator) -> Soiled:
    """Put every kind of fault into a manifest.

    A value is struck once at most. Archives of fewer than 286 images get no damaged or no missing image, since one
    would already be more than is usual.

    Args:
        clean: the manifest, all text, "" where missing.
        rng: the random numbers of the faults.
    """
    sower = _Sower(clean, rng)
    for work in (_ages, _dates, _sexes, _eyes, _cameras, _patients, _files):
        work(sower)
    soiled = sower.soiled
    soiled.faults.sort(key=lambda f: (f["row"], f["column"]))
    return soiled


class _Sower:
    """Keeps which values are struck already."""

    def __init__(self, clean: pd.DataFrame, rng: np.random.Generator) -> None:
        self.clean, self.rng = clean, rng
        self.soiled = Soiled(clean.copy())
        self.struck: set[tuple[int, str]] = set()

    def rows(self, column: str, share: float, among: np.ndarray | None = None) -> list[int]:
        """Choose rows whose value in a column is there and not struck yet."""
        count = max(1, round(share * len(self.clean)))
        values = self.clean[column].to_numpy()
        candidates = np.arange(len(self.clean)) if among is None else among
        free = [int(r) for r in candidates if values[r] != "" and (int(r), column) not in self.struck]
        return sorted(int(r) for r in self.rng.permutation(free)[:count])

    def strike(self, row: int, column: str, dirty: str, fault: str) -> None:
        """Replace a value and record it; a value that would stay the same is no fault."""
        clean = str(self.clean.at[row, column])
        if clean == dirty:
            return
        self.struck.add((row, column))
        self.soiled.manifest.at[row, column] = dirty
        self.record(row, column, clean, dirty, fault)

    def record(self, row: int, column: str, clean: str, dirty: str, fault: str) -> None:
        file = str(self.soiled.manifest.at[row, "image_file"]) if row >= len(self.clean) else str(self.clean.at[row, "image_file"])
        values: tuple[object, ...] = (row + FIRST_ROW, file, column, clean, dirty, fault)
        self.soiled.faults.append(dict(zip(COLUMNS, values, strict=True)))

    def second_visits(self) -> np.ndarray:
        """Give the rows that have an earlier visit of the same eye, whose age can thus be seen to fall."""
        first = self.clean.groupby(["patient_id", "eye"])["exam_date"].transform("min")
        return np.flatnonzero((self.clean["exam_date"] > first).to_numpy())


def _ages(sower: _Sower) -> None:
    age = sower.clean["age"]
    number = age.astype(int).to_numpy()
    eldest = number.max()
    top = 90 if eldest >= 90 else int(eldest // 10 * 10)
    for row in sower.rows("age", SELDOM, np.flatnonzero(number >= top)):
        sower.strike(row, "age", f"{top}+", "age as an open interval")
    for row in sower.rows("age", RARE, sower.second_visits()):
        sower.strike(row, "age", str(max(18, int(age[row]) - int(sower.rng.integers(6, 14)))), "age falls across visits")
    for row in sower.rows("age", COMMON):
        sower.strike(row, "age", f"{int(age[row])}Y" if sower.rng.random() < 0.6 else f"{int(age[row]):03d}Y", "age as text with a unit")
    for row in sower.rows("age", SELDOM):
        sower.strike(row, "age", "Not Given", "age not given")
    for sentinel in ("-9", "120", "999"):
        for row in sower.rows("age", RARE):
            sower.strike(row, "age", sentinel, "sentinel in the age column")
    for row in sower.rows("age", SELDOM):
        year = int(str(sower.clean.at[row, "exam_date"])[:4]) - int(age[row])
        sower.strike(row, "age", str(year), "birth year in the age column")


def _dates(sower: _Sower) -> None:
    for row in sower.rows("exam_date", SELDOM):
        sower.strike(row, "exam_date", "1900-01-01", "date that stands for unknown")


def _sexes(sower: _Sower) -> None:
    clean = sower.clean
    together = clean.groupby("patient_id")["sex"].transform("size").to_numpy() > 1
    for row in sower.rows("sex", RARE, np.flatnonzero(together)):
        sower.strike(row, "sex", "male" if clean.at[row, "sex"] == "female" else "female", "sex conflicts within a patient")
    for fault, spelt in (
        ("sex as a letter", {"female": "F", "male": "M"}),
        ("sex in capitals", {"female": "FEMALE", "male": "MALE"}),
        ("sex unknown as a code", {"female": "U", "male": "U"}),
    ):
        for row in sower.rows("sex", SELDOM if "code" in fault else COMMON):
            sower.strike(row, "sex", spelt[str(clean.at[row, "sex"])], fault)
    for row in sower.rows("ethnicity", SELDOM):
        sower.strike(row, "ethnicity", "Not Stated", "ethnicity not stated")


def _eyes(sower: _Sower) -> None:
    for right, left in (("OD", "OS"), ("RE", "LE"), ("R", "L")):
        for row in sower.rows("eye", COMMON):
            sower.strike(row, "eye", right if sower.clean.at[row, "eye"] == "right" else left, "eye as an abbreviation")


def _cameras(sower: _Sower) -> None:
    for row in sower.rows("camera", COMMON):
        variants = DEVICES[str(sower.clean.at[row, "camera"])].variants
        sower.strike(row, "camera", variants[int(sower.rng.integers(len(variants)))], "camera spelt differently")


def _patients(sower: _Sower) -> None:
    """Spoil patient ids, and register photographs a second time under another one."""
    clean, soiled = sower.clean, sower.soiled
    leading = np.flatnonzero(clean["patient_id"].str.startswith("0").to_numpy())
    for row in sower.rows("patient_id", SELDOM, leading):
        sower.strike(row, "patient_id", str(int(str(clean.at[row, "patient_id"]))), "patient id without its leading zeros")
    for row in sower.rows("patient_id", SELDOM):
        sower.strike(row, "patient_id", f"{int(str(clean.at[row, 'patient_id']))}.0", "patient id read as a number")
    following = int(clean["patient_id"].astype(int).max()) + 1
    again = []
    for offset, row in enumerate(sower.rows("patient_id", RARE)):
        entry = clean.loc[row].copy()
        name = patient_id(following + offset) + str(entry["image_file"])[len(str(entry["patient_id"])) :]
        soiled.copies[name] = str(entry["image_file"])
        entry["image_file"], entry["patient_id"] = name, patient_id(following + offset)
        sower.struck |= {(row, "image_file"), (row, "patient_id")}  # the original must stay what it is
        again.append((entry, str(clean.at[row, "patient_id"])))
    soiled.manifest = pd.concat([soiled.manifest, pd.DataFrame([e for e, _ in again])], ignore_index=True)
    for number, (entry, original) in enumerate(again, len(clean)):
        sower.record(number, "patient_id", original, str(entry["patient_id"]), "same photograph under two patient ids")


def _files(sower: _Sower) -> None:
    for row in sower.rows("image_file", SELDOM):
        sower.strike(row, "image_file", str(sower.clean.at[row, "image_file"]).removesuffix(".jpg"), "file name without its extension")
    total = len(sower.soiled.manifest)
    for files, state, fault in (
        (sower.soiled.truncated, "truncated", "image cut short"),
        (sower.soiled.missing, "absent", "image missing"),
    ):
        count = int(DAMAGED * total)
        for row in sower.rows("image_file", 0.0 if not count else count / len(sower.clean))[:count]:
            files.append(str(sower.clean.at[row, "image_file"]))
            sower.struck.add((row, "image_file"))
            sower.record(row, "image_file", "whole", state, fault)
