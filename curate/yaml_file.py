"""YAML files that a person writes: read into a model, with errors of one line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from curate.errors import UserError, nearest

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, model: type[Model]) -> Model:
    """Read a YAML file.

    Args:
        path: the file.
        model: what it must hold; a field that it doesn't know is refused where it forbids further ones.

    Returns:
        The model.

    Raises:
        UserError: where the file is missing or not YAML, or a field is unknown, missing or wrong: the first is named.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected lines of FIELD: VALUE")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(f"{path}: unknown field '{field}'{nearest(str(first['loc'][-1]), _fields(model, first['loc'][:-1]))}") from None
        said = " ".join(first["msg"].removeprefix("Value error, ").split())
        raise UserError(f"{path}: {f'field {field!r}: ' if field else ''}{said}") from None


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """List the fields that are known at a place in the file."""
    for part in place:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        inner = next((t for t in (inner, *getattr(inner, "__args__", ())) if isinstance(t, type) and issubclass(t, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]
