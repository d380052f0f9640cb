"""How the tables of one measuring tool are to be read; the profiles are data files in ``curate/profiles/measures``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curate import profiles
from curate.errors import UserError, nearest
from curate.yaml_file import read_yaml

FOLDER = Path(profiles.__file__).parent / "measures"
GRADES = ("good", "usable", "reject")


class Quality(BaseModel):
    """How the tool's grade of a photograph becomes the column ``quality``.

    Attributes:
        column: holds the grade.
        codes: what stands there -> good, usable or reject.
        reject_from: column of numbers -> from where on what is usable counts as reject.
    """

    model_config = ConfigDict(extra="forbid")

    column: str
    codes: dict[str, Literal["good", "usable", "reject"]]
    reject_from: dict[str, float] = Field(default_factory=dict)


class MeasureProfile(BaseModel):
    """How the tables of one tool are to be read.

    Names of columns are compared by their letters and digits alone, without capitals.

    Attributes:
        title: the tool, for messages.
        tables: names of its files, with ``*`` for anything, looked for in a folder and those within it.
        image: names of the column that says which image a row is of; the first that exists is used.
        names: "kept" where the tool keeps the photographs' file names; "cut" where it cuts them at the first dot and gives them
            another ending.
        columns: column of the cohort's measures -> names in the table. ``{side}`` in the first stands for each of `sides`, whose
            words then stand before or behind the names.
        sides: name -> words for it.
        keep: regular expression: further columns that fit it as a whole are taken under their own names.
        prefix: stands before the names that are kept.
        failed: numbers that stand for a failure.
        ratios: column -> the two columns that it is the ratio of.
        quality: the tool's grade, where it gives one.
        compatible: whose definitions the measures follow, where their names are those of ``curate measure``.
        notes: what a reader must know of the units.
    """

    model_config = ConfigDict(extra="forbid")

    title: str
    tables: list[str] = Field(default_factory=lambda: ["*.csv"], min_length=1)
    image: list[str] = Field(min_length=1)
    names: Literal["kept", "cut"] = "kept"
    columns: dict[str, str | list[str]] = Field(default_factory=dict)
    sides: dict[str, list[str]] = Field(default_factory=dict)
    keep: str | None = None
    prefix: str = ""
    failed: list[float] = Field(default_factory=list)
    ratios: dict[str, tuple[str, str]] = Field(default_factory=dict)
    quality: Quality | None = None
    compatible: str | None = None
    notes: list[str] = Field(default_factory=list)

    @field_validator("keep")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression ({error})") from None
        return value

    @model_validator(mode="after")
    def _makes_sense(self) -> MeasureProfile:
        if taken := {"image_id", "state", "quality"} & set(self.columns):
            raise ValueError(f"columns: '{min(taken)}' is no measure")
        if not self.sides and any("{side}" in column for column in self.columns):
            raise ValueError("columns: {side} is used, and sides names none")
        if not (self.columns or self.keep or self.quality):
            raise ValueError("names no column to take; give columns, keep or quality")
        return self

    def wanted(self) -> dict[str, list[str]]:
        """Give every column of measures with the names that it may have in the table, as `plain` writes them."""
        wanted: dict[str, list[str]] = {}
        for column, names in self.columns.items():
            given = [names] if isinstance(names, str) else names
            if "{side}" not in column:
                wanted[column] = [plain(name) for name in given]
                continue
            for side, words in self.sides.items():
                both = [(plain(word), plain(name)) for name in given for word in words]
                wanted[column.replace("{side}", side)] = [a + b for word, name in both for a, b in ((word, name), (name, word))]
        return wanted

    def has(self, column: str) -> bool:
        """Say whether a column of measures is one of the tool's."""
        own = column.removeprefix(self.prefix)
        kept = self.keep is not None and column.startswith(self.prefix) and re.fullmatch(self.keep, own) is not None
        return kept or column in self.wanted() or (column == "quality" and self.quality is not None)


def plain(name: str) -> str:
    """Write a column's name by its letters and digits alone.

    Example:
        >>> plain("artery.Tortuosity_index")
        'arterytortuosityindex'
    """
    return "".join(c for c in name.casefold() if c.isalnum())


def tools() -> list[str]:
    """List the tools whose tables can be imported."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def read_measure_profile(name: str) -> MeasureProfile:
    """Read the profile of a tool.

    Args:
        name: one of `tools`, or the path of a file of the user's own that ends in ``.yaml``.

    Raises:
        UserError: where there is none of that name, or a field of it is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return read_yaml(Path(name), MeasureProfile)
    if name not in tools():
        raise UserError(f"--import {name}: no such tool{nearest(name, tools())}; or name a profile of your own, as mine.yaml")
    return read_yaml(FOLDER / f"{name}.yaml", MeasureProfile)
