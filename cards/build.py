"""Build a card: artefacts and answers in; card.html, its JSON twin and, where there is none, card.yaml out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cards.answers import ABOUT, Answer, AnswerFile, read_answers, resolve, write_answers
from cards.catalogue import read_catalogue
from cards.completeness import missing
from cards.composition import gate_steps
from cards.disclosure import Disclosure
from cards.measures import measures
from cards.overview import (
    given_about,
    glance,
    governance,
    identity,
    items,
    limits,
    models,
    protection_note,
    provenance_section,
    report,
    summary,
)
from cards.performance import performance
from cards.policy import Policy, policy_named
from cards.registry import Registry, read_registry
from cards.render import Page, render
from cards.sampling import sampling
from cards.sections import Answers, Section, Work
from cards.sources import read_sources
from cards.tables import Table, clean
from cards.who import who
from curate import UserError, provenance, read_json, sha256_file, sweep, writing

FILES = ("card.yaml", "card.html", "card.json")
FORMAT = "evenfooting card 1"


def build_card(
    *,
    cohort: Path = Path("cohort"),
    shards: Path = Path("shards"),
    runs: Path = Path("runs"),
    evaluation: Path = Path("evaluation"),
    out: Path = Path("card"),
    policy: str | Policy = "opensafely",
    answers: Path | None = None,
) -> dict[str, Any]:
    """Build the card.

    Args:
        cohort: the cohort folder; must be there.
        shards, runs, evaluation: the other artefacts; the card says so where one is absent.
        out: the card's folder. An existing card of this tool is built anew; its card.yaml is read and never written.
        policy: a preset's name, or a `Policy`.
        answers: the card.yaml to read; by default the one in `out`, if there is one.

    Returns:
        ``html``, ``json``, ``answers`` (paths), ``hidden`` (numbers not shown), ``states`` (state -> number of items).

    Raises:
        UserError: where an artefact or the answers can't be used, or `out` holds something else.
    """
    policy = policy_named(policy) if isinstance(policy, str) else policy
    _check_out(out)
    sources = read_sources(cohort, shards, runs, evaluation)
    registry, say = read_registry(), read_catalogue()
    answers_path = answers or out / "card.yaml"
    given = read_answers(answers_path, registry) if answers is not None or answers_path.exists() else None
    if given is not None:
        sources.digests["answers"] = sha256_file(answers_path)
    work = Work(sources, Disclosure(policy), say)
    made = assemble(work, registry, given)
    protection = protection_note(policy, work.protect.small, work.protect.linked, say)
    page = Page(made.title, made.about.get("version", ""), made.lead, protection, policy.protects, made.sections, registry, made.made_by)
    html = render(page, say)
    twin = _twin(page, made, work)
    out.mkdir(parents=True, exist_ok=True)
    if made.draft:
        _write(answers_path, made.draft)
    _write(out / "card.html", html)
    _write(out / "card.json", escape_json(json.dumps(twin, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"))
    states: dict[str, int] = {}
    for answer in made.answers:
        states[answer.state] = states.get(answer.state, 0) + 1
    paths = {"html": str(out / "card.html"), "json": str(out / "card.json"), "answers": str(answers_path)}
    sweep(out)
    return {**paths, "hidden": work.protect.small + work.protect.linked, "states": states, "bytes": len(html.encode())}


def init_card(
    out: Path = Path("card"),
    *,
    cohort: Path = Path("cohort"),
    shards: Path = Path("shards"),
    runs: Path = Path("runs"),
    evaluation: Path = Path("evaluation"),
    policy: str = "opensafely",
) -> dict[str, Any]:
    """Write card.yaml for people to fill in, with what can be computed where there is a cohort.

    Returns:
        ``answers`` (path) and ``written`` (False where the file was there already: it is never overwritten).
    """
    _check_out(out)
    path = out / "card.yaml"
    if path.exists():
        return {"answers": str(path), "written": False}
    registry, say = read_registry(), read_catalogue()
    draft = write_answers(registry, {}, say)
    if cohort.exists():
        work = Work(read_sources(cohort, shards, runs, evaluation), Disclosure(policy_named(policy)), say)
        draft = assemble(work, registry, None).draft
    out.mkdir(parents=True, exist_ok=True)
    _write(path, draft)
    return {"answers": str(path), "written": True}


@dataclass
class Assembled:
    """A card's content: sections in the reader's order, answers, and the draft of card.yaml where there was none (else empty)."""

    sections: list[Section]
    answers: list[Answer]
    about: dict[str, str]
    title: str
    lead: str
    made_by: dict[str, Any]
    draft: str


def assemble(work: Work, registry: Registry, answers: AnswerFile | None) -> Assembled:
    """Make all sections.

    Args:
        work: what every section needs.
        registry: the items.
        answers: what people answered; None where there is no card.yaml, which is then drafted.
    """
    given = answers or AnswerFile()
    about = given_about(given)
    title = about.get("title") or clean(work.sources.set_name)
    people, images = gate_steps(work)
    middle = [
        who(work),
        sampling(work, people, images),
        missing(work),
        measures(work),
        models(work),
        performance(work),
        limits(work),
        governance(work),
    ]
    tables = {t.id: t for s in middle for t in s.tables}
    computed = summary(work)
    lead = " ".join(given.items.get("1.1a", {}).get("answer", "").split()) or computed
    sections = [identity(work, about, computed), glance(work, tables), *middle]
    draft = "" if answers is not None else write_answers(registry, work.computed, work.say)
    if draft:  # the same digest as when the file is there: a second build gives the same card
        work.sources.digests["answers"] = hashlib.sha256(draft.encode()).hexdigest()
    made_by = provenance({"policy": work.protect.policy.describe(), "format": FORMAT}, work.sources.digests)
    sections += [provenance_section(work, made_by), report(work, about, title)]
    resolved = resolve(registry, given, work.computed, work.say)
    for section in sections:
        own = [a for a in resolved if a.item.section == section.id]
        if own:
            section.blocks.append(Answers(own))
    sections.append(items(work, registry, resolved))
    return Assembled(sections, resolved, about, title, lead, made_by, draft)


def _twin(page: Page, made: Assembled, work: Work) -> dict[str, Any]:
    """Give everything the page says as plain values."""
    tables: dict[str, Table] = {}
    for section in page.sections:
        for table in section.tables:
            assert table.id not in tables, table.id
            tables[table.id] = table
    protect = work.protect
    return {
        "format": FORMAT,
        "made_by": page.made_by,
        "language": work.say.language,
        "title": page.title,
        "summary": page.lead,
        "about": {name: made.about.get(name, "") for name in ABOUT},
        "disclosure": {
            **protect.policy.describe(),
            "hidden_small": protect.small,
            "hidden_linked": protect.linked,
            "statement": page.protection.text,
        },
        "sections": [s.to_json() for s in page.sections],
        "tables": {name: table.to_json() for name, table in tables.items()},
        "registry": {
            "id": page.registry.id,
            "title": page.registry.title,
            "version": page.registry.version,
            "official": page.registry.official,
        },
        "items": {a.item.id: a.to_json() for a in made.answers},
    }


def escape_json(text: str) -> str:
    """Escape what could end a script block or a line where JSON is put inside another text.

    Example:
        >>> print(escape_json('"</script>"'))
        "\\u003c/script>"
    """
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _check_out(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out}: is a file; choose another folder with --out")
    if (out / "card.json").exists():
        if read_json(out / "card.json", "a card").get("format") != FORMAT:
            raise UserError(f"{out}: its card.json was not made by this tool; choose another folder with --out")
        return
    foreign = sorted(p.name for p in out.iterdir() if p.name not in FILES and not p.name.startswith("."))
    if foreign:
        raise UserError(f"{out}: holds {foreign[0]} and no card; choose another folder with --out")


def _write(path: Path, text: str) -> None:
    with writing(path, "w") as file:
        file.write(text)
