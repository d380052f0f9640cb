"""The string catalogue: every sentence of the card, and how numbers are written in its language."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cards.policy import Suppressed


@cache
def templates_folder() -> Path:
    """Find the templates: inside the installed package, or beside it in a checkout.

    Raises:
        FileNotFoundError: where neither is there, which is a fault of the installation.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "templates", here.parent / "templates"):
        if (folder / "card.html.j2").exists():
            return folder
    raise FileNotFoundError("the card's templates are not installed: install evenfooting again")


def read_yaml(path: Path) -> Any:
    """Read a YAML file with plain values only."""
    import yaml

    return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@dataclass(frozen=True)
class Catalogue:
    """The sentences and number forms of one language.

    Attributes:
        language: BCP 47 tag.
        direction: ``"ltr"`` or ``"rtl"``.
        strings: name -> text with ``{placeholders}``, or plural forms ``{one, other}``.
    """

    language: str
    direction: str
    strings: dict[str, Any]

    def __call__(self, name: str, /, **values: Any) -> str:
        """Give a sentence with its values filled in. An unknown name is a fault and raises KeyError."""
        text = self.strings[name]
        if isinstance(text, dict):
            n = values.get("n")
            text = text["one" if isinstance(n, int) and n == 1 else "other"]
            if isinstance(n, Suppressed):
                text = self.strings[name].get("hidden", text)
        return str(text).format(**{k: self.number(v) for k, v in values.items()})

    def has(self, name: str) -> bool:
        """Say whether there is such a string."""
        return name in self.strings

    def number(self, value: Any) -> str:
        """Write a value inside a sentence: whole numbers with separators, hidden ones in words."""
        if isinstance(value, Suppressed):
            return str(self.strings["hidden"])
        if isinstance(value, int) and not isinstance(value, bool):
            return self.whole(value)
        return str(value)

    def whole(self, value: int) -> str:
        """Write a whole number with the language's separator of thousands."""
        return self._minus(f"{value:,}".replace(",", self.strings["thousands"]))

    def percent(self, value: Any) -> str:
        """Write a percentage: no decimals, and no 0 or 100 that isn't one."""
        if isinstance(value, Suppressed):
            return str(self.strings["hidden"])
        if value is None:
            return str(self.strings["none"])
        if 0 < value < 0.5:
            text = self.strings["below"].format(value=1)
        elif 99.5 <= value < 100:
            text = self.strings["above"].format(value=99)
        else:
            text = f"{math.floor(value + 0.5)}"
        return str(self.strings["percent"].format(value=text))

    def decimal(self, value: Any, places: int | None = None, *, sign: bool = False) -> str:
        """Write a number with decimals; without `places`, as many as it needs."""
        if isinstance(value, Suppressed):
            return str(self.strings["hidden"])
        if value is None:
            return str(self.strings["none"])
        if places is None:
            text = self._shortest(float(value))
        else:
            text = f"{value:.{places}f}"
            if float(text) == 0:
                text = text.lstrip("-")
        whole, dot, rest = text.partition(".")
        whole = (
            f"{int(whole):,}".replace(",", self.strings["thousands"]) if whole.lstrip("-").isdigit() and abs(int(whole)) >= 1000 else whole
        )
        text = whole + (self.strings["decimal"] + rest if dot else "")
        return ("+" if sign and value > 0 and float(f"{value:.{places or 3}f}") != 0 else "") + self._minus(text)

    @staticmethod
    def _shortest(value: float) -> str:
        if value and (abs(value) >= 1e7 or abs(value) < 1e-4):
            return f"{value:.3g}"
        return f"{value:.7f}".rstrip("0").rstrip(".")

    @staticmethod
    def _minus(text: str) -> str:
        return text.replace("-", "−") if text.startswith("-") else text

    def cell(self, value: Any, kind: str) -> str:
        """Write a table's cell of a given kind (see `cards.tables.KINDS`)."""
        if value is None:
            return str(self.strings["none"])
        if isinstance(value, str | Suppressed):
            return self.number(value)
        if kind == "percent":
            return self.percent(value)
        if kind in ("metric", "difference"):
            return self.decimal(value, 3, sign=kind == "difference")
        if kind == "p":
            return self.strings["below"].format(value=self.decimal(0.001, 3)) if 0 <= value < 0.001 else self.decimal(value, 3)
        return self.decimal(value) if isinstance(value, float) else self.number(value)

    def listed(self, items: list[str]) -> str:
        """Write a list inside a sentence."""
        if len(items) < 2:
            return "".join(items)
        return str(self.strings["list_last"]).format(first=self.strings["list_join"].join(items[:-1]), last=items[-1])


def read_catalogue(language: str = "en") -> Catalogue:
    """Read the catalogue of a language from the templates."""
    content = read_yaml(templates_folder() / "strings" / f"{language}.yaml")
    return Catalogue(content["language"], content["direction"], content["strings"])
