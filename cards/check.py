"""``cards check``: what is open in card.yaml, and what in it contradicts the data. There is no score.

What it prints is for those who fill the card in. Its numbers are protected as the card's are.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cards.answer_file import read_answers
from cards.answers import STATES, Answer, AnswerFile, resolve
from cards.build import assemble, known_items
from cards.catalogue import read_catalogue
from cards.facts import Facts, Outcome
from cards.grammar import read_claims, small_counts
from cards.policy import Policy, policy_named
from cards.protection.building import protected
from cards.registry import Item, Registry, all_items, read_registries
from cards.sources import Sources, read_sources
from curate import console

# What the exports need, and which of them: one of the fields of a line is enough.
NEEDED = (
    (("title",), ("card.html", "croissant.json")),
    (("custodian",), ("card.html", "chai.xml")),
    (("contact",), ("card.html", "chai.xml")),
    (("licence",), ("croissant.json", "README.md")),
    (("url", "identifier"), ("croissant.json",)),
    (("creators", "custodian"), ("croissant.json",)),
    (("released",), ("croissant.json", "chai.xml")),
    (("version",), ("chai.xml",)),
    (("funding",), ("chai.xml",)),
)


def check_card(
    *,
    cohort: Path = Path("cohort"),
    shards: Path = Path("shards"),
    runs: Path = Path("runs"),
    evaluation: Path = Path("evaluation"),
    identify: Path = Path("identify"),
    out: Path = Path("card"),
    policy: str = "opensafely",
    answers: Path | None = None,
    registries: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare the answers with the data.

    Args:
        cohort, shards, runs, evaluation, identify: the artefacts; the cohort must be there.
        out: the card's folder.
        policy: by which numbers are told.
        answers: the card.yaml; by default the one in `out`.
        registries: further registries, beside those that the file switches on.

    Returns:
        ``file``; ``states`` (state -> ids of items); ``open`` (items that nobody answered: id, heading, line); ``about`` (fields that
        are missing or misshapen: fields, needed_by, why, line); ``contradictions`` (id, line, sentence, claim, data);
        ``states_that_do_not_fit`` and ``disclosing`` (id, line, why); ``compared`` (as contradictions, with ``agrees``); ``notes``;
        ``clear``: whether there is nothing to do.

    Raises:
        UserError: where an artefact or the answers can't be read.
    """
    path = answers or out / "card.yaml"
    given = read_answers(path, known_items())
    chosen = read_registries([*given.registries, *registries])
    facts = facts_of(read_sources(cohort, shards, runs, evaluation, identify), policy_named(policy), chosen, given.about)
    return {"file": str(path), **examine(given, all_items(chosen), facts)}


def facts_of(sources: Sources, policy: Policy, registries: Sequence[Registry], about: dict[str, str]) -> Facts:
    """Assemble the card without answers, and take from it what the data say."""
    say = read_catalogue()
    work, made = protected(sources, policy, say, lambda work: assemble(work, registries, AnswerFile(about=about)))
    return Facts(work, {t.id: t for s in made.sections for t in s.tables})


def examine(given: AnswerFile, items: Sequence[Item], facts: Facts) -> dict[str, Any]:
    """Compare a card.yaml that was read with the data; see `check_card`."""
    work, say = facts.work, facts.work.say
    misfits = list(_misfits(given, work.computed))
    bare = {i for i, *_ in misfits}
    softened = {k: {**e, "state": "" if k in bare and e["state"] == "reported" else e["state"]} for k, e in given.items.items()}
    resolved = resolve(items, AnswerFile(items=softened), work.computed, say)
    english = given.language in ("", "en")
    outcomes = list(_outcomes(given, facts)) if english else []
    line = lambda i: given.lines.get(f"items.{i}")  # noqa: E731
    open_items = [a for a in resolved if a.state == "not available" and not given.items.get(a.item.id, {}).get("reason")]
    found: dict[str, Any] = {
        "states": {s: [a.item.id for a in resolved if a.state == s] for s in STATES},
        "open": [{"id": a.item.id, "heading": a.item.heading, "line": line(a.item.id)} for a in open_items],
        "answered_by_computation_alone": [a.item.id for a in resolved if _computed_alone(a)],
        "about": list(_about(given)),
        "contradictions": [_told(given, i, o) for i, o in outcomes if o.contradicts],
        "states_that_do_not_fit": [{"id": i, "line": line(i), "why": why} for i, why in misfits],
        "disclosing": list(_disclosing(given, facts)),
        "compared": [{**_told(given, i, o), "agrees": None if o.contradicts is None else not o.contradicts} for i, o in outcomes],
        "notes": []
        if english
        else [f"the answers are in '{given.language}': their sentences were not compared, since only English is read"],
    }
    found["clear"] = not any(found[k] for k in ("open", "about", "contradictions", "states_that_do_not_fit", "disclosing"))
    return found


def _computed_alone(answer: Answer) -> bool:
    return answer.state == "reported" and not answer.answer


def _outcomes(given: AnswerFile, facts: Facts) -> Iterable[tuple[str, Outcome]]:
    vocabulary = facts.vocabulary()
    for identifier, entry in given.items.items():
        seen = set()
        for text in (entry["answer"], entry["reason"]):
            for claim in read_claims(text, vocabulary):
                key = (claim.rule, claim.about, claim.group, claim.value, claim.low, claim.high, claim.how)
                if key not in seen:
                    seen.add(key)
                    yield identifier, facts.compare(claim)


def _told(given: AnswerFile, identifier: str, outcome: Outcome) -> dict[str, Any]:
    claim = outcome.claim
    line = given.lines.get(f"items.{identifier}")
    return {"id": identifier, "line": line, "rule": claim.rule, "sentence": claim.sentence, "claim": claim.words, "data": outcome.data}


def _misfits(given: AnswerFile, computed: dict[str, list[str]]) -> Iterable[tuple[str, str]]:
    """Find states that can't be right, whatever the data."""
    for identifier, entry in given.items.items():
        state, words, reason = entry["state"], entry["answer"], entry["reason"]
        if state == "reported" and not words and not computed.get(identifier):
            yield identifier, "the state is 'reported', but there is no answer and nothing was computed"
        if state not in ("", "reported") and words:
            yield identifier, f"the state is '{state}', but there is an answer: leave the state empty, or move the words to 'reason'"
        if state in ("", "reported") and words and reason:
            yield identifier, "there are an answer and a reason: the reason is not shown"
        if state == "" and reason and not words:
            yield identifier, f"there is a reason but no state: choose one of {', '.join(STATES[1:])}"
        if state == "not applicable" and computed.get(identifier):
            yield identifier, f"the state is 'not applicable', but this was computed: {computed[identifier][0]}"


def _about(given: AnswerFile) -> Iterable[dict[str, Any]]:
    """Find fields that an export lacks, and values that none can use."""
    about = {k: v for k, v in given.about.items() if v}
    for fields, exports in NEEDED:
        if not any(f in about for f in fields):
            yield {"fields": list(fields), "needed_by": list(exports), "why": "not given", "line": given.lines.get(f"about.{fields[0]}")}
    shapes = {"released": _is_date, "url": _is_address, "contact": _is_contact}
    wanted = {
        "released": "is no date such as 2026-01-31",
        "url": "is no address that begins with https://",
        "contact": "is no e-mail or web address",
    }
    for name, fits in shapes.items():
        if name in about and not fits(about[name]):
            why = f"'{console.short(about[name])}' {wanted[name]}"
            yield {"fields": [name], "needed_by": [], "why": why, "line": given.lines.get(f"about.{name}")}


def _is_date(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text)) and len(text) == 10
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    return re.fullmatch(r"https?://[^\s/]+\.[^\s]+", text) is not None


def _is_contact(text: str) -> bool:
    return _is_address(text) or re.search(r"[^\s@]+@[^\s@]+\.[^\s@]+", text) is not None


def _disclosing(given: AnswerFile, facts: Facts) -> Iterable[dict[str, Any]]:
    """Find numbers in answers that the policy would not show, or would show rounded: answers are printed as they stand."""
    policy = facts.work.protect.policy
    if not policy.protects:
        return
    for identifier, entry in given.items.items():
        line = given.lines.get(f"items.{identifier}")
        for text in (entry["answer"], entry["reason"]):
            for sentence, n in small_counts(text, policy.threshold):
                yield {
                    "id": identifier,
                    "line": line,
                    "sentence": sentence,
                    "why": f"counts {n} people: the policy shows no count of 1 to {policy.threshold}",
                }
            numbers = [
                int(n.replace(",", ""))
                for n in re.findall(r"(?<![\d.,-])\d{1,3}(?:,\d{3})+(?![\d,-])|(?<![\d.,-])\d{2,9}(?![\d.,-]|\s?%)", text)
            ]
            for n in dict.fromkeys(facts.exact(numbers)):
                yield {
                    "id": identifier,
                    "line": line,
                    "sentence": "",
                    "why": f"{n:,} is an exact count; the card shows {policy.rounded(n):,}",
                }


def print_check(found: dict[str, Any]) -> None:
    """Print what was found, what contradicts first."""
    say = console.say
    place = lambda f: f"line {f['line']}, {f['id']}" if f.get("line") else str(f["id"])  # noqa: E731
    if found["contradictions"]:
        say("Contradicts the data:")
        for f in found["contradictions"]:
            say(f"  {place(f)}: “{console.short(f['sentence'], 160)}”")
            say(f"      read as: {f['rule']}, “{f['claim']}”")
            say(f"      the data: {f['data']}")
    for name, title in (("states_that_do_not_fit", "States that do not fit:"), ("disclosing", "Says more than the policy shows:")):
        if found[name]:
            say(title)
            for f in found[name]:
                quoted = f": “{console.short(f['sentence'], 120)}”" if f.get("sentence") else ""
                say(f"  {place(f)}{quoted}: {f['why']}")
    if found["about"]:
        say("Fields of about:")
        for f in found["about"]:
            needed = f" (for {', '.join(f['needed_by'])})" if f["needed_by"] else ""
            say(f"  {' or '.join(f['fields'])}: {f['why']}{needed}")
    if found["open"]:
        say("Open: nobody has answered, and no reason is given:")
        for f in found["open"]:
            say(f"  {place(f)}: {f['heading']}")
    if found["answered_by_computation_alone"]:
        say(f"Answered by what was computed alone: {', '.join(found['answered_by_computation_alone'])}")
    say("Items by state: " + "; ".join(f"{s}: {len(ids)}" for s, ids in found["states"].items() if ids))
    _print_compared(found["compared"])
    for note in found["notes"]:
        console.warn(note)
    if found["clear"]:
        say(f"{found['file']}: nothing is open, and nothing that was compared contradicts the data")


def _print_compared(compared: list[dict[str, Any]]) -> None:
    if not compared:
        console.say("Compared with the data: no sentence; only sizes, shares, balance, years, ages left out and what was recorded are read")
        return
    console.say("Compared with the data:")
    for f in compared:
        outcome = {True: "agrees", False: "contradicts", None: "could not be compared"}[f["agrees"]]
        console.say(f"  {f['id']}: {f['rule']}, “{f['claim']}” | {f['data']} | {outcome}")
