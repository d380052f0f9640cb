"""Modalities: what can be measured on an image of some kind.

A modality is a module with

- ``MEASURES``: column -> pandas type, in the order of the table; ``state``, a string, is one;
- ``measure_image(rgb, *, resolution)``: a value for each of ``MEASURES``, None where it can't be had, from (H, W, 3) uint8;
- ``OF_THE_PHOTOGRAPH``, where some measures say how the image was taken and not what it shows: their names.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np

MODALITIES = {"retina": "curate.retina", "generic": "curate.generic"}
ENTRY_POINTS = "evenfooting.modalities"  # the group in which other packages name such modules


@dataclass(frozen=True)
class Modality:
    """A modality that was imported.

    Attributes:
        name: as given to ``--modality``.
        measures: column -> pandas type.
        measure: (image, resolution=...) -> column -> value.
        of_the_photograph: those of `measures` that say how an image was taken and not what it shows.
        module: of another package; empty for what ships.
    """

    name: str
    measures: dict[str, str]
    measure: Callable[..., dict[str, Any]]
    of_the_photograph: tuple[str, ...] = ()
    module: str = ""

    def row(self, path: str, rgb: np.ndarray, **options: Any) -> dict[str, Any]:
        """Measure one image.

        Args:
            path: the image's, for the message.
            rgb: (H, W, 3) uint8.
            options: for the modality's ``measure_image``.

        Returns:
            Column -> value; what isn't a finite number is None.

        Raises:
            UserError: where another package's modality fails, or gives a column that it hasn't announced.
        """
        try:
            row = dict(self.measure(rgb, **options))
        except Exception as error:
            if not self.module:
                raise
            raise UserError(f"--modality {self.name}: {self.module} fails at {path}: {type(error).__name__}: {error}") from error
        if self.module and (strangers := [c for c in row if c not in self.measures]):
            raise UserError(f"--modality {self.name}: {self.module} gives '{strangers[0]}', which is not in its MEASURES")
        return {c: None if isinstance(v, float) and not math.isfinite(v) else v for c, v in row.items()}


def load_modality(name: str) -> Modality:
    """Import a modality: one that ships, or one that an installed package names among its entry points.

    Raises:
        UserError: where there is none of that name, or it can't be used.
    """
    if name in MODALITIES:
        module = importlib.import_module(MODALITIES[name])
        return Modality(name, module.MEASURES, module.measure_image, module.OF_THE_PHOTOGRAPH)
    from importlib.metadata import entry_points

    plugins = {found.name: found for found in entry_points(group=ENTRY_POINTS)}
    if name not in plugins:
        raise UserError(f"--modality {name}: unknown{nearest(name, [*MODALITIES, *plugins])}")
    where = plugins[name].value
    try:
        module = plugins[name].load()
        found = Modality(name, dict(module.MEASURES), module.measure_image, tuple(getattr(module, "OF_THE_PHOTOGRAPH", ())), where)
    except Exception as error:  # whatever another package's code does when it is imported
        raise UserError(f"--modality {name}: {where} can't be used: {type(error).__name__}: {error}") from error
    _check(found)
    return found


def _check(found: Modality) -> None:
    from pandas.api.types import pandas_dtype

    said = f"--modality {found.name}: MEASURES of {found.module}"
    if found.measures.get("state") != "string":
        raise UserError(f"{said} must have a column 'state' of type 'string'")
    for column, kind in found.measures.items():
        try:
            pandas_dtype(kind)
        except TypeError:
            raise UserError(f"{said} gives '{column}' the type '{kind}', which pandas doesn't know; most are 'float64'") from None
    if strangers := [c for c in found.of_the_photograph if c not in found.measures]:
        raise UserError(f"{said} lacks '{strangers[0]}', which its OF_THE_PHOTOGRAPH names")
