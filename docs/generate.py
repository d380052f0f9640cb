"""The pages of the site that are made from the code: commands, artefacts, recipes, metrics, the Python API, the notebook.

mkdocs.yml names this file as a hook, so that ``make docs`` makes these pages anew each time; none is kept in the repository.
A column that the code has and docs/artefacts.yaml doesn't explain, or the other way round, stops it.
"""

from __future__ import annotations

import html
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

DOCS = Path(__file__).parent
ROOT = DOCS.parent
ROOMS = ("curate", "pretrain", "evaluate", "cards")


def pages() -> dict[str, str]:
    """Make every generated page: its path below docs/ -> Markdown."""
    return {
        "reference/commands.md": commands_page(),
        "reference/artefacts.md": artefacts_page(),
        "reference/recipes.md": recipes_page(),
        "reference/metrics.md": metrics_page(),
        "reference/python.md": python_page(),
        **{f"notebooks/{file.stem}.md": notebook_page(file) for file in sorted((DOCS / "notebooks").glob("*.ipynb"))},
    }


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to the site (called by the generator)."""
    from properdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Mend links to what the site shows otherwise (called by the generator): notebooks are pages, files of the code are names."""
    markdown = re.sub(r"(\]\((?:\.\./)*notebooks/[\w-]+)\.ipynb\)", r"\1.md)", markdown)
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+((?:curate|pretrain|evaluate|cards|benchmarks|templates)/[^)#]*)\)", r"\1 (`\2`)", markdown)


# Commands


def all_commands(room: str) -> Iterator[tuple[str, Any]]:
    """List a room's commands: ``curate sample`` and its typer command, those of nested groups too."""
    yield from _commands_of(room, typer.main.get_command(importlib.import_module(f"{room}.cli").app))


def _commands_of(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for part, inner in command.commands.items():
        yield from _commands_of(f"{name} {part}", inner)


def commands_page() -> str:
    """Describe every command with every argument and option, its help and its default."""
    parts = [
        "# Commands",
        "Made from the commands themselves; `--help` says the same. "
        "Exit codes: 0, done; 2, something you can mend, said in one line; 1, a fault of evenfooting's own, or what `--strict` found.",
    ]
    for room in ROOMS:
        app = typer.main.get_command(importlib.import_module(f"{room}.cli").app)
        parts += [f"## {room}", str(app.help)]
        for name, command in all_commands(room):
            parts += [f"### {name}", _text(str(command.help or "")), *_parameters(name, command)]
    return "\n\n".join(parts) + "\n"


def _parameters(name: str, command: Any) -> list[str]:
    context = command.context_class(command, info_name=name)
    rows, usage = [], [name]
    for parameter in command.params:
        signature, said = parameter.get_help_record(context) or ("", "")
        signature = re.sub(r"<(?:list\[)?(\w+)(?: range)?\]?>", r"<\1>", signature)
        if parameter.param_type_name == "argument":
            usage.append(signature.split(" ")[0] if parameter.required else f"[{signature.split(' ')[0]}]")
        said, default = _default(said)
        again = " Repeatable." if parameter.multiple and "repeatable" not in said.lower() else ""
        rows.append(f"| {_code(signature)} | {_text(said)}{again} | {_code(default) if default else ''} |")
    return [f"```\n{' '.join([*usage, '[OPTIONS]'])}\n```", "\n".join(["| | | default |", "|---|---|---|", *rows])]


def _default(said: str) -> tuple[str, str]:
    """Split a help text into what it says and its default, with the range that is allowed."""
    notes = re.findall(r"\s*\[((?:default: )?[^\]]*)\]$", said)
    text = re.sub(r"\s*\[(?:default: [^\]]*|required|[^\]]*<=?x[^\]]*|x[<>]=?[^\]]*)\]$", "", said)
    return (text, notes[0].removeprefix("default: ")) if text != said else (said, "")


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _text(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;").replace("_", "&#95;").replace("[", "&#91;")


# Artefacts


def column_sources() -> dict[str, tuple[str, ...]]:
    """Name the columns of the tables as the code has them: file -> columns."""
    from curate.cohort import COLUMNS as cohort
    from curate.shard_index import INDEX, KEYS
    from evaluate.comparisons import COLUMNS as comparisons
    from evaluate.estimates import COLUMNS as estimates
    from evaluate.heterogeneity import COLUMNS as groups
    from evaluate.predictions import LEADING

    return {
        "cohort.parquet": cohort,
        "index.parquet": INDEX,
        "private/keys.parquet": KEYS,
        "predictions.parquet": LEADING,
        "estimates.parquet": estimates,
        "comparisons.parquet": comparisons,
        "groups.parquet": groups,
    }


def artefacts() -> list[dict[str, Any]]:
    """Read docs/artefacts.yaml and hold its columns against the code's.

    Raises:
        ValueError: where they differ.
    """
    known: list[dict[str, Any]] = yaml.safe_load((DOCS / "artefacts.yaml").read_text(encoding="utf-8"))
    tables = {file: tuple(about["columns"]) for one in known for file, about in one.get("tables", {}).items()}
    for file, columns in column_sources().items():
        if tables[file] != columns:
            raise ValueError(f"docs/artefacts.yaml: {file} has {tables[file]}, the code {columns}")
    return known


def artefacts_page() -> str:
    """Describe the columns and fields of every artefact."""
    parts = [
        "# Artefacts",
        "Every artefact is a folder of open formats with one JSON that says what made it. "
        "Same inputs, seed and version give identical bytes, whatever the number of workers.",
    ]
    for one in artefacts():
        parts += [f"## {one['folder']}", f"{one['about']} Made by `{one['made_by'].replace(', ', '` and `')}`."]
        for file, about in one.get("tables", {}).items():
            rows = [f"| `{column}` | {kind} | {meaning} |" for column, (kind, meaning) in _columns(file, about["columns"])]
            parts += [f"### {file}", about["about"], "\n".join(["| column | type | |", "|---|---|---|", *rows])]
        if one["folder"] == "cohort/":
            parts += _measurements()
        for file, fields in one.get("json", {}).items():
            rows = [f"| `{field}` | {meaning} |" for field, meaning in fields.items()]
            parts += [f"### {file}", "\n".join(["| field | |", "|---|---|", *rows])]
    return "\n\n".join([*parts, *_card()]) + "\n"


def _columns(file: str, columns: dict[str, list[Any]]) -> Iterator[tuple[str, tuple[str, str]]]:
    for column, said in columns.items():
        if not (isinstance(said, list) and len(said) >= 2):
            raise ValueError(f"docs/artefacts.yaml: {file}: {column} needs [type, meaning]")
        yield column, (said[0], ", ".join(map(str, said[1:])))


def _measurements() -> list[str]:
    from curate.modalities import MODALITIES, load_modality

    parts = [
        "### measurements.parquet",
        "Made by `curate measure`: `image_id` and one column a measure, null where it can't be had. "
        "[What each is](../how-to/measure.md). Other tools' tables and your own modality bring columns of their own.",
    ]
    for name in MODALITIES:
        modality = load_modality(name)
        rows = [
            f"| `{column}` | {kind} | {'how the photograph was taken' if column in modality.of_the_photograph else ''} |"
            for column, kind in modality.measures.items()
        ]
        parts += [f"`--modality {name}`:", "\n".join(["| column | type | |", "|---|---|---|", *rows])]
    return parts


def _card() -> list[str]:
    schema = json.loads((ROOT / "templates" / "schema" / "card.schema.json").read_text(encoding="utf-8"))
    parts = ["## card/", "`card.html`, `card.yaml` with people's answers, and exports. Made by `cards build`.", "### card.json"]
    parts += [f"{schema['description']} The schema is `templates/schema/card.schema.json`.", _schema_table(schema)]
    for name, part in schema["$defs"].items():
        if "properties" in part:
            parts += [f"#### {name}", part.get("description", ""), _schema_table(part)]
    return parts


def _schema_table(schema: dict[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = [
        f"| `{field}` | {_schema_type(about)} | {_text(about.get('description', ''))} | {'yes' if field in needed else ''} |"
        for field, about in schema["properties"].items()
    ]
    return "\n".join(["| field | type | | always there |", "|---|---|---|---|", *rows])


def _schema_type(about: dict[str, Any]) -> str:
    if "$ref" in about:
        return about["$ref"].rpartition("/")[2]
    if "anyOf" in about:
        return " or ".join(_schema_type(one) for one in about["anyOf"])
    if "const" in about:
        return f"`{json.dumps(about['const'])}`"
    if "enum" in about:
        return ", ".join(f"`{one}`" for one in about["enum"])
    kind = about.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


# Recipes


def recipes_page() -> str:
    """Describe the recipes that ship, and the fields of a recipe."""
    from pretrain.recipe import Recipe, read_recipe, recipe_names

    parts = ["# Recipes", "`pretrain run shards/ --recipe NAME`; `--set SECTION.FIELD=VALUE` changes a field."]
    for name in recipe_names():
        recipe = read_recipe(name)
        rows = [f"| {field} | {_text(text)} |" for field, text in recipe.about.model_dump().items()]
        rows += [f"| method | {recipe.method} |", f"| encoder | `{recipe.model.architecture}` |"]
        parts += [f"## {name}", "\n".join(["| | |", "|---|---|", *rows])]
    parts += ["## The fields of a recipe"]
    for section, field in Recipe.model_fields.items():
        model = next((a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(a, "model_fields")), None)
        if model is None or section == "about":
            continue
        rows = [
            f"| `{section}.{one}` | {_code('required' if about.is_required() else str(about.default))} |"
            for one, about in model.model_fields.items()
        ]
        parts += [f"### {section}", _paragraph(inspect.getdoc(model) or ""), "\n".join(["| field | default |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


# Metrics


def metric_functions() -> dict[str, Callable[..., Any]]:
    """Say which function of `evaluate` computes each metric."""
    from evaluate.calibration import brier, expected_calibration_error, recalibration
    from evaluate.influence import auroc
    from evaluate.precision import average_precision, precision_influence
    from evaluate.proportions import net_benefit, proportion
    from evaluate.task import METRICS

    of = {
        "auroc": auroc,
        "auprc": average_precision,
        "auprc_adjusted": precision_influence,
        "brier": brier,
        "ece": expected_calibration_error,
        "calibration_slope": recalibration,
        "calibration_intercept": recalibration,
        "net_benefit": net_benefit,
    }
    return {metric: of.get(metric, proportion) for metric in METRICS}


def metrics_page() -> str:
    """Describe every metric by the docstring of the function that computes it."""
    parts = [
        "# Metrics",
        "`--metrics NAME,NAME` chooses. What each number is an estimate of, and when it misleads, is on the page "
        "[Which number answers which question](../explanation/which-number.md#the-numbers); how often its interval holds, in "
        "[How often the intervals hold](../explanation/coverage.md). Here is what the code says of itself.",
    ]
    told: dict[Callable[..., Any], list[str]] = {}
    for metric, function in metric_functions().items():
        told.setdefault(function, []).append(metric)
    for function, metrics in told.items():
        parts += [f"## {', '.join(metrics)}", *_function(f"{function.__module__}.{function.__name__}", function)]
    return "\n\n".join(parts) + "\n"


def python_page() -> str:
    """Describe the names that each room offers to other programs."""
    parts = [
        "# Python",
        "What each room's `__init__` names may be used by other programs, among it the function behind each command; each is loaded when "
        "it is first asked for. [First look](../notebooks/first-look.md) uses them in a notebook.",
    ]
    for room in ROOMS:
        module = importlib.import_module(room)
        parts += [f"## {room}", _paragraph((inspect.getdoc(module) or "").partition("\n")[0])]
        for name in sorted(module.__all__, key=str.lower):
            found = getattr(module, name)
            parts.append(f"### {room}.{name}")
            parts += _function(f"{room}.{name}", found) if callable(found) else [f"```python\n{room}.{name} = {found!r}\n```"]
    return "\n\n".join(parts) + "\n"


def _function(name: str, function: Callable[..., Any]) -> list[str]:
    signature = str(inspect.signature(function)).replace("'", "")
    if len(signature) > 80:
        signature = re.sub(r", (?=\w+:|\*)", ",\n    ", signature.replace("(", "(\n    ", 1)).replace(") ->", ",\n) ->", 1)
    return [f"```python\n{name}{signature}\n```", *_docstring(inspect.getdoc(function) or "")]


def _docstring(text: str) -> Iterator[str]:
    """Turn a Google-style docstring into Markdown: sections are headed in bold, entries are lists."""
    for block in re.split(r"\n(?=(?:Args|Attributes|Returns|Yields|Raises|References|Source|Example|Examples|Note):\n)", text):
        head, _, body = block.partition(":\n")
        if not re.fullmatch(r"\w+", head):
            yield from (_prose(p) for p in block.split("\n\n") if p.strip())
        elif head.startswith("Example"):
            yield f"```pycon\n{inspect.cleandoc(body)}\n```"
        elif head in ("Args", "Attributes", "Raises"):
            lines = re.sub(r"\n\s{2,}", " ", inspect.cleandoc(body)).split("\n")
            entries = [re.sub(r"^([\w*, `.]+): ", lambda m: f"`{m[1].replace('`', '')}`: ", line) for line in lines if line.strip()]
            yield f"**{head}**\n\n" + "\n".join(f"- {_paragraph(entry)}" for entry in entries)
        else:
            entries = re.split(r"\n(?=- )|\n\n", inspect.cleandoc(body))
            yield f"**{head}**\n\n" + "\n\n".join(_paragraph(entry) for entry in entries)


def _prose(text: str) -> str:
    if re.match(r"^( {4}|\t|>>>)", text):
        return f"```\n{inspect.cleandoc(text)}\n```"
    return _paragraph(text)


def _paragraph(text: str) -> str:
    """Make one paragraph of reStructuredText's double backticks and broken lines."""
    return re.sub(r"\s*\n\s*", " ", text).replace("``", "`").replace("<", "&lt;").strip()


# Notebooks


def notebook_page(file: Path) -> str:
    """Show a notebook's cells as a page: text as it is, code in blocks."""
    parts = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"]).strip()
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    parts.append(f"This page is the notebook `docs/notebooks/{file.name}`; a test runs it from its first cell to its last.")
    return "\n\n".join(parts) + "\n"
