"""The study's report: what pre-training on one set or another changed, with intervals, and what this size could have shown.

Every number comes from the ``comparisons.parquet`` and ``estimates.parquet`` of the evaluations; nothing is estimated anew but differences
of differences, whose error is that of two independent groups of patients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evaluate.comparisons import holm as adjusted
from evaluate.influence import difference_interval

METHODS = {"mae": "MAE", "dinov2": "DINOv2"}
ADAPTATIONS = {"probe-cached": "linear probe", "finetune": "fine-tuning"}
GAP = 0.05  # the difference of AUROCs that the study should have been able to show
POWERED = 1.959964 + 0.841621  # standard errors of a difference that is shown in four of five studies, two-sided at 0.05


@dataclass(frozen=True)
class Difference:
    """A difference of AUROCs.

    Attributes:
        value: the difference; low, high: its 95 % interval; error: its standard error; p: two-sided, that it is 0.
        patients: behind it; for a difference of two groups' differences, of both together.
    """

    value: float
    low: float
    high: float
    error: float
    p: float
    patients: int

    @property
    def showable(self) -> float:
        """The difference that a study like this one shows four times in five."""
        return POWERED * self.error

    @property
    def patients_needed(self) -> int:
        """Patients with whom a difference of `GAP` would be shown four times in five, other things equal."""
        return math.ceil(self.patients * (self.showable / GAP) ** 2)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does not hold 0."""
        return self.low > 0 or self.high < 0


class Evaluated:
    """One method's evaluation.

    Args:
        folder: the evaluation folder.
    """

    def __init__(self, folder: Path) -> None:
        comparisons = pd.read_parquet(folder / "comparisons.parquet")
        auroc = comparisons["metric"] == "auroc"
        paper = comparisons["method"].str.startswith("paper")
        self.pairs, self.paper = comparisons[auroc & ~paper], comparisons[auroc & paper]
        estimates = pd.read_parquet(folder / "estimates.parquet")
        self.estimates = estimates[(estimates["metric"] == "auroc") & (estimates["class"] == "macro")]
        self.adaptations = [name for name in ADAPTATIONS if name in set(self.estimates["adaptation"])]

    def estimate(self, task: str, adaptation: str, model: str, attribute: str = "all", group: str = "all") -> dict[str, Any] | None:
        """Give the row of an AUROC, or None where there is none."""
        rows = self.estimates
        rows = rows[
            (rows["task"] == task) & (rows["adaptation"] == adaptation) & (rows["model"] == model) & (rows["attribute"] == attribute)
            & (rows["group"] == group)
        ]  # fmt: skip
        return None if rows.empty or rows["value"].isna().all() else {str(k): v for k, v in rows.iloc[0].items()}

    def groups(self, task: str, attribute: str) -> list[str]:
        """List an attribute's groups in their order."""
        rows = self.estimates[(self.estimates["task"] == task) & (self.estimates["attribute"] == attribute)]
        return list(dict.fromkeys(rows["group"]))

    def difference(
        self, task: str, adaptation: str, minus: str, plus: str, attribute: str = "all", group: str = "all"
    ) -> Difference | None:
        """Give the AUROC of `plus` minus that of `minus` on a group's images; None where there is none."""
        for a, b, sign in ((minus, plus, 1), (plus, minus, -1)):
            rows = self.pairs
            rows = rows[
                (rows["task"] == task) & (rows["adaptation"] == adaptation) & (rows["model_a"] == a) & (rows["model_b"] == b)
                & (rows["attribute"] == attribute) & (rows["group"] == group) & rows["low"].notna()
            ]  # fmt: skip
            if len(rows):
                row = rows.iloc[0]
                ends = sorted((sign * row["low"], sign * row["high"]))
                return Difference(sign * row["difference"], *ends, float(row["se"]), float(row["p"]), int(row["n_patients"]))
        return None


def difference_of(first: Difference | None, second: Difference | None) -> Difference | None:
    """Give `second` minus `first`, of two groups of patients that share nobody (or next to nobody)."""
    if first is None or second is None:
        return None
    value, error = second.value - first.value, math.hypot(first.error, second.error)
    low, high, p = difference_interval(value, error)
    return Difference(value, low, high, error, p, first.patients + second.patients)


def holm(rows: Sequence[dict[str, Any]]) -> None:
    """Put ``p_holm`` beside the ``p`` of rows that belong to one family."""
    tested = [row for row in rows if row["found"] is not None]
    for row, p in zip(tested, adjusted([row["found"].p for row in tested]).tolist(), strict=True):
        row["p_holm"] = p


def sets_of(folder: Path, groups: Sequence[str]) -> list[dict[str, Any]]:
    """Describe the pre-training sets: images, people, and the images of each age group, in the order of `groups`."""
    found = []
    for path in sorted(folder.glob("sets/*/sample.json")):
        about = json.loads(path.read_text())
        last = about["gates"][-1]
        by = last["by"].get("age", {})
        ordered = sorted(by, key=lambda group: groups.index(group) if group in groups else len(groups))
        ages = {group: by[group]["images"] for group in ordered if by[group]["images"]}
        found.append({"name": path.parent.name, "images": last["images"], "people": last["patients"], "ages": ages})
    return found


def home_and_away(evaluated: dict[str, Evaluated], homes: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Compare, at each hospital, the model pre-trained there with the one pre-trained at the other.

    Args:
        evaluated: by method.
        homes: task -> (model of that hospital, model of the other).
    """
    rows = [
        {"method": method, "adaptation": adaptation, "task": task, "home": home, "away": away,
         "found": evaluation.difference(task, adaptation, away, home)}
        for method, evaluation in evaluated.items() for adaptation in evaluation.adaptations for task, (home, away) in homes.items()
    ]  # fmt: skip
    holm(rows)
    return rows


def by_group(evaluated: dict[str, Evaluated], task: str, minus: str, plus: str, attributes: Sequence[str]) -> list[dict[str, Any]]:
    """Compare two models in every group of some attributes."""
    rows = []
    for method, evaluation in evaluated.items():
        for adaptation in evaluation.adaptations:
            family = [
                {"method": method, "adaptation": adaptation, "attribute": attribute, "group": group,
                 "found": evaluation.difference(task, adaptation, minus, plus, attribute, group),
                 "at": {m: evaluation.estimate(task, adaptation, m, attribute, group) for m in (minus, plus)}}
                for attribute in attributes for group in evaluation.groups(task, attribute) if group != "unknown"
            ]  # fmt: skip
            holm(family)
            rows += family
    return rows


def shifts(evaluated: dict[str, Evaluated], task: str, minus: str, plus: str, ends: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Ask whether changing the pre-training set moves one end of an attribute against the other.

    ::

        shift = (AUROC of plus - AUROC of minus) in the last group - the same in the first

    Args:
        evaluated: by method.
        task: whose test images.
        minus, plus: models.
        ends: attribute -> its first and last group.
    """
    rows = [
        {"method": method, "adaptation": adaptation, "attribute": attribute, "first": first, "last": last,
         "found": difference_of(
             evaluation.difference(task, adaptation, minus, plus, attribute, first),
             evaluation.difference(task, adaptation, minus, plus, attribute, last),
         )}
        for method, evaluation in evaluated.items() for adaptation in evaluation.adaptations for attribute, (first, last) in ends.items()
    ]  # fmt: skip
    holm(rows)
    return rows


def gap(evaluation: Evaluated, task: str, adaptation: str, model: str, ends: tuple[str, str]) -> Difference | None:
    """Give a model's own AUROC in the last group of an attribute minus that in the first."""
    rows = [evaluation.estimate(task, adaptation, model, "age", group) for group in ends]
    if any(row is None or math.isnan(row["se"]) for row in rows):
        return None
    first, last = ({"value": r["value"], "se": r["se"], "n_patients": r["n_patients"]} for r in rows if r is not None)
    parts = [Difference(r["value"], math.nan, math.nan, r["se"], math.nan, int(r["n_patients"])) for r in (first, last)]
    return difference_of(*parts)


def closures(evaluated: dict[str, Evaluated], task: str, skewed: str, balanced: str, ends: tuple[str, str]) -> list[dict[str, Any]]:
    """Ask how much of a model's age gap balancing closes: the gap before, the gap after, and the change of its size.

    ::

        closed = |gap of the skewed set's model| - |gap of the balanced set's|, signed so that above 0 means a smaller gap

    The change has the error of the paired differences, since both models saw the same images. ``share`` is closed over the gap before
    and that of the ends of its interval, taking the gap before as it was found; None where that gap is not clear of 0, for then it has
    no sign of its own, and whatever model comes next has the smaller gap more often than not.
    """
    rows = []
    for method, evaluation in evaluated.items():
        for adaptation in evaluation.adaptations:
            before = gap(evaluation, task, adaptation, skewed, ends)
            after = gap(evaluation, task, adaptation, balanced, ends)
            moved = difference_of(*(evaluation.difference(task, adaptation, skewed, balanced, "age", group) for group in ends))
            closed = None
            if before is not None and moved is not None:
                sign = -1.0 if before.value > 0 else 1.0
                low, high = sorted((sign * moved.low, sign * moved.high))
                closed = Difference(sign * moved.value, low, high, moved.error, moved.p, moved.patients)
            share = None
            if before is not None and closed is not None and before.excludes_zero:
                share = [value / abs(before.value) for value in (closed.value, closed.low, closed.high)]
            rows.append({"method": method, "adaptation": adaptation, "before": before, "after": after, "found": closed, "share": share})
    holm(rows)
    return rows


def controls(evaluated: dict[str, Evaluated], task: str, first: str, ends: tuple[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Compare models that differ in chance alone, and a pre-trained one with an untrained one.

    Args:
        evaluated: by method.
        task: whose test images.
        first: the set that was pre-trained on twice.
        ends: the first and the last age group.

    Returns:
        ``again``: for everyone, and the shift of the last age group against the first; ``untrained``: for everyone. One family each.
        ``chance``: what `chance_of` gives of ``again``.
    """
    found: dict[str, Any] = {"again": [], "untrained": []}
    for method, evaluation in evaluated.items():
        for adaptation in evaluation.adaptations:
            who = {"method": method, "adaptation": adaptation}
            moved = difference_of(*(evaluation.difference(task, adaptation, first, "again", "age", group) for group in ends))
            found["again"].append({**who, "what": "everyone", "found": evaluation.difference(task, adaptation, first, "again")})
            found["again"].append({**who, "what": f"{ends[1]} against {ends[0]}", "found": moved})
            row = {**who, "what": "everyone", "found": evaluation.difference(task, adaptation, "untrained", first)}
            found["untrained"].append({**row, "at": {m: evaluation.estimate(task, adaptation, m) for m in ("untrained", first)}})
    for rows in found.values():
        holm(rows)
    return found | {"chance": chance_of(found["again"])}


def chance_of(again: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Estimate how far two models of one set lie apart, beyond what the tested patients explain.

    ::

        spread^2 = mean of (difference^2 - error^2), at least 0     over methods and adaptations
        runs     = the least n with   z * spread / sqrt(n) <= GAP,   z as in `POWERED`

    Returns:
        ``everyone`` and ``between``, the ends of age: each with ``largest``, the largest difference; ``spread``, the standard deviation of
        a difference between two models; and ``runs``, pre-training runs on each of two sets with which a difference of `GAP` would be
        shown four times in five if patients were without number.
    """
    found = {}
    for name, rows in (("everyone", again[::2]), ("between", again[1::2])):
        differences = [row["found"] for row in rows if row["found"] is not None]
        if differences:
            spread = math.sqrt(max(0.0, sum(d.value**2 - d.error**2 for d in differences) / len(differences)))
            largest = max(abs(d.value) for d in differences)
            found[name] = {"largest": largest, "spread": spread, "runs": max(1, math.ceil((POWERED * spread / GAP) ** 2))}
    return found


def phantom_part(folder: Path) -> dict[str, Any]:
    """Gather the phantom study."""
    hospitals = {method: Evaluated(folder / f"hospitals-{method}") for method in METHODS}
    evaluated = {method: Evaluated(folder / f"evaluation-{method}") for method in METHODS}
    ages = [g for g in next(iter(evaluated.values())).groups("both", "age") if g != "unknown"]
    ends = (ages[0], ages[-1])
    return {
        "name": "Two phantom hospitals",
        "sets": sets_of(folder, ages),
        "ends": ends,
        "home": home_and_away(hospitals, {"northgate": ("old", "young"), "pujiang": ("young", "old")}),
        "forest": by_group(evaluated, "both", "young", "old", ("age", "sex", "ethnicity")),
        "shifts": shifts(evaluated, "both", "young", "old", {"age": ends, "sex": ("female", "male"), "ethnicity": ("Asian", "White")}),
        "closed": [
            {"from": skewed, "to": balanced, "rows": closures(evaluated, "both", skewed, balanced, ends)}
            for skewed, balanced in (("old", "old-balanced"), ("old", "both-balanced"), ("young", "both-balanced"))
        ],
        "controls": controls(evaluated, "both", "old", ends),
        "paper": paper_count(evaluated),
    }


def odir_part(folder: Path) -> dict[str, Any]:
    """Gather the study on ODIR-5K."""
    evaluated = {method: Evaluated(folder / f"evaluation-{method}") for method in METHODS}
    ages = [g for g in next(iter(evaluated.values())).groups("odir-diabetes", "age") if g != "unknown"]
    ends = (ages[0], ages[-1])
    return {
        "name": "ODIR-5K",
        "sets": sets_of(folder, ages),
        "ends": ends,
        "forest": by_group(evaluated, "odir-diabetes", "younger", "older", ("age", "sex")),
        "shifts": shifts(evaluated, "odir-diabetes", "younger", "older", {"age": ends, "sex": ("female", "male")}),
        "controls": controls(evaluated, "odir-diabetes", "older", ends),
        "paper": paper_count(evaluated),
    }


def paper_count(evaluated: dict[str, Evaluated]) -> dict[str, Any]:
    """Count the comparisons that the five-seed t-test calls significant, beside those of the paired test, before any correction."""
    counts = {"cells": 0, "paper": 0, "paired": 0}
    for evaluation in evaluated.values():
        key = ["task", "adaptation", "attribute", "group", "model_a", "model_b"]
        both = evaluation.paper.merge(evaluation.pairs, on=key, suffixes=("_paper", ""))
        both = both[both["p_paper"].notna() & both["p"].notna()]
        counts["cells"] += len(both)
        counts["paper"] += int((both["p_paper"] < 0.05).sum())
        counts["paired"] += int((both["p"] < 0.05).sum())
    return counts


PARTS = {"phantom": phantom_part, "odir": odir_part}


def findings(part: dict[str, Any]) -> list[str]:
    """Put into sentences what the tables say, whatever it is."""
    said = [_control(part["controls"])]
    chance = part["controls"]["chance"]
    everyone, between = (chance.get(name, {}).get("spread", math.nan) for name in ("everyone", "between"))
    if "home" in part:
        said.append(_counted("Home against away", part["home"], "A model did better where it was pre-trained", "worse", chance=everyone))
    age = [row for row in part["shifts"] if row["attribute"] == "age"]
    others = [row for row in part["shifts"] if row["attribute"] != "age"]
    first, last = part["ends"]
    what, moved = f"Shift of '{last}' against '{first}'", "moved the other way"
    said.append(_counted(what, age, "The gap between ages followed the ages in the set", moved, chance=between))
    what = "Shifts by sex and ethnicity, where none is expected"
    said.append(_counted(what, others, "A group moved", "moved the other way", null=True, chance=between))
    for block in part.get("closed", []):
        what = f"From the set '{block['from']}' to '{block['to']}'"
        said.append(_counted(what, block["rows"], "The age gap became smaller", "larger", chance=between))
        rows = [row for row in block["rows"] if row["before"] is not None]
        clear = sum(row["before"].excludes_zero for row in rows)
        shares = [f"{row['share'][0]:.0%}" for row in block["rows"] if row["share"] is not None]
        of_it = f"; of those, balancing closed {', '.join(shares)} (a negative share widened it)" if shares else ""
        said[-1] += f" The gap before was clear of 0 in {clear} of {len(rows)}{of_it}."
    untrained = part["controls"]["untrained"]
    said.append(_counted("Pre-training against none", untrained, "The pre-trained model did better", "worse"))
    reached = [at["value"] for row in untrained for model, at in row["at"].items() if model != "untrained" and at is not None]
    if reached:
        said[-1] += f" The pre-trained models reach AUROCs of {min(reached):.2f} to {max(reached):.2f}."
    return said


def _beyond(difference: Difference, chance: float) -> bool:
    """Say whether a difference is clear of 0 with the spread between models of one set in its error."""
    return abs(difference.value) > 1.959964 * math.hypot(difference.error, 0.0 if math.isnan(chance) else chance)


def _control(controls: dict[str, Any]) -> str:
    """Say how far apart two models of one set are."""
    text = _counted("Chance alone (one set, pre-trained on twice)", controls["again"], "The second model did better", "worse", null=True)
    if len(controls["chance"]) == 2:
        everyone, between = controls["chance"]["everyone"], controls["chance"]["between"]
        text += (
            f" The two differed by up to {everyone['largest']:.3f} for everyone and by up to {between['largest']:.3f} between the ends of "
            "age. A difference between sets that is no larger may be of two models and not of two sets. To tell sets apart that differ by "
            f"{GAP}, each would have to be pre-trained on about {everyone['runs']} times (everyone) and {between['runs']} times (the ends "
            "of age); from one pair a method that is no more than the order of magnitude."
        )
    return text


def _counted(
    what: str, rows: Sequence[dict[str, Any]], for_it: str, against_it: str, *, null: bool = False, chance: float = math.nan
) -> str:
    """Count the comparisons whose interval excludes 0 after Holm's correction, and say what the others could have shown.

    With `chance`, the spread between two models of one set, also those that both errors together leave clear of 0.
    """
    found = [row["found"] for row in rows if row["found"] is not None]
    if not found:
        return f"{what}: not estimable, the groups are too small."
    clear = [row["found"] for row in rows if row["found"] is not None and row["p_holm"] < 0.05]
    up, down = sum(d.value > 0 for d in clear), sum(d.value < 0 for d in clear)
    values = f"estimates from {min(d.value for d in found):+.3f} to {max(d.value for d in found):+.3f}"
    powered = f"{min(d.showable for d in found):.3f} to {max(d.showable for d in found):.3f}"
    if not clear:
        rest = "as expected" if null else "so the question stays open at this size"
        return f"{what}: none of {len(found)} comparisons is clear of 0 ({values}), {rest}; differences of {powered} could have been shown."
    outcome = f"{for_it} in {up}" + (f", {against_it} in {down}" if down else "")
    text = (
        f"{what}: {outcome} of {len(found)} comparisons after Holm's correction ({values}); differences of {powered} could have been shown."
    )
    if math.isnan(chance):
        return text
    left = sum(_beyond(d, chance) for d in clear)
    return f"{text} With chance between models of one set (deviation {chance:.3f}) in the error, {left} of these {len(clear)} remain."


def forest_figures(part: dict[str, Any], older: str, younger: str) -> list[dict[str, Any]]:
    """Draw the differences by group, one figure a method, as SVG."""
    figures = []
    for method, title in METHODS.items():
        rows = [row for row in part["forest"] if row["method"] == method and row["found"] is not None]
        if rows:
            label = f"{title}: difference of AUROC between the sets {older} and {younger} by group; the numbers are in the table beneath"
            caption = (
                f"{title}: AUROC of the model of “{older}” minus that of “{younger}”. Solid circle: linear probe. "
                "Open square: fine-tuning. 95 % intervals; longer ones are cut at the edge."
            )
            figures.append({"svg": draw_forest(rows, label), "caption": caption})
    return figures


def draw_forest(rows: Sequence[dict[str, Any]], label: str) -> Any:
    """Draw one method's differences: a line a group, a mark an adaptation."""
    from markupsafe import Markup, escape

    groups = list(dict.fromkeys((row["attribute"], row["group"]) for row in rows))
    reach = min(0.3, max(0.05, *(abs(end) for row in rows for end in (row["found"].low, row["found"].high))))
    height, left, width = 30 * len(groups) + 46, 190, 640

    def x(value: float) -> float:
        return round(left + (max(-reach, min(reach, value)) + reach) / (2 * reach) * (width - left - 20), 1)

    marks = [f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="6" y2="{height - 30}"/>']
    ticks = (-reach, -reach / 2, 0.0, reach / 2, reach)
    marks += [f'<text x="{x(tick)}" y="{height - 14}" text-anchor="middle">{tick:+.2f}</text>' for tick in ticks]
    for place, (attribute, group) in enumerate(groups):
        y = 22 + 30 * place
        marks.append(f'<text x="0" y="{y + 4}">{escape(f"{attribute}: {group}")}</text>')
        marks.append(f'<line class="axis" x1="{left}" x2="{width - 20}" y1="{y + 15}" y2="{y + 15}"/>')
        here = [row for row in rows if (row["attribute"], row["group"]) == (attribute, group)]
        for number, row in enumerate(here):
            found, at = row["found"], y - 4 + 9 * number
            kind = "probe" if row["adaptation"] == "probe-cached" else "tune"
            marks.append(f'<line class="{kind}" stroke-width="1.6" x1="{x(found.low)}" x2="{x(found.high)}" y1="{at}" y2="{at}"/>')
            if kind == "probe":
                marks.append(f'<circle class="{kind}" cx="{x(found.value)}" cy="{at}" r="3.4" stroke-width="1.6"/>')
            else:
                marks.append(f'<rect class="{kind}" x="{x(found.value) - 3}" y="{at - 3}" width="6" height="6" stroke-width="1.6"/>')
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" width="100%">{"".join(marks)}</svg>')


def answer(part: dict[str, Any]) -> str:
    """Give the shortest answer that the tables allow: what remains when the spread between models of one set is in the error."""
    chance = part["controls"]["chance"].get("between", {}).get("spread", math.nan)

    def remaining(rows: Sequence[dict[str, Any]]) -> tuple[int, int]:
        tested = [row for row in rows if row["found"] is not None]
        return sum(row["p_holm"] < 0.05 and _beyond(row["found"], chance) for row in tested), len(tested)

    def count(rows: Sequence[dict[str, Any]], yes: str, no: str) -> str:
        clear, tested = remaining(rows)
        return "could not be estimated" if not tested else no if not clear else f"{yes} in {clear} of {tested} comparisons"

    age = [row for row in part["shifts"] if row["attribute"] == "age"]
    others = [row for row in part["shifts"] if row["attribute"] != "age"]
    powered = min((row["found"].showable for row in age if row["found"] is not None), default=math.nan)
    text = (
        f"That the gap between ages moves with the ages in the set {count(age, 'was shown', 'could not be shown')} (this size could have "
        f"shown a shift of {powered:.2f} at best); sex{' and ethnicity' if len(others) > len(age) else ''} "
        f"{count(others, 'moved', 'stayed where they were')}"
    )
    closed = [row for block in part.get("closed", []) for row in block["rows"]]
    if closed:
        text += f"; that balancing closes the gap {count(closed, 'was shown, or the opposite,', 'could not be shown')}"
    moved = max((abs(row["found"].value) for row in [*age, *closed] if row["found"] is not None), default=math.nan)
    largest = part["controls"]["chance"].get("between", {}).get("largest", math.nan)
    text += f". Between the ends of age two models of one set differed by up to {largest:.3f}, models of two sets by up to {moved:.3f}."
    larger = [row["found"].patients_needed / row["found"].patients for row in age if row["found"] is not None]
    if larger:
        text += (
            f" A shift of {GAP} would take {min(larger):.1f} to {max(larger):.1f} times as many tested people (by method and adaptation), "
            "and several pre-training runs on each set."
        )
    return text


def as_p(value: float) -> str:
    """Write a p-value.

    Example:
        >>> as_p(0.0004), as_p(0.0321), as_p(math.nan)
        ('< 0.001', '0.032', '-')
    """
    return "-" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def plain(value: Any) -> Any:
    """Turn differences and not-a-numbers into what JSON can hold."""
    if isinstance(value, Difference):
        numbers = {**asdict(value), "showable": value.showable, "patients_needed": value.patients_needed}
        return {name: plain(number) for name, number in numbers.items()}
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items() if name not in ("at", "figures")}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_report(out: Path, archives: Sequence[str]) -> Path:
    """Write ``report.json`` and ``report.html``.

    Args:
        out: the study's folder.
        archives: of `PARTS`, those that were run.

    Returns:
        The page.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    parts = {name: PARTS[name](out / name) for name in archives}
    for name, part in parts.items():
        part["findings"] = findings(part)
        part["answer"] = answer(part)
        part["figures"] = forest_figures(part, *{"phantom": ("old", "young"), "odir": ("older", "younger")}[name])
    (out / "report.json").write_text(json.dumps(plain(parts), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    words = {"methods": METHODS, "adaptations": ADAPTATIONS, "gap": GAP}
    environment.filters.update(signed=lambda v: f"{v:+.3f}".replace("-", "−"), p=as_p)
    page = environment.get_template("report.html.j2").render(parts=parts, **words)
    (out / "report.html").write_text(page, encoding="utf-8")
    return out / "report.html"
