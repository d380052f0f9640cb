"""The `cards` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate import console
from curate.command import CohortDir, Debug, Json, Quiet, ShardsDir, new_app

app = new_app("Make the data card of a set: one HTML file that may be published, and its JSON twin.")

OutDir = Annotated[Path, typer.Option("--out", help="The card's folder.")]
RunsDir = Annotated[Path, typer.Option("--runs", help="The folder of pre-training runs.")]
EvaluationDir = Annotated[Path, typer.Option("--evaluation", help="The evaluation folder.")]
IdentifyDir = Annotated[Path, typer.Option("--identify", help="The folder of curate identify.")]
PolicyName = Annotated[str, typer.Option("--policy", help="Disclosure policy: opensafely, nhs_hes, ons_10, cms_11 or none.")]
Registries = Annotated[
    list[str] | None,
    typer.Option("--registry", metavar="NAME", help="Ask a further registry's items too: healthsheet, datasheets or beamrad; repeatable."),
]
Language = Annotated[
    str, typer.Option("--language", metavar="TAG", help="Language: en, de, or a translator's FILE.yaml.  [default: card.yaml's, else en]")
]
AnswersFile = Annotated[Path | None, typer.Option("--answers", help="The answers of people.  [default: card.yaml in --out]")]


@app.command()
def init(
    out: OutDir = Path("card"),
    cohort: CohortDir = Path("cohort"),
    shards: ShardsDir = Path("shards"),
    runs: RunsDir = Path("runs"),
    evaluation: EvaluationDir = Path("evaluation"),
    identify: IdentifyDir = Path("identify"),
    policy: PolicyName = "opensafely",
    registry: Registries = None,
    language: Language = "",
    update: Annotated[bool, typer.Option("--update", help="Add new items and computed lines to a card.yaml; answers stay.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write card.yaml: every item with its question, what a good answer holds and what was computed."""
    from cards.build import init_card

    made = init_card(
        out, cohort=cohort, shards=shards, runs=runs, evaluation=evaluation, identify=identify, policy=policy,
        registries=registry or (), language=language, renew=update,
    )  # fmt: skip
    if not made["written"]:
        console.say(f"{made['answers']}: " + ("up to date" if update else "there already; left as it is (--update adds what is new)"))
    elif update:
        console.say(f"{made['answers']}: brought up to date; added: {', '.join(made['added']) or 'computed lines alone'}")
    else:
        console.say(f"{made['answers']}: written; fill it in, then run: cards check, cards build")
    console.result(made)


@app.command()
def check(
    out: OutDir = Path("card"),
    cohort: CohortDir = Path("cohort"),
    shards: ShardsDir = Path("shards"),
    runs: RunsDir = Path("runs"),
    evaluation: EvaluationDir = Path("evaluation"),
    identify: IdentifyDir = Path("identify"),
    policy: PolicyName = "opensafely",
    answers: AnswersFile = None,
    registry: Registries = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where anything is open or contradicts the data.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List what is open in card.yaml, and what in it contradicts the data. There is no score."""
    from cards.check import check_card, print_check

    found = check_card(
        cohort=cohort, shards=shards, runs=runs, evaluation=evaluation, identify=identify, out=out, policy=policy,
        answers=answers, registries=registry or (),
    )  # fmt: skip
    print_check(found)
    console.result(found)
    if strict and not found["clear"]:
        raise typer.Exit(1)


@app.command()
def build(
    cohort: CohortDir = Path("cohort"),
    shards: ShardsDir = Path("shards"),
    runs: RunsDir = Path("runs"),
    evaluation: EvaluationDir = Path("evaluation"),
    identify: IdentifyDir = Path("identify"),
    out: OutDir = Path("card"),
    policy: PolicyName = "opensafely",
    answers: AnswersFile = None,
    registry: Registries = None,
    language: Language = "",
    previous: Annotated[
        Path | None, typer.Option("--previous", help="The published card that this one follows; hides what both would give away.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write card.html, card.json, README.md, croissant.json, chai.xml from the artefacts there are, and card.yaml where there is none."""
    from cards.build import build_card

    made = build_card(
        cohort=cohort, shards=shards, runs=runs, evaluation=evaluation, identify=identify, out=out, policy=policy,
        answers=answers, registries=registry or (), language=language, previous=previous,
    )  # fmt: skip
    states = ", ".join(f"{n} {state}" for state, n in sorted(made["states"].items(), key=lambda s: (-s[1], s[0])))
    console.say(f"{made['html']}: {made['bytes'] / 1000:,.0f} kB; {made['hidden']:,} numbers hidden by policy {policy}")
    console.say(f"items: {states}; people answer in {made['answers']}")
    lacking = ", ".join(f"{name} {len(lines)}" for name, lines in made["open"].items() if name in made["files"])
    console.say(f"for others: {', '.join(made['files'])}" + (f"; open: {lacking} (cards export says which)" if lacking else ""))
    if made["untranslated"]:
        console.warn(f"{made['untranslated']} texts are not translated and stay English")
    if policy == "none":
        console.warn("built without disclosure control: not for publication")
    console.result(made)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The earlier card: its folder, or its card.json.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The later card: likewise.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the comparison as a page, diff.html, into this folder.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what changed between two cards; refuse the later one where both together would give away a hidden number."""
    from cards.diff.page import diff_cards

    found = diff_cards(old, new, out)
    console.say(str(found.pop("text")))
    if found["page"]:
        console.say(f"\n{found['page']}: {found['changes']:,} changes")
    if not found["protected"]:
        console.warn("a card without disclosure control: not for publication")
    console.result(found)


@app.command()
def export(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="readme, croissant, chai, json-schema or tables (CSV).")],
    card: Annotated[Path, typer.Argument(metavar="CARD", help="The card's folder, or its card.json.")] = Path("card"),
    out: Annotated[Path | None, typer.Option("--out", help="The file, or the folder of several.  [default: beside card.json]")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write one format again from card.json alone, and say what it lacks."""
    from cards.exports.write import export_card

    made = export_card(form, card, out)
    console.say("\n".join(made["files"]))
    for line in made["open"]:
        console.warn(line)
    console.result(made)
