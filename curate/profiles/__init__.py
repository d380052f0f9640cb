"""Profiles: how the tables of known archives are coded, as data files beside this module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.cohort import COLUMNS
from curate.errors import UserError, nearest

MAPPABLE = tuple(c for c in COLUMNS if c not in ("width", "height", "sha256", "phash"))

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


class Profile(BaseModel):
    """How one archive's table is to be read.

    Attributes:
        columns: cohort column -> the table's column.
        pattern: regular expression searched in the image's path; its named groups give cohort columns.
        codes: column -> {code in the table: meaning}.
        by_eye: new column -> {"left": column, "right": column}: the column that belongs to the row's own eye.
        leave_out: columns of the table that are not copied.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = "map"
    title: str = ""
    columns: dict[str, str] = Field(default_factory=dict)
    pattern: str | None = None
    codes: dict[str, dict[str, str]] = Field(default_factory=dict)
    by_eye: dict[str, dict[str, str]] = Field(default_factory=dict)
    leave_out: list[str] = Field(default_factory=list)


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
    try:
        return Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: field '{field}': {first['msg']}{nearest(field, Profile.model_fields)}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None


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
        columns[target] = source
    return columns


def parse_codes(options: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """Read ``--codes sex=0:female,1:male`` (repeatable).

    Returns:
        Column -> {code: meaning}.

    Raises:
        UserError: where a text isn't of that form.
    """
    codes: dict[str, dict[str, str]] = {}
    for option in options or ():
        column, equals, pairs = option.partition("=")
        meanings = [pair.partition(":") for pair in pairs.split(",")]
        if not equals or not all(colon and code and meaning for code, colon, meaning in meanings):
            raise UserError(f"--codes {option}: expected COLUMN=CODE:MEANING,CODE:MEANING, as sex=0:female,1:male")
        codes[column] = {code.strip(): meaning.strip() for code, _, meaning in meanings}
    return codes
