"""Profiles: how the tables of known archives are coded, as data files beside this module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from curate.cohort import COLUMNS
from curate.errors import UserError, nearest
from curate.yaml_file import read_yaml

# A date of birth gives the age where that is missing; it is never copied.
MAPPABLE = (*(c for c in COLUMNS if c not in ("width", "height", "sha256", "phash")), "birth_date")
EYES = ("left", "right")

# Column names that say what they hold, compared in lower case with underscores. Codings are never assumed from names.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "image", "image_file", "image_path"),
    "image_id": ("image_id",),
    "patient_id": ("patient_id", "patient", "subject_id", "subject"),
    "laterality": ("laterality", "eye", "exam_eye", "eye_side"),
    "acquired_on": ("acquired_on", "exam_date", "acquisition_date", "visit_date", "study_date"),
    "age": ("age", "patient_age", "age_years", "age_at_exam"),
    "sex": ("sex", "gender", "patient_sex"),
    "ethnicity": ("ethnicity", "ethnic_group", "race"),
    "device": ("device", "camera", "camera_model"),
    "site": ("site", "hospital", "centre", "center"),
}


class MakePath(BaseModel):
    """How a file's name follows from other columns.

    Attributes:
        template: text with columns in braces, of the cohort or of the table.
        patterns: regular expression -> name of the file, as for ``re.sub``; the first that fits the whole text is used,
            and where none does the path stays as it is.
    """

    model_config = ConfigDict(extra="forbid")

    template: str = Field(alias="from")
    patterns: dict[str, str]


class Profile(BaseModel):
    """How one archive's table is to be read.

    Where several of the table's columns are listed for one thing, the first that exists is used. ``{instance}`` and ``{array}``
    in a column's name stand for the number of the visit and of the photograph in it.

    Attributes:
        columns: cohort column -> the table's column, or several.
        optional: cohort columns that a table may lack.
        pattern: regular expression searched in the image's path; its named groups give cohort columns (or ``instance``).
        extract: column -> regular expression searched in it, likewise.
        make_path: how the file's name follows from other columns.
        codes: column -> {code in the table: meaning}.
        eyes: for tables with one row a patient: "left" and "right" -> {column -> the table's column for that eye}; used where
            the table has no column for ``path``.
        by_eye: new column -> {"left": column, "right": column}: the column that belongs to the row's own eye.
        rename: further column -> what the table calls it.
        leave_out: columns of the table that are not copied.
        skip_rows: rows before the header.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = "map"
    title: str = ""
    columns: dict[str, str | list[str]] = Field(default_factory=dict)
    optional: list[str] = Field(default_factory=list)
    pattern: str | None = None
    extract: dict[str, str] = Field(default_factory=dict)
    make_path: MakePath | None = None
    codes: dict[str, dict[str, str]] = Field(default_factory=dict)
    eyes: dict[Literal["left", "right"], dict[str, str | list[str]]] = Field(default_factory=dict)
    by_eye: dict[str, dict[str, str]] = Field(default_factory=dict)
    rename: dict[str, str | list[str]] = Field(default_factory=dict)
    leave_out: list[str] = Field(default_factory=list)
    skip_rows: int = Field(default=0, ge=0)
    _stated_codes: frozenset[str] = PrivateAttr(default=frozenset())  # columns whose codes the user gave: they must be there

    def state_codes(self, codes: dict[str, dict[str, str]]) -> None:
        """Put what the user says of codes on top of the profile's."""
        self.codes.update(codes)
        self._stated_codes = frozenset(codes)

    @property
    def stated_codes(self) -> frozenset[str]:
        """The columns whose codes the user gave."""
        return self._stated_codes

    def cohort_columns(self) -> list[str]:
        """List every name that stands for a column of a cohort."""
        sides = [c for columns in self.eyes.values() for c in columns]
        return [*self.columns, *self.optional, *(c for c in sides if c in MAPPABLE)]


def profile_names() -> list[str]:
    """List the profiles that ship with evenfooting."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.yaml"))


def read_profile(name: str) -> Profile:
    """Read a profile by name, or from a file of the user's own.

    Args:
        name: one of `profile_names`, or a path that ends in ``.yaml``.

    Raises:
        UserError: where there is none of that name, or a field of it is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path(__file__).parent / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"--profile {name}: no such profile{nearest(name, profile_names())}")
    profile = read_yaml(path, Profile)
    for column in profile.cohort_columns():
        if column not in MAPPABLE:
            raise UserError(f"{path}: a cohort has no column '{column}'{nearest(column, MAPPABLE)}")
    return profile


def parse_map(options: Sequence[str] | None) -> dict[str, str]:
    """Read ``--map age="Patient Age"`` (repeatable).

    Returns:
        Cohort column -> the table's column.

    Raises:
        UserError: where a text isn't of that form or names no cohort column.
    """
    columns: dict[str, str] = {}
    for option in options or ():
        target, equals, source = option.partition("=")
        if not equals or not source:
            raise UserError(f'--map {option}: expected COLUMN="Column in the table", as age="Patient Age"')
        if target not in MAPPABLE:
            raise UserError(f"--map {option}: a cohort has no column '{target}'{nearest(target, MAPPABLE)}")
        if columns.get(target, source) != source:
            raise UserError(f"--map {option}: {target} is already '{columns[target]}'; one column gives one")
        columns[target] = source
    return columns


def parse_codes(options: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """Read ``--codes sex=0:female,1:male`` (repeatable), ``--codes ethnicity=nhs`` or ``--codes dx=codes.yaml``.

    Returns:
        Column -> {code: meaning}.

    Raises:
        UserError: where a text isn't of that form, or there is no such table of codes.
    """
    codes: dict[str, dict[str, str]] = {}
    for option in options or ():
        column, equals, pairs = option.partition("=")
        meanings = [pair.partition(":") for pair in pairs.split(",")]
        if equals and pairs and ":" not in pairs:
            codes[column] = _read_codes(option, pairs)
            continue
        if not equals or not all(colon and code and meaning for code, colon, meaning in meanings):
            raise UserError(f"--codes {option}: expected COLUMN=CODE:MEANING,CODE:MEANING, as sex=0:female,1:male")
        codes[column] = {code.strip(): meaning.strip() for code, _, meaning in meanings}
    return codes


def _read_codes(option: str, name: str) -> dict[str, str]:
    folder = Path(__file__).parent / "codes"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    if not path.is_file():
        form = "COLUMN=CODE:MEANING,CODE:MEANING, a .yaml file or a table of codes"
        raise UserError(f"--codes {option}: expected {form}{nearest(name, known)}")
    try:
        table: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(table, dict) or not all(isinstance(v, str) and v for v in table.values()):
        raise UserError(f'{path}: expected lines of CODE: MEANING; quote what YAML reads as something else, as "99": Not known')
    return {str(code): meaning for code, meaning in table.items()}


def parse_eyes(options: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """Read ``--eye left:path=Left-Fundus`` (repeatable).

    Returns:
        "left" or "right" -> {column -> the table's column for that eye}.

    Raises:
        UserError: where a text isn't of that form, or no eye has a path.
    """
    eyes: dict[str, dict[str, str]] = {}
    for option in options or ():
        side, colon, rest = option.partition(":")
        target, equals, source = rest.partition("=")
        if not (colon and equals and target and source) or side not in EYES:
            raise UserError(f"--eye {option}: expected left:COLUMN=NAME or right:COLUMN=NAME, as left:path=Left-Fundus")
        eyes.setdefault(side, {})[target] = source
    if eyes and not any("path" in columns for columns in eyes.values()):
        raise UserError("--eye: name the columns of the files too, as --eye left:path=Left-Fundus --eye right:path=Right-Fundus")
    return eyes
