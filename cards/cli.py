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
PolicyName = Annotated[str, typer.Option("--policy", help="Disclosure policy: opensafely, nhs_hes, ons_10, cms_11 or none.")]


@app.command()
def init(
    out: OutDir = Path("card"),
    cohort: CohortDir = Path("cohort"),
    shards: ShardsDir = Path("shards"),
    runs: RunsDir = Path("runs"),
    evaluation: EvaluationDir = Path("evaluation"),
    policy: PolicyName = "opensafely",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write card.yaml: every item with its question, what a good answer holds and what was computed."""
    from cards.build import init_card

    made = init_card(out=out, cohort=cohort, shards=shards, runs=runs, evaluation=evaluation, policy=policy)
    console.say(
        f"{made['answers']}: " + ("written; fill it in, then run: cards build" if made["written"] else "there already; left as it is")
    )
    console.result(made)


@app.command()
def build(
    cohort: CohortDir = Path("cohort"),
    shards: ShardsDir = Path("shards"),
    runs: RunsDir = Path("runs"),
    evaluation: EvaluationDir = Path("evaluation"),
    out: OutDir = Path("card"),
    policy: PolicyName = "opensafely",
    answers: Annotated[Path | None, typer.Option("--answers", help="The answers of people. [default: card.yaml in --out]")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write card.html and card.json from whatever artefacts there are, and card.yaml where there is none."""
    from cards.build import build_card

    made = build_card(cohort=cohort, shards=shards, runs=runs, evaluation=evaluation, out=out, policy=policy, answers=answers)
    states = ", ".join(f"{n} {state}" for state, n in sorted(made["states"].items(), key=lambda s: (-s[1], s[0])))
    console.say(f"{made['html']}: {made['bytes'] / 1000:,.0f} kB; {made['hidden']:,} numbers hidden by policy {policy}")
    console.say(f"items: {states}; people answer in {made['answers']}")
    if policy == "none":
        console.warn("built without disclosure control: not for publication")
    console.result(made)
