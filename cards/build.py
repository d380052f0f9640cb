"""Build a card: artefacts and answers in; card.html, its JSON twin and, where there is none, card.yaml out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cards.answer_draft import draft, update
from cards.answer_file import parse_answers, read_answers
from cards.answers import ABOUT, Answer, AnswerFile, resolve
from cards.catalogue import ENGLISH, languages, read_catalogue
from cards.completeness import missing
from cards.composition import gate_steps
from cards.exports.content import FORMAT
from cards.exports.files import describe_set
from cards.exports.write import check_exports, is_export, write_exports
from cards.matters import matters
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
from cards.protection.building import headline_counts, protected
from cards.protection.reading import read_twin, words_of
from cards.registry import Registry, all_items, read_registries, read_registry, registry_names
from cards.render import Page, render
from cards.sampling import sampling
from cards.sections import Answers, Section, Work
from cards.sources import read_sources
from cards.tables import Table, clean
from cards.who import who
from curate import UserError, provenance, read_json, sha256_file, sweep, writing

FILES = ("card.yaml", "card.html", "card.json")


def build_card(
    *,
    cohort: Path = Path("cohort"),
    shards: Path = Path("shards"),
    runs: Path = Path("runs"),
    evaluation: Path = Path("evaluation"),
    identify: Path = Path("identify"),
    out: Path = Path("card"),
    policy: str | Policy = "opensafely",
    answers: Path | None = None,
    registries: Sequence[str] = (),
    language: str = "",
    previous: Path | None = None,
) -> dict[str, Any]:
    """Build the card.

    Args:
        cohort: the cohort folder; must be there.
        shards, runs, evaluation, identify: the other artefacts; the card says so where one is absent.
        out: the card's folder. An existing card of this tool is built anew; its card.yaml is read and never written.
        policy: a preset's name, or a `Policy`.
        answers: the card.yaml to read; by default the one in `out`, if there is one.
        registries: further registries to answer, beside those that card.yaml switches on.
        language: of the card; by default the one that card.yaml names, else English. See `cards.catalogue.read_catalogue`.
        previous: the published card that this one follows (its folder or card.json): numbers that the two together would
            give away are hidden.

    Returns:
        ``html``, ``json``, ``answers`` (paths), ``files`` (names of the exports beside them), ``open`` (export -> what it lacks, a
        line each), ``hidden`` (numbers not shown), ``states`` (state -> number of items),
        ``untranslated`` (texts that the language lacks).

    Raises:
        UserError: where an artefact or the answers can't be used, or `out` holds something else.
    """
    policy = policy_named(policy) if isinstance(policy, str) else policy
    _check_out(out)
    sources = read_sources(cohort, shards, runs, evaluation, identify)
    answers_path = answers or out / "card.yaml"
    given = read_answers(answers_path, known_items()) if answers is not None or answers_path.exists() else None
    say = read_catalogue(language or _own_language(given))
    chosen = read_registries([*(given.registries if given else ()), *registries], say)
    if given is not None:
        sources.digests["answers"] = sha256_file(answers_path)
    before = None if previous is None else read_twin(previous)
    work, made = protected(sources, policy, say, lambda work: assemble(work, chosen, given), before)
    protection = protection_note(policy, work.protect.small, work.protect.linked, say)
    page = Page(made.title, made.about.get("version", ""), made.lead, protection, policy.protects, made.sections, chosen[0], made.made_by)
    html = render(page, say)
    twin = {**_twin(page, made, work), "set": describe_set(sources, shards)}
    out.mkdir(parents=True, exist_ok=True)
    if made.draft:
        _write(answers_path, made.draft)
    _write(out / "card.html", html)
    text = escape_json(json.dumps(twin, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
    _write(out / "card.json", text)
    exported = write_exports(json.loads(text), out)
    states: dict[str, int] = {}
    for answer in made.answers:
        states[answer.state] = states.get(answer.state, 0) + 1
    paths = {"html": str(out / "card.html"), "json": str(out / "card.json"), "answers": str(answers_path), **exported}
    sweep(out)
    hidden = work.protect.small + work.protect.linked
    return {**paths, "hidden": hidden, "states": states, "bytes": len(html.encode()), "untranslated": len(say.untranslated)}


def init_card(
    out: Path = Path("card"),
    *,
    cohort: Path = Path("cohort"),
    shards: Path = Path("shards"),
    runs: Path = Path("runs"),
    evaluation: Path = Path("evaluation"),
    identify: Path = Path("identify"),
    policy: str = "opensafely",
    registries: Sequence[str] = (),
    language: str = "",
    renew: bool = False,
) -> dict[str, Any]:
    """Write card.yaml for people to fill in, with what can be computed where there is a cohort.

    Args:
        out: the card's folder.
        cohort, shards, runs, evaluation, identify: the artefacts; each may be absent.
        policy: a preset's name.
        registries: further registries whose items are asked too.
        language: in which to ask.
        renew: bring a file that is there up to date: add items, fields and newly computed lines, keep what people wrote.

    Returns:
        ``answers`` (path), ``written`` (whether the file changed) and ``added`` (items and fields that it lacked).
    """
    _check_out(out)
    path = out / "card.yaml"
    there = path.read_text(encoding="utf-8") if path.exists() else None
    if there is not None and not renew:
        return {"answers": str(path), "written": False, "added": []}
    given = None if there is None else parse_answers(path, there, known_items())
    say = read_catalogue(language or _own_language(given))
    chosen = read_registries([*(given.registries if given else ()), *registries], say)
    computed: dict[str, list[str]] = {}
    added: list[str] = []
    if cohort.exists():
        sources = read_sources(cohort, shards, runs, evaluation, identify)
        work, _ = protected(sources, policy_named(policy), say, lambda work: assemble(work, chosen, AnswerFile()))
        computed = work.computed
    if there is None:
        text = draft(chosen, computed, say)
    else:
        text, added = update(path, there, chosen, computed, say)
    out.mkdir(parents=True, exist_ok=True)
    if text != there:
        _write(path, text)
    return {"answers": str(path), "written": text != there, "added": added}


def known_items() -> list[str]:
    """List the ids of all items of all registries: an answer to one that is switched off may wait in the file."""
    return [i.id for i in all_items(read_registry(n) for n in registry_names())]


def _own_language(given: AnswerFile | None) -> str:
    """Take the language of the answers, where the card comes in it."""
    return given.language if given is not None and given.language in languages() else ENGLISH


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


def assemble(work: Work, registries: Sequence[Registry], answers: AnswerFile | None) -> Assembled:
    """Make all sections.

    Args:
        work: what every section needs.
        registries: the items, the main registry first.
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
        matters(work),
        models(work),
        performance(work),
        limits(work),
        governance(work),
    ]
    tables = {t.id: t for s in middle for t in s.tables}
    computed = summary(work, tables)
    lead = " ".join(given.items.get("1.1a", {}).get("answer", "").split()) or computed
    sections = [identity(work, about, computed), glance(work, tables), *middle]
    first_draft = "" if answers is not None else draft(registries, work.computed, work.say)
    if first_draft:  # the same digest as when the file is there: a second build gives the same card
        work.sources.digests["answers"] = hashlib.sha256(first_draft.encode()).hexdigest()
    made_by = provenance({"policy": work.protect.policy.describe(), "format": FORMAT}, work.sources.digests)
    sections += [provenance_section(work, made_by), report(work, about, title)]
    resolved = resolve(all_items(registries), given, work.computed, work.say)
    for section in sections:
        own = [a for a in resolved if a.item.section == section.id]
        if own:
            section.blocks.append(Answers(own))
    sections.append(items(work, registries, resolved))
    return Assembled(sections, resolved, about, title, lead, made_by, first_draft)


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
        "words": words_of(work.say),
        "title": page.title,
        "summary": page.lead,
        "about": {name: made.about.get(name, "") for name in ABOUT},
        "disclosure": {
            **protect.policy.describe(),
            "hidden_small": protect.small,
            "hidden_linked": protect.linked,
            "statement": page.protection.text,
        },
        "counts": headline_counts(work),
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
    check_exports(out)
    if (out / "card.json").exists():
        if read_json(out / "card.json", "a card").get("format") != FORMAT:
            raise UserError(f"{out}: its card.json was not made by this tool; choose another folder with --out")
        return
    foreign = sorted(p.name for p in out.iterdir() if p.name not in FILES and not is_export(p.name) and not p.name.startswith("."))
    if foreign:
        raise UserError(f"{out}: holds {foreign[0]} and no card; choose another folder with --out")


def _write(path: Path, text: str) -> None:
    with writing(path, "w") as file:
        file.write(text)
