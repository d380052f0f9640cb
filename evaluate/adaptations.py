"""The ways in which a backbone is adapted to a task, and what the command may change about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from curate import UserError, nearest
from evaluate.classifiers import LogisticSettings, NeighbourSettings
from evaluate.probe import Settings as ProbeSettings
from evaluate.training import TrainingSettings

AnySettings = TrainingSettings | ProbeSettings | LogisticSettings | NeighbourSettings
SETTINGS: Mapping[str, type[AnySettings]] = {
    "finetune": TrainingSettings,
    "probe-paper": TrainingSettings,
    "probe-cached": ProbeSettings,
    "logistic": LogisticSettings,
    "knn": NeighbourSettings,
}
ON_PHOTOGRAPHS = ("finetune", "probe-paper")
WITHOUT_SEEDS = ("logistic", "knn")
DEFAULT = ("probe-cached",)


@dataclass(frozen=True)
class Adaptation:
    """One way of adapting, with everything that is decided about it.

    Attributes:
        name: of `SETTINGS`.
        settings: of its kind.
        seeds: one head each.
    """

    name: str
    settings: AnySettings
    seeds: tuple[int, ...]

    @property
    def on_photographs(self) -> bool:
        """Whether it trains on photographs, and not on features that are computed once."""
        return self.name in ON_PHOTOGRAPHS

    def specification(self) -> dict[str, Any]:
        """Give what decides the result."""
        return {"seeds": len(self.seeds), **asdict(self.settings)}

    def described(self) -> dict[str, Any]:
        """Describe it for ``evaluation.json``."""
        frozen = {"frozen": self.name == "probe-paper"} if isinstance(self.settings, TrainingSettings) else {}
        return {"name": self.name, **self.specification(), **self.settings.described(**frozen)}


def choose_adaptations(names: Sequence[str] | None, changes: Sequence[str] | None, *, seeds: int, seed: int) -> list[Adaptation]:
    """Read ``--adapt`` and ``--set``.

    Args:
        names: of `SETTINGS`, or ``all``; None: `DEFAULT`.
        changes: ``NAME.FIELD=VALUE`` texts; several values with commas between.
        seeds: heads for each model and task, where seeds play a part.
        seed: of the first.

    Raises:
        UserError: where there is no such adaptation or field, or a value doesn't fit.
    """
    wanted = dict.fromkeys(name for given in names or DEFAULT for name in (SETTINGS if given == "all" else (given,)))
    for name in wanted:
        if name not in SETTINGS:
            raise UserError(f"--adapt {name}: not an adaptation{nearest(name, SETTINGS)}; known are {', '.join(SETTINGS)} and all")
    given: dict[str, dict[str, str]] = {name: {} for name in wanted}
    for change in changes or ():
        name, field, value = _parse(change)
        if name not in wanted:
            raise UserError(f"--set {change}: {name} is not asked for; add --adapt {name}")
        given[name][field] = value
    everyone = tuple(range(seed, seed + seeds))
    return [
        Adaptation(name, _settings(name, given[name]), everyone[:1] if name in WITHOUT_SEEDS else everyone)
        for name in SETTINGS
        if name in wanted
    ]


def _parse(change: str) -> tuple[str, str, str]:
    key, is_set, value = change.partition("=")
    name, has_field, field = key.strip().partition(".")
    if not is_set or not has_field:
        raise UserError(f"--set {change}: expected NAME.FIELD=VALUE, as finetune.epochs=5")
    if name not in SETTINGS:
        raise UserError(f"--set {change}: '{name}' is not an adaptation{nearest(name, SETTINGS)}")
    known = [f.name for f in fields(SETTINGS[name])]
    if field not in known:
        raise UserError(f"--set {change}: {name} has no field '{field}'{nearest(field, known)}")
    return name, field, value.strip()


def _settings(name: str, given: Mapping[str, str]) -> AnySettings:
    kind = SETTINGS[name]
    hints = get_type_hints(kind)
    values = {field: text.split(",") if get_origin(hints[field]) is tuple else text for field, text in given.items()}
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        field = str(detail["loc"][0]) if detail["loc"] else ""
        message = detail["msg"].removeprefix("Value error, ")
        shown = f"{name}.{field}={given[field]}" if field in given else ", ".join(f"{name}.{f}={v}" for f, v in given.items())
        raise UserError(f"--set {shown}: {message[0].lower()}{message[1:]}") from None
