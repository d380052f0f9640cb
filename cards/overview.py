"""The card's frame: what it is, its numbers at a glance, the models, limits, governance, provenance, how to report."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from cards.answers import Answer, AnswerFile
from cards.catalogue import Catalogue
from cards.composition import attribute_label, groups_with_people, inline_label
from cards.policy import Policy, Suppressed
from cards.registry import Registry
from cards.sampling import normalised_entropy
from cards.sections import Citation, Facts, Glance, ItemList, Note, Section, TableBlock, Work
from cards.tables import Cell, Column, Table, clean

# What the first section says, in order; of these the expected ones are said to be absent where they are.
FRONT = (
    "custodian", "creators", "released", "version", "licence", "access", "identifier", "url", "contact", "funding", "competing_interests",
)  # fmt: skip
EXPECTED = ("custodian", "released", "version", "licence", "access", "identifier", "contact")


def summary(work: Work, tables: Mapping[str, Table]) -> str:
    """Say in words that a patient can read what this is, from what was computed."""
    say, sample = work.say, work.sources.sample
    has_set = sample is not None
    images, people = (work.set_images, work.set_people) if has_set else (work.source_images, work.source_people)
    first = _sentence(work, images, people, tables)
    if work.sources.cohort.about.get("synthetic"):
        first = f"{first} {say('summary_synthetic')}"
    if has_set and sample:
        balance = [inline_label(work, a) for a in sample.get("balance") or []]
        key = "summary_balanced" if str(sample.get("target", "uniform")) == "uniform" else "summary_target"
        chosen = say(key, balance=say.listed(balance)) if balance else say("summary_drawn")
        short = [a for a in sample.get("allocation") or [] if float(a.get("shortfall") or 0) > 0 and float(a["target"]) > 0]
        if balance and short:
            chosen = f"{chosen} {say('summary_short', n=len(short))}"
        return " ".join([first, chosen, say("summary_use_set")])
    return " ".join([first, say("summary_use_archive")])


def _sentence(work: Work, images: Any, people: Any, tables: Mapping[str, Table]) -> str:
    say = work.say
    period, more = _period(work, tables)
    if isinstance(people, Suppressed) or people is None:
        return say("summary_hidden")
    count = say("n_images", n=images) if not isinstance(images, Suppressed) else say("some_images")
    if not period:
        return say("summary_first", images=count, people=say("n_people", n=people))
    return say("summary_first_mostly" if more else "summary_first_period", images=count, people=say("n_people", n=people), period=period)


def _period(work: Work, tables: Mapping[str, Table]) -> tuple[str, bool]:
    """Give the years in which the photographs were taken, as far as the table of years shows them, and whether it hides any."""
    table = tables.get("year")
    if table is None:
        return "", False
    counts = table.column("set" if any(column.id == "set" for column in table.columns) else "source")
    years = dict(zip(map(str, table.column("group")), counts, strict=True))
    years = {year: n for year, n in years.items() if year.isdigit()}
    shown = sorted(year for year, n in years.items() if isinstance(n, int) and n > 0)
    if not shown:
        return "", False
    period = shown[0] if shown[0] == shown[-1] else work.say("period", first=shown[0], last=shown[-1])
    return period, any(isinstance(n, Suppressed) and not shown[0] < year < shown[-1] for year, n in years.items())


def identity(work: Work, about: dict[str, str], text: str) -> Section:
    """Build the first section: the sentence for everyone, and who answers for it."""
    say = work.say
    rows = [
        (say(f"about_{name}"), say.date(about[name]) if about.get(name) else say("not_given"))
        for name in FRONT
        if about.get(name) or name in EXPECTED
    ]
    section = Section("identity", say("section_identity"), [], [Facts(rows)])
    value = lambda n: say("about_value", name=say(f"about_{n}"), value=say.date(about[n]))  # noqa: E731
    work.compute("1.1a", text)
    work.compute("1.1b", *(value(n) for n in FRONT if about.get(n) and n not in ("contact", "funding", "competing_interests")))
    work.compute("1.1c", *(value(n) for n in ("creators", "funding", "competing_interests") if about.get(n)))
    return section


def glance(work: Work, tables: dict[str, Table]) -> Section:
    """Build the six numbers. They come from the tables of the other sections, so they are protected like those."""
    say, sample = work.say, work.sources.sample
    has_set = sample is not None
    rows: list[tuple[str, str, str]] = []
    beside = lambda count: say("of_archive_count", n=count) if has_set else ""  # noqa: E731
    rows.append((say.number(work.set_images if has_set else work.source_images), say("glance_images"), beside(work.source_images)))
    rows.append((say.number(work.set_people if has_set else work.source_people), say("glance_people"), beside(work.source_people)))
    if "allocation" in tables and sample is not None:
        table = tables["allocation"]
        wanted = [i for i, t in enumerate(table.column("target")) if isinstance(t, int) and t > 0]
        before, after = (
            normalised_entropy([c for i, c in enumerate(table.column(n)) if i in wanted and isinstance(c, int | Suppressed)])
            for n in ("available", "allocated")
        )
        balance = [inline_label(work, a) for a in sample.get("balance") or []]
        rows.append(
            (say.decimal(after, 2), say("glance_balance", balance=say.listed(balance)), say("glance_before", value=say.decimal(before, 2)))
        )
    else:
        rows.append(_how_many(work, tables.get("site"), "site", "glance_sites"))
    rows.append(_share_of(work, tables.get("sex"), say("group_female"), say("glance_female"), has_set))
    rows.append(_gap(work, tables.get("missing"), attribute_label(work, "ethnicity"), say("glance_ethnicity"), has_set))
    rows.append(_last(work, tables))
    section = Section("glance", say("section_glance"))
    section.blocks.append(Glance(rows))
    return section


def _share_of(work: Work, table: Table | None, group: str, label: str, has_set: bool) -> tuple[str, str, str]:
    return _pick(work, table, group, label, has_set, absent=work.say("none"))


def _gap(work: Work, table: Table | None, column: str, label: str, has_set: bool) -> tuple[str, str, str]:
    return _pick(work, table, column, label, has_set, absent=work.say.percent(100.0))


def _pick(work: Work, table: Table | None, row_name: str, label: str, has_set: bool, *, absent: str) -> tuple[str, str, str]:
    if table is None:
        return work.say("none"), label, ""
    names = [c.id for c in table.columns]
    row = next((r for r in table.rows if r[0] == row_name), None)
    if row is None:
        return absent, label, ""
    cells: dict[str, Any] = dict(zip(names, row, strict=True))
    if "set_share" in cells:
        return work.say.percent(cells["set_share"]), label, work.beside(cells["source_share"])
    return work.say.percent(cells["source_share"]), label, work.say("in_archive") if has_set else ""


def _last(work: Work, tables: dict[str, Table]) -> tuple[str, str, str]:
    say = work.say
    if "gates" in tables and work.sources.sample is not None:
        gates = [g["gate"] for g in work.sources.sample["gates"]]
        if "holdout" in gates:
            removed = tables["gates"].column("people_removed")[gates.index("holdout")]
            return say.cell(removed, "count"), say("glance_heldout"), ""
    return _how_many(work, tables.get("device"), "device", "glance_devices")


def _how_many(work: Work, table: Table | None, attribute: str, label: str) -> tuple[str, str, str]:
    """Count the sites or devices that people of the set come from, as far as the table shows it; else those of the archive."""
    say, has_set = work.say, work.sources.sample is not None
    count, everywhere = groups_with_people(work, table, attribute)
    if not everywhere:
        return say("none"), say(label, n=0), ""
    if count is None:
        return say.number(everywhere), say(label, n=everywhere), say("in_archive") if has_set else ""
    return say.number(count), say(label, n=count), say("of_archive_count", n=everywhere)


def protection_note(policy: Policy, small: int, linked: int, say: Catalogue) -> Note:
    """State the policy and how many numbers it hid; a banner where there is no protection."""
    if not policy.protects:
        return Note(say("unprotected_lead"), say("unprotected"))
    parts = [say("protected_threshold", threshold=policy.threshold)]
    parts.append(say("protected_rounded", base=policy.base) if policy.base > 1 else say("protected_exact"))
    if not policy.zeros:
        parts.append(say("protected_zeros"))
    if linked:
        parts.append(say("protected_hidden", n=small, linked=linked))
    else:
        parts.append(say("protected_hidden_small", n=small) if small else say("protected_hidden_none"))
    parts.append(say("protected_limits", policy=policy.name))
    return Note(say("protected_lead"), " ".join(parts))


_RECIPE = (
    ("method", "method"), ("model.architecture", "architecture"), ("data.size", "size"), ("optim.samples", "samples"),
    ("optim.batch", "batch"), ("optim.lr", "lr"), ("optim.base_lr", "base_lr"), ("mae.mask_ratio", "mask"),
)  # fmt: skip


def models(work: Work) -> Section:
    """Build the section on models trained on the set, one row a run."""
    say, runs = work.say, work.sources.runs
    section = Section("models", say("section_models"))
    if not runs:
        section.text.append(say("models_none"))
        return section
    section.text.append(say("models_lead", n=len(runs)))
    names = list(runs)[:12]
    columns = [Column("what", say("run")), *(Column(f"run_{i}", clean(name)) for i, name in enumerate(names))]
    rows: list[list[Cell]] = []
    for path, key in _RECIPE:
        # The base rate says nothing where the rate itself was given.
        given = [key == "base_lr" and _at(runs[n].get("recipe") or {}, "optim.lr") is not None for n in names]
        cells = [None if g else _at(runs[n].get("recipe") or {}, path) for n, g in zip(names, given, strict=True)]
        if any(c is not None for c in cells):
            rows.append([say(f"recipe_{key}"), *cells])
    rows.append(
        [
            say("recipe_status"),
            *(say(f"status_{s}") if say.has(f"status_{s}") else clean(s) for s in (str(runs[n].get("status", "")) for n in names)),
        ]
    )
    rows.append([say("recipe_loss"), *(_rounded((runs[n].get("result") or {}).get("final_loss")) for n in names)])
    rows.append([say("recipe_same"), *(_same_set(work, runs[n]) for n in names)])
    rows.append([say("recipe_weights"), *(str((runs[n].get("result") or {}).get("backbone_sha256") or "")[:16] or None for n in names)])
    section.blocks.append(TableBlock(Table("runs", say("table_runs"), columns, rows, notes=[say("note_runs")])))
    return section


def _at(recipe: dict[str, Any], path: str) -> Cell:
    value: Any = recipe
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool) or value is None:
        return None
    return value if isinstance(value, int | float) else clean(value, 60)


def _rounded(value: Any) -> Cell:
    return float(f"{value:.3g}") if isinstance(value, int | float) and value == value else None


def _same_set(work: Work, run: dict[str, Any]) -> str:
    sample, trained = work.sources.sample, run.get("shards") or {}
    if sample is None or not trained.get("digest"):
        return work.say("set_unknown")
    return (
        work.say("set_this")
        if trained["digest"] == work.sources.digests.get("shards")
        else work.say("set_other", name=clean(trained.get("name") or "", 60))
    )


def governance(work: Work) -> Section:
    """Build the section on ethics and governance, which people alone can answer."""
    return Section("governance", work.say("section_governance"), [work.say("governance_lead")])


def limits(work: Work) -> Section:
    """Build the section on limits: what follows from the numbers, beside what people know."""
    say = work.say
    section = Section("limits", say("section_limits"), [say("limits_lead")])
    found = [*work.computed.get("1.3c", [])]
    table = work.sources.source
    nobody = [a for a in ("age", "sex", "ethnicity", "device", "site") if a not in table or table[a].notna().sum() == 0]
    if nobody:
        found.append(say("limit_unrecorded", n=len(nobody), attributes=say.listed([inline_label(work, a) for a in nobody])))
    if work.sources.sample is not None and work.sources.chosen is None:
        found.append(say("limit_keys"))
    if work.sources.cohort.about.get("patients_known") is False:
        found.append(say("note_patients"))
    found.append(say("limit_pretraining"))
    section.text.extend(found)
    work.compute("1.3a", *found)
    return section


def provenance_section(work: Work, made_by: dict[str, Any]) -> Section:
    """Build the section on provenance: which command made each artefact, with which version, and digests of the inputs."""
    say, sources = work.say, work.sources
    section = Section("provenance", say("section_provenance"), [say("provenance_lead", version=made_by["version"])])
    made = [
        ("cohort", sources.cohort.about),
        ("identify", sources.identified),
        ("shards", sources.sample),
        *((f"runs/{n}", r) for n, r in sources.runs.items()),
        ("evaluation", sources.evaluation),
    ]
    rows: list[list[Cell]] = []
    for name, artefact in made[:40]:
        by = (artefact or {}).get("made_by") or {}
        if artefact is not None:
            rows.append(
                [
                    clean(name),
                    clean(by.get("version") or say("none")),
                    None if by.get("seed") is None else str(by["seed"]),
                    clean(by.get("command") or say("none"), 300),
                ]
            )
    columns = [
        Column("artefact", say("artefact")),
        Column("version", say("version")),
        Column("seed", say("seed")),
        Column("command", say("command")),
    ]
    section.blocks.append(TableBlock(Table("commands", say("table_commands"), columns, rows)))
    digests: list[list[Cell]] = [[clean(k), v] for k, v in sorted(made_by["inputs"].items())]
    section.blocks.append(
        TableBlock(
            Table("digests", say("table_digests"), [Column("input", say("input")), Column("digest", "SHA-256")], digests),
            folded=say("table_digests"),
        )
    )
    return section


def report(work: Work, about: dict[str, str], title: str) -> Section:
    """Build the section on how to report a problem and how to cite."""
    say = work.say
    contact = about.get("contact")
    section = Section(
        "report", say("section_report"), [say("report_contact", contact=contact) if contact else say("report_none"), say("report_what")]
    )
    upkeep = [(say(f"about_{n}"), say.date(about[n])) for n in ("maintenance", "next_update") if about.get(n)]
    if upkeep:
        section.blocks.append(Facts(upkeep))
    section.blocks.append(Citation(about.get("citation") or _citation(work, about, title), bibtex(about, title)))
    return section


def _citation(work: Work, about: dict[str, str], title: str) -> str:
    parts = [
        about.get("creators") or about.get("custodian"),
        title,
        about.get("version") and work.say("cite_version", version=about["version"]),
        work.say.date(about.get("released", "")),
        about.get("identifier") or about.get("url"),
    ]
    return ". ".join(str(p).rstrip(".") for p in parts if p) + "."


def bibtex(about: dict[str, str], title: str) -> str:
    """Write the citation as a BibTeX entry for data.

    Args:
        about: the fields that people filled in.
        title: the set's name.

    Example:
        >>> print(bibtex({"custodian": "Eye clinic & partners", "released": "2026-01-31", "version": "1.0"}, "A set"))
        @misc{aset2026,
          title = {{A set}},
          author = {{Eye clinic \\& partners}},
          year = {2026},
          version = {1.0},
        }
    """
    authors = [n.strip() for n in (about.get("creators") or about.get("custodian") or "").split(";") if n.strip()]
    year = re.match(r"\d{4}", about.get("released", ""))
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    key = re.sub(r"[^a-z0-9]", "", plain)[:24] or "dataset"
    identifier = about.get("identifier", "")
    doi = re.search(r"10\.\d{4,9}/\S+", identifier)
    fields = {
        "title": "{" + _tex(title) + "}",
        "author": " and ".join("{" + _tex(a) + "}" for a in authors),
        "year": year[0] if year else "",
        "version": _tex(about.get("version", "")),
        "doi": _tex(doi[0]) if doi else "",
        "url": _tex(about.get("url", "")),
    }
    lines = [f"  {k} = {{{v}}}," for k, v in fields.items() if v]
    return "\n".join([f"@misc{{{key}{year[0] if year else ''},", *lines, "}"])


def _tex(text: str) -> str:
    """Escape what means something to TeX; braces and backslashes are left out."""
    return re.sub(r"([&%$#_])", r"\\\1", re.sub(r"[{}\\~^]", "", text))


def items(work: Work, registries: Sequence[Registry], answers: list[Answer]) -> Section:
    """Build the last section: every item of every registry by part with its state. There is no score."""
    say, registry = work.say, registries[0]
    section = Section(
        "items", say("section_items"), [say("items_lead", title=registry.title, version=registry.version), say("items_paraphrase")]
    )
    section.blocks.append(ItemList(_parts(registry, answers)))
    for waiting in registry.awaiting:
        section.blocks.append(Note(say("items_awaiting", n=int(waiting["number"])), str(waiting["reason"])))
    for further in registries[1:]:
        lead = say("items_further", version=further.version)
        section.blocks.append(ItemList(_parts(further, answers), further.title, lead, further.official))
    return section


def _parts(registry: Registry, answers: Sequence[Answer]) -> list[tuple[str, list[Answer]]]:
    mine = [a for a in answers if a.item.registry == registry.id]
    return [(title, [a for a in mine if a.item.part == part]) for part, title in registry.parts.items()]


def given_about(answers: AnswerFile) -> dict[str, str]:
    """Give the fields that people filled in, in one line each."""
    return {k: " ".join(v.split()) for k, v in answers.about.items() if v}
