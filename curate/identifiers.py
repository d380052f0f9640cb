"""Direct identifiers: columns that name a person, recognised by what they are called and by what they hold.

Nothing that is found here is ever shown: messages and the ledger say which kind of identifier it was, not its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

_MOST = 20_000  # distinct values of a column that are looked at; a share needs no more

# Searched in column names with underscores, hyphens and capitals inside words read as spaces.
_NAMES = re.compile(
    r"^(name|names|nome|nombre|naam|nom|plz|cep|cpf|phone|mobile|cell|telefone|telefono|telephone|tel|zip|address|kin)$"
    r"|\b(dob|birth ?(da(te|y)|dt)|date ?(of )?birth|born( on)?|geburtsdatum|geboortedatum|data (de )?nascimento|fecha (de )?nacimiento"
    r"|date (de )?naissance"
    r"|(first|last|full|given|family|patient|subject|participant|middle|maiden|pt|gp|doctor|physician|mother|father|person|legal)"
    r"(?: ?s)? ?names?"
    r"|name (of )?(the )?(patient|subject|person|participant)|surname|forename|sobrenome|apellidos?|nachname|vorname|achternaam"
    r"|(home|patient|postal|street|email|e ?mail|ip|mailing|full) ?address(es)?|address ?(line)? ?\d*$|endereco|direccion|street"
    r"|post ?code|postal ?code|zip ?code|codigo postal|postleitzahl"
    r"|(tele|mobile|cell|home|work) ?(phone|tel)( ?(no|nr|number))?|(phone|mobile|tel|fax) ?(no|nr|number)|e ?mail"
    r"|nhs ?(no|nr|number|id)|chi ?number|mrn|medical record (no|number)|hospital (no|number)|ssn|social security|national ?id"
    r"|insurance ?(no|nr|number)|passport|driving licen[cs]e|next of kin|medicare ?(no|number))\b",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-zA-Z]{2,}")
_POSTCODE = re.compile(r"(?:GIR ?0AA|[A-PR-UWYZ][A-HK-Y]?\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2})", re.IGNORECASE)
_ZIP4 = re.compile(r"\d{5}-\d{4}")
_SSN = re.compile(r"(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")
_NINO = re.compile(r"(?![DFIQUV])[A-Z](?![DFIQUVO])[A-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", re.IGNORECASE)
_CPF = re.compile(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}")
_RESIDENT = re.compile(r"[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx]")
_NHS_SPACED = re.compile(r"\d{3}[ -]\d{3}[ -]\d{4}")
_PHONE = re.compile(
    r"\+\d{1,3}[ .-]?\(?0?\)?[ .-]?\d{2,4}(?:[ .-]?\d{2,4}){2,3}"  # +44 20 7946 0958
    r"|\(\d{2,5}\) ?\d{3,5}(?:[ .-]\d{3,4}){0,2}"  # (020) 7946 0958, (555) 123-4567
    r"|0[1-9]\d{1,4}[ .-]\d{3,4}(?:[ .-]?\d{3,4})?"  # 020 7946 0958, 07700 900123
    r"|07\d{9}"  # a British mobile without spaces
    r"|[2-9]\d{2}[.-][2-9]\d{2}[.-]\d{4}"  # 555-123-4567
)
_STREET = re.compile(
    r"\b\d{1,5}[a-z]?,? +(?:[\w'’.-]+ +){1,4}"
    r"(?:street|st|road|rd|avenue|ave|lane|ln|drive|close|crescent|court|way|place|terrace|gardens|square|boulevard|blvd|row|hill|mews)\b"
    r"|\b(?:rua|avenida|calle|rue|via) +[\w'’.-]+.*\d|\b[\w'’.-]+(?:stra(?:ß|ss)e|straat|weg) +\d{1,4}\b",
    re.IGNORECASE,
)
# "DR" and "MS" in capitals are diabetic retinopathy and multiple sclerosis.
_TITLE = r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Sir|Dame|Herr|Frau|Mme|Sra?|MR|MRS|MISS|PROF)\.? +[A-ZÀ-Þ][\w'’-]+"
_TITLED = re.compile(_TITLE + r"(?: +[A-ZÀ-Þ][\w'’.-]*){0,3}")
# Inside a sentence.
_WITHIN = re.compile(_TITLE + r"|\b\d{3}[ -]\d{3}[ -]\d{4}\b|\b07\d{9}\b|\b0\d{3,4} \d{3} ?\d{3,4}\b|\+\d{2} ?\d{2,4} ?\d{3,4} ?\d{3,4}")
_INSTITUTION = re.compile(
    r"\b(hospital|clinic|clinica|eye|centre|center|medical|university|institute|infirmary|trust|foundation|practice|surgery|optical|"
    r"zeiss|canon|topcon|nikon|heidelberg|optos|kowa|nidek|phelcom|volk|remidio|crystalvue|optovue|icare|camera|disease|syndrome)\b",
    re.IGNORECASE,
)
_DICOM_NAME = re.compile(r"[^\W\d_][^\^\d]*\^[^\W\d_][^\d]*")
_SURNAME_FIRST = re.compile(r"(?P<surname>[^\W\d_][\w'’ -]*), ?(?P<given>[^\W\d_][\w'’-]+)(?: +[^\W\d_][\w'’.-]*){0,2}")
_GIVEN_FIRST = re.compile(r"(?P<given>[A-ZÀ-Þ][\w'’-]+)(?: +(?:[A-ZÀ-Þ]\.?|[A-ZÀ-Þ][\w'’-]+|de|da|dos|van|von|bin|al|el|la)){1,3}")
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%Y", "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%B %d, %Y")
_DATE_SHAPE = re.compile(
    r"\d{4}([-/])\d{1,2}\1\d{1,2}(?!\d)|\d{8}(?!\d)|\d{1,2}([-/.])\d{1,2}\2\d{4}(?!\d)|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{4}(?!\d)|"
    r"[A-Z][a-z]{2,8} \d{1,2}, \d{4}$"
)
# Frequent given names of several countries: they tell "John Smith" from "Canon Medical".
_GIVEN = frozenset((Path(__file__).parent / "profiles" / "given-names.txt").read_text(encoding="utf-8").split())


def kind_by_name(column: str) -> str | None:
    """Say which kind of identifier a column's name promises, or None.

    Example:
        >>> kind_by_name("date_of_birth"), kind_by_name("lens_name"), kind_by_name("PatientName")
        ('its name', None, 'its name')
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"[\W_]+", " ", column)).strip()
    return "its name" if _NAMES.search(spaced) else None


def kind_of_value(text: str) -> str | None:
    """Say what kind of direct identifier one text alone looks like, or None where it doesn't.

    Args:
        text: a cell.

    Example:
        >>> kind_of_value("ann@example.org"), kind_of_value("943 476 5919"), kind_of_value("Canon CR-2")
        ('e-mail addresses', 'NHS numbers', None)
    """
    stripped = text.strip()
    if not _MAYBE.search(stripped):
        return None
    return next((kind for kind, (looks, _) in _KINDS.items() if kind not in _BY_SHARE and looks(stripped)), None)


def redact(text: str) -> str:
    """Give a text as it may be shown or recorded: itself, or what kind of identifier it looks like.

    Example:
        >>> redact("unsure"), redact("SMITH, John"), redact("1950-03-02")
        ('unsure', '(looks like personal names; not shown)', '(looks like a date; not shown)')
    """
    kind = kind_of_value(text) or ("personal names" if _is_given_first(text.strip()) else None)
    if kind is None and read_date(text.strip()) is not None:
        kind = "a date"
    return text if kind is None else f"(looks like {kind}; not shown)"


def kind_of_column(
    column: pd.Series, *, patients: pd.Series | None = None, acquired: pd.Series | None = None, ages: pd.Series | None = None
) -> str | None:
    """Say what kind of direct identifier a column holds, or None where it holds none.

    A date of birth is recognised by its distance from acquisition, which is the patient's age where that is known;
    names by titles, order ("SMITH, John") or frequent given names; numbers by their form and check digits.

    Args:
        column: text, "" or None where missing.
        patients: patient ids, on the same index; a date of birth is the same in all rows of a patient.
        acquired: ISO dates of acquisition, None where unknown, on the same index.
        ages: years, NaN where unknown, on the same index.
    """
    counts = column.dropna().astype(str).str.strip().value_counts()
    counts = counts[[v != "" for v in counts.index]]
    distinct = [str(v) for v in counts.index]
    if not distinct:
        return None
    if any("@" in v and _EMAIL.search(v) for v in distinct):
        return "e-mail addresses"
    looked, rows = distinct[:_MOST], counts.to_numpy()[:_MOST]
    if any(len(v.split()) > 3 and any(map(str.isalpha, v)) and _WITHIN.search(v) for v in looked):
        return "names or numbers of people within its text"
    for kind, (looks, share) in _KINDS.items():
        hits = np.array([looks(v) for v in looked])
        # Of the distinct values, lest one common word hide a hundred names, and of the rows, lest one slip of a pen lose a column.
        if hits.mean() >= share and rows[hits].sum() >= share * rows.sum():
            return kind
    if _are_names(column, looked, patients):
        return "personal names"
    return "dates of birth" if _are_births(column, looked, patients, acquired, ages) else None


def read_date(text: str) -> date | None:
    """Read a date in any usual form, or give None; where day and month could be exchanged, the day comes first."""
    if not _DATE_SHAPE.match(text):
        return None
    day = re.split(r"[T ](?=\d{2}:\d{2})", text)[0]
    for form in _DATES:
        try:
            found = datetime.strptime(day, form).date()
        except ValueError:
            continue
        return found if 1850 <= found.year <= 2100 else None
    return None


def _is_nhs(text: str) -> bool:
    digits = [int(c) for c in text if "0" <= c <= "9"]
    if len(digits) != 10 or len(set(digits)) == 1:
        return False
    check = 11 - sum(d * w for d, w in zip(digits, range(10, 1, -1), strict=False)) % 11
    return check % 11 == digits[9] and check != 10


def _is_cpf(text: str) -> bool:
    digits = [int(c) for c in text if "0" <= c <= "9"]
    if not _CPF.fullmatch(text) or len(set(digits)) == 1:
        return False
    return all(sum(d * w for d, w in zip(digits[:n], range(n + 1, 1, -1), strict=True)) * 10 % 11 % 10 == digits[n] for n in (9, 10))


def _is_resident(text: str) -> bool:
    if not _RESIDENT.fullmatch(text):
        return False
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(c) * w for c, w in zip(text, weights, strict=False)) % 11] == text[17].upper()


def _is_national(text: str) -> bool:
    return bool(_SSN.fullmatch(text) or _NINO.fullmatch(text)) or _is_cpf(text) or _is_resident(text)


@cache
def _is_surely_name(text: str) -> bool:
    if len(text) > 60 or any(c.isdigit() for c in text) or _INSTITUTION.search(text):
        return False
    if _TITLED.fullmatch(text) or _DICOM_NAME.fullmatch(text):
        return True
    match = _SURNAME_FIRST.fullmatch(text)
    return bool(match) and match["given"].casefold() in _GIVEN  # type: ignore[index]


@cache
def _is_given_first(text: str) -> bool:
    if len(text) > 60 or _INSTITUTION.search(text):
        return False
    match = _GIVEN_FIRST.fullmatch(text)
    return bool(match) and match["given"].casefold() in _GIVEN  # type: ignore[index]


# Kind -> (whether one value looks like it, share of a column's distinct values that must).
_KINDS: dict[str, tuple[Callable[[str], bool], float]] = {
    "e-mail addresses": (lambda t: bool(_EMAIL.search(t)), 0.0001),
    "NHS numbers": (lambda t: bool(_NHS_SPACED.fullmatch(t)) and _is_nhs(t), 0.5),
    "numbers with the NHS's check digit": (lambda t: bool(re.fullmatch(r"\d{10}", t)) and _is_nhs(t), 0.9),
    "national identity numbers": (_is_national, 0.5),
    "telephone numbers": (lambda t: bool(_PHONE.fullmatch(t)), 0.5),
    "postal codes": (lambda t: bool(_POSTCODE.fullmatch(t) or _ZIP4.fullmatch(t)), 0.5),
    "street addresses": (lambda t: len(t) < 200 and bool(_STREET.search(t)), 0.3),
    "personal names": (_is_surely_name, 0.4),
}
_BY_SHARE = frozenset({"numbers with the NHS's check digit"})  # one in eleven numbers has it by chance
# What a value needs to be looked at closely: most have none of it.
_MAYBE = re.compile(
    r"[@^,(+]|[^\W_][ .-]+[^\W_]|^07\d{9}$|^[A-Za-z]{1,2}\d[A-Za-z\d]?\d[A-Za-z]{2}$|^[A-Za-z]{2}\d{6}[A-Da-d]$|^\d{17}[\dXx]$"
)


def _are_names(column: pd.Series, distinct: list[str], patients: pd.Series | None) -> bool:
    """Names that one value wouldn't tell: nearly one a patient, "John Smith" or "Surname, Given" with any given name."""
    people = column[column.fillna("").astype(str).str.strip() != ""]
    if patients is not None:
        of = patients.loc[people.index]
        if len(distinct) < 0.3 * of.nunique() or (people.groupby(of).nunique() > 1).mean() > 0.1:
            return False
    if sum(map(_is_given_first, distinct)) >= 0.4 * len(distinct):
        return True
    return len(distinct) >= 5 and sum(bool(_SURNAME_FIRST.fullmatch(v) and v[0].isupper()) for v in distinct) >= 0.8 * len(distinct)


def _are_births(
    column: pd.Series, distinct: list[str], patients: pd.Series | None, acquired: pd.Series | None, ages: pd.Series | None
) -> bool:
    first = distinct[:200]
    if sum(read_date(v) is not None for v in first) < 0.4 * len(first):
        return False
    dates = {v: d for v in distinct if (d := read_date(v)) is not None}
    if len(dates) < 0.5 * len(distinct):
        return False
    text = column.fillna("").astype(str).str.strip()
    years = text.map({v: d.year + (d.timetuple().tm_yday - 1) / 365.25 for v, d in dates.items()}).astype(float)
    if patients is not None and (text[text != ""].groupby(patients[text != ""]).nunique() > 1).mean() > 0.1:
        return False
    known = pd.Series(np.nan, index=column.index)
    if acquired is not None:
        when = pd.to_datetime(acquired, errors="coerce")
        known = when.dt.year + (when.dt.day_of_year - 1) / 365.25
    gap = (known - years).dropna()
    if len(gap) and ages is not None and ages.loc[gap.index].notna().any():
        return bool(((gap - ages.loc[gap.index] - 0.5).dropna().abs() <= 1.5).mean() >= 0.5)
    spread = float(years.max() - years.min())
    if len(gap):
        # Nothing says how old people are: births lie years back and apart, the dates of a study don't.
        return bool(gap.between(0, 120).mean() >= 0.9 and gap.median() >= 10)
    return spread >= 15 or bool(years.median() < 1990)
