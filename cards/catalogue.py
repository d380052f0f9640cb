"""The string catalogue: every sentence of the card, and how numbers are written in its language."""

from __future__ import annotations

import datetime
import math
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cards.policy import Suppressed
from curate import UserError, nearest

ENGLISH = "en"


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
        strings: name -> text with ``{placeholders}``, or plural forms ``{one, other}`` (and ``hidden`` for a number not shown).
        plurals: the rule that chooses the form, one of `PLURALS`.
        registries: id -> the registry's words in this language, see `cards.registry.translated`.
        untranslated: names whose text is still English.
    """

    language: str
    direction: str
    strings: dict[str, Any]
    plurals: str = "one-other"
    registries: dict[str, Any] = field(default_factory=dict)
    untranslated: tuple[str, ...] = ()

    def __call__(self, name: str, /, **values: Any) -> str:
        """Give a sentence with its values filled in. An unknown name is a fault and raises KeyError."""
        text = self.strings[name]
        if isinstance(text, dict):
            n = values.get("n")
            form = "hidden" if isinstance(n, Suppressed) else PLURALS[self.plurals](n) if isinstance(n, int) else "other"
            text = text.get(form, text["other"])
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

    def percent(self, value: Any, places: int = 0) -> str:
        """Write a percentage: without decimals there is no 0 or 100 that isn't one."""
        if isinstance(value, Suppressed):
            return str(self.strings["hidden"])
        if value is None:
            return str(self.strings["none"])
        if places:
            text = self.decimal(value, places)
        elif 0 < value < 0.5:
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

    def date(self, text: str) -> str:
        """Write a date as the language does; text that isn't a date such as 2026-01-31 stays as it is."""
        try:
            day = datetime.date.fromisoformat(text)
        except ValueError:
            return text
        return str(self.strings["date"]).format(day=day.day, month=self.strings["months"][day.month - 1], year=day.year)

    def listed(self, items: list[str]) -> str:
        """Write a list inside a sentence."""
        if len(items) < 2:
            return "".join(items)
        return str(self.strings["list_last"]).format(first=self.strings["list_join"].join(items[:-1]), last=items[-1])


def _slavic(n: int) -> str:
    if n % 10 == 1 and n % 100 != 11:
        return "one"
    return "few" if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14) else "many"


def _polish(n: int) -> str:
    if n == 1:
        return "one"
    return "few" if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14) else "many"


def _arabic(n: int) -> str:
    if n < 3:
        return ("zero", "one", "two")[n]
    return "few" if 3 <= n % 100 <= 10 else "many" if n % 100 > 10 else "other"


# The forms of whole numbers by family of languages. Source: Unicode CLDR, language plural rules. A form that a text lacks is `other`.
PLURALS: dict[str, Callable[[int], str]] = {
    "one-other": lambda n: "one" if n == 1 else "other",
    "zero-one-other": lambda n: "one" if n in (0, 1) else "other",  # French, Brazilian Portuguese, Hindi
    "other": lambda _: "other",  # Chinese, Japanese, Korean, Vietnamese, Thai
    "czech": lambda n: "one" if n == 1 else "few" if n in (2, 3, 4) else "other",
    "polish": _polish,
    "slavic": _slavic,  # Russian, Ukrainian, Serbian, Croatian
    "arabic": _arabic,
}
FORMS = ("zero", "one", "two", "few", "many", "other", "hidden")


def languages() -> list[str]:
    """List the languages that the card comes in."""
    return sorted(p.stem for p in (templates_folder() / "strings").glob("*.yaml"))


def read_catalogue(language: str = ENGLISH) -> Catalogue:
    """Read the catalogue of a language.

    Args:
        language: one of `languages`, or the path of a translator's own file, which ends in ``.yaml``. What a file of one's own
            lacks stays English.

    Raises:
        UserError: where there is no such language, or a text has a name or a placeholder that the English one hasn't.
    """
    english = read_yaml(templates_folder() / "strings" / f"{ENGLISH}.yaml")
    if language == ENGLISH:
        return Catalogue(ENGLISH, english["direction"], english["strings"], english["plurals"])
    path = Path(language) if language.endswith((".yaml", ".yml")) else templates_folder() / "strings" / f"{language}.yaml"
    if not path.exists():
        raise UserError(
            f"--language {language}: there is no such language{nearest(language, languages())}; docs/how-to/translate.md says how"
        )
    content = _read_translation(path, english["strings"])
    given = content["strings"]
    return Catalogue(
        str(content["language"]),
        content["direction"],
        {**english["strings"], **given},
        content.get("plurals", "one-other"),
        content.get("registries") or {},
        tuple(k for k in english["strings"] if k not in given),
    )


def _read_translation(path: Path, english: dict[str, Any]) -> dict[str, Any]:
    import yaml

    try:
        content = read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not isinstance(content.get("strings"), dict) or not content.get("language"):
        raise UserError(f"{path}: expected the fields 'language', 'direction', 'plurals' and 'strings'")
    if content.get("direction") not in ("ltr", "rtl"):
        raise UserError(f"{path}: 'direction' must be ltr or rtl")
    if content.get("plurals", "one-other") not in PLURALS:
        raise UserError(f"{path}: 'plurals' must be one of {', '.join(PLURALS)}")
    for name, text in content["strings"].items():
        if name not in english:
            raise UserError(f"{path}: no text '{name}'{nearest(str(name), english)}")
        allowed = placeholders(english[name])
        for form in placeholders(text) - allowed:
            raise UserError(f"{path}, {name}: no placeholder '{{{form}}}'{nearest(form, sorted(allowed))}")
        if isinstance(text, dict) and ("other" not in text or set(text) - set(FORMS)):
            raise UserError(f"{path}, {name}: expected plural forms of {', '.join(FORMS)}, 'other' among them")
    return content


def placeholders(text: Any) -> set[str]:
    """List the placeholders of a text, over all its plural forms."""
    forms = text.values() if isinstance(text, dict) else text if isinstance(text, list) else [text]
    return {f for form in forms for _, f, _, _ in string.Formatter().parse(str(form)) if f is not None}
