"""What a description says in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate import console

_MOST_REMARKS = 12


def show(about: dict[str, Any], out: Path) -> None:
    """Print a description: who, then how much it differs, then what there is to say in words.

    Args:
        about: from `curate.describe.describe_cohort`.
        out: its folder.
    """
    sides = about["sides"]
    names = [s["name"] for s in sides]
    for side in sides:
        console.say(f"{side['name']}: {_counted(side['images'], 'image')} of {_counted(side['patients'], 'patient')}")
    others = names[1:]
    for kind, title in (
        ("attributes", "attributes: images, share of all images (95 % interval, patients as clusters)"),
        ("measures", "measures: mean over images (95 % interval, patients as clusters)"),
    ):
        rows = [row for name, one in about[kind].items() for row in _rows(name, one, names)]
        if rows:
            _table([kind[:-1], "", *names], rows, 2, f"\n{title}")
    for other in others:
        rows = [
            row
            for kind in ("attributes", "measures")
            for name, one in about[kind].items()
            for row in _compared(name, one["compared"].get(other, {}))
        ]
        columns = ["variable", "standardised difference", "difference (95 % interval)", "p", "p adjusted"]
        _table(columns, rows, 1, f"\n{names[0]} minus {other}")
    if others:
        console.say("standardised difference: Cohen's d (numbers), Yang and Dalton's (groups, no sign); under 0.1 is small")
        console.say("p: Welch-type t (numbers), Rao-Scott chi-squared (groups), patients as clusters; adjusted by Benjamini and Hochberg")
    if about["remarks"]:
        console.say("\nin words")
        for remark in about["remarks"][:_MOST_REMARKS]:
            console.say(f"- {' '.join(remark.split())}")
        if len(about["remarks"]) > _MOST_REMARKS:
            console.say(f"- and {len(about['remarks']) - _MOST_REMARKS:,} more in {out}/description.json")
    pictures = f", {len(about['pictures']):,} pictures (PNG and SVG)" if about["pictures"] else ""
    console.say(f"\n{out}: description.parquet (one number a row), description.json{pictures}")
    console.say(f"note: {about['notice']}")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _rows(name: str, one: dict[str, Any], names: list[str]) -> list[list[str]]:
    sides = [one["sides"].get(n, {}) for n in names]
    found: list[list[str]] = []
    if any("mean" in s for s in sides):
        found += [[name, "mean", *(_mean(s) for s in sides)]]
        found += [["", "SD", *(_value(s, "sd") for s in sides)], ["", "median (quartiles)", *(_quartiles(s) for s in sides)]]
    own = [s.get("by", {}).get(name, {}) for s in sides]
    for group in dict.fromkeys(g for o in own for g in o):
        found.append(["", group, *(_share(o.get(group)) for o in own)])
    absent = [s.get("images") for s in sides]
    if not found:
        found.append(["", "", *(str(a["remark"]) if isinstance(a, dict) else "-" for a in absent)])
    missing = [s.get("missing", 0) for s in sides]
    if any(missing) and not any("unknown" in o for o in own):
        found.append(["", "missing", *(f"{m:,}" for m in missing)])
    found[0][0] = name
    return found


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value:,.1f}"
        if abs(value) >= 100
        else f"{value:.3g}"
        if abs(value) < 0.1
        else f"{value:.3f}"
        if abs(value) < 10
        else f"{value:.1f}"
    )


def _value(side: dict[str, Any], name: str) -> str:
    return _number(side[name]["value"]) if name in side else "-"


def _with_interval(entry: dict[str, Any]) -> str:
    text = _number(entry["value"])
    return f"{text} ({_number(entry['low'])} to {_number(entry['high'])})" if "low" in entry else text


def _mean(side: dict[str, Any]) -> str:
    return _with_interval(side["mean"]) if "mean" in side else "-"


def _quartiles(side: dict[str, Any]) -> str:
    return f"{_value(side, 'median')} ({_value(side, 'q25')} to {_value(side, 'q75')})" if "median" in side else "-"


def _share(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    share, images = entry["share"], entry["images"]
    count = images["value"] if isinstance(images, dict) else images
    text = f"{count:,}  {100 * share['value']:5.1f} %"
    return f"{text} ({100 * share['low']:4.1f} to {100 * share['high']:5.1f})" if "low" in share else text


def _compared(name: str, found: dict[str, Any]) -> list[list[str]]:
    smd, gap = found.get("smd"), found.get("difference")
    if gap is None and "by" not in found:  # not compared: the words below say why
        return []
    tested = [found.get(k, {}).get("value") for k in ("p", "p adjusted")]
    rows = [
        [
            name,
            "-" if smd is None else _with_interval(smd) if smd["value"] is not None else "no bound" if "no bound" in smd["remark"] else "-",
            _with_interval(gap) if gap else "-",
            *("-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in tested),
        ]
    ]
    for group, entries in found.get("by", {}).get(name, {}).items():
        apart = entries["difference"]
        text = f"{100 * apart['value']:+.1f} points"
        text += f" ({100 * apart['low']:+.1f} to {100 * apart['high']:+.1f})" if "low" in apart else ""
        rows.append([f"  {group}", "", text, "", ""])
    return rows


def _table(columns: list[str], rows: list[list[str]], left: int, title: str) -> None:
    """Print a table, all but the first columns set to the right."""
    columns, rows = [console.short(c) for c in columns], [[*map(console.short, row[:left]), *row[left:]] for row in rows]
    widths = [max(len(r[i]) for r in [columns, *rows]) for i in range(len(columns))]
    console.say(title)
    for row in (columns, ["-" * w for w in widths], *rows):
        console.say("  ".join(v.ljust(w) if i < left else v.rjust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))).rstrip())
