"""What stands in the sections: which metadata matter, fairness beyond one number, quality by group, the citation, empty states."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from card_artefacts import build, cohort_table, make_project, write_cohort, write_shards

from cards.overview import bibtex
from cards.policy import HIDDEN
from cards.sampling import _distance, _ratio, normalised_entropy
from curate import sha256_file

SECTIONS = [
    "identity", "glance", "who", "sampling", "missing", "measures", "matters", "models", "performance", "limits", "governance",
    "provenance",
    "report", "items",
]  # fmt: skip


def twin_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "card" / "card.json").read_text(encoding="utf-8"))


def section(twin: dict[str, Any], name: str) -> dict[str, Any]:
    return next(s for s in twin["sections"] if s["id"] == name)


def ranked(attribute: str, verdict: str, of: str = "person", **values: Any) -> dict[str, Any]:
    row = {"attribute": attribute, "of": of, "verdict": verdict, "r2_marginal": 0.09, "r2_conditional": 0.04, "noise_floor": 0.003}
    return {**row, "epsilon_squared": 0.12, "strongest_index": "Vessel_density", "not_attributable": None, **values}


def write_identify(folder: Path, ranking: list[dict[str, Any]], balance: list[str], digest: str) -> None:
    folder.mkdir()
    about = {
        "made_by": {"version": "0.1.0", "command": "curate identify", "seed": 0, "inputs": {"cohort.parquet": digest}},
        "space": {"name": "measures"}, "images": 1800, "patients": 1100, "ranking": ranking, "suggested_balance": balance, "in_words": "x",
    }  # fmt: skip
    (folder / "identify.json").write_text(json.dumps(about))


def write_groups(evaluation: Path) -> None:
    """Add operating points and calibration to the estimates, and what groups.parquet says."""
    estimates = pd.read_parquet(evaluation / "estimates.parquet").assign(threshold="")
    macro = estimates[(estimates["class"] == "macro") & (estimates["metric"] == "auroc")]
    parts = [estimates]
    for metric, threshold, value in (
        ("sensitivity", "youden", 0.8), ("specificity", "specificity=0.9", 0.9), ("npv", "0.5", 0.99), ("calibration_slope", "", 0.8),
        ("ece", "", 0.04),
    ):  # fmt: skip
        parts.append(macro.assign(metric=metric, threshold=threshold, value=value, low=value - 0.01, high=value + 0.005))
    pd.concat(parts, ignore_index=True).to_parquet(evaluation / "estimates.parquet", index=False)
    rows = []
    for attribute, worst in (("age", "under 40"), ("ethnicity", "Black")):
        for model in ("natural", "balanced"):
            common = {
                "task": "dr",
                "model": model,
                "adaptation": "linear probe",
                "attribute": attribute,
                "metric": "auroc",
                "threshold": "",
            }
            rows.append(
                {**common, "kind": "worst", "group_a": worst, "group_b": "all others", "value": -0.05, "low": -0.11, "high": 0.01, "p": 0.2}
            )
            rows.append(
                {
                    **common,
                    "kind": "heterogeneity",
                    "group_a": "a, b",
                    "group_b": "",
                    "value": np.nan,
                    "low": np.nan,
                    "high": np.nan,
                    "p": 0.18,
                }
            )
    pd.DataFrame(rows).to_parquet(evaluation / "groups.parquet", index=False)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("sections") / "p")
    measured = pd.read_parquet(folder / "cohort" / "measurements.parquet")
    grade = np.where(np.arange(len(measured)) % 9 == 0, "reject", np.where(np.arange(len(measured)) % 4 == 0, "usable", "good"))
    measured.assign(quality=grade).to_parquet(folder / "cohort" / "measurements.parquet", index=False)
    ranking = [
        ranked("age", "matters"),
        ranked("ethnicity", "can't be attributed", not_attributable="x"),
        ranked("device", "matters", "photograph"),
    ]
    write_identify(folder / "identify", ranking, ["age"], sha256_file(folder / "cohort" / "cohort.parquet"))
    write_groups(folder / "evaluation")
    build(folder, identify=folder / "identify")
    return folder


def test_sections_stand_in_a_readers_order(rich: Path) -> None:
    assert [s["id"] for s in twin_of(rich)["sections"]] == SECTIONS


@pytest.mark.parametrize(("site", "policy", "shown"), [
    ("London", "none", ("1", "of 2 in the archive")), ("London", "opensafely", ("1", "of 2 in the archive")),
    ("London", "ons_10", ("2", "in the archive")),  # hides zeros, so nothing is said of the set
    (None, "opensafely", ("2", "of 2 in the archive")),
])  # fmt: skip
def test_a_set_from_one_of_two_sites_is_of_one_site(tmp_path: Path, site: str | None, policy: str, shown: tuple[str, str]) -> None:
    cohort = write_cohort(tmp_path / "cohort", cohort_table())
    shards = write_shards(tmp_path / "shards", cohort, per_group=60, site=site)
    about = json.loads((shards / "sample.json").read_text())
    (shards / "sample.json").write_text(json.dumps({**about, "balance": [], "allocation": []}))
    build(tmp_path, policy=policy)
    twin = twin_of(tmp_path)
    number = section(twin, "glance")["blocks"][0]["glance"][2]
    assert (number["label"], number["value"], number["beside"]) == ("site" if shown[0] == "1" else "sites", *shown)
    assert f"{'One site' if shown[0] == '1' else '2 sites'}." in json.dumps(twin["items"])


def test_one_stratum_that_is_shown_is_not_called_even() -> None:
    for measure in (normalised_entropy, _ratio, _distance):
        assert measure([166, HIDDEN, HIDDEN]) is None
        assert measure([166, 10, HIDDEN]) is not None


def test_what_matters_is_ranked_and_said_in_words(rich: Path) -> None:
    twin = twin_of(rich)
    blocks = section(twin, "matters")["blocks"]
    assert blocks[0]["answer"] == "Of what is recorded about people, one attribute matters: age."
    assert blocks[1]["words"] == [
        "Ethnicity cannot be told apart from another column of this archive, so nothing is attributed to it.",
        "How the photographs were taken goes with their variation too: device. "
        "That is no ground for choosing people, but a model may learn it.",
        "Suggested for balancing: age.",
        "The set was balanced by that.",
    ]
    assert [r[-1] for r in twin["tables"]["matters"]["rows"]] == ["matters", "cannot be told apart", "matters"]
    assert "identify" in [r[0] for r in twin["tables"]["commands"]["rows"]]


def test_what_mattered_in_another_archive_is_not_shown(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(200))
    write_identify(tmp_path / "identify", [ranked("age", "matters")], ["age"], "0" * 64)
    build(tmp_path, identify=tmp_path / "identify")
    twin = twin_of(tmp_path)
    assert "another version of this archive" in section(twin, "matters")["text"][0]
    assert "matters" not in twin["tables"]


def test_the_worst_group_is_told_with_its_interval_and_not_where_a_hidden_group_could_be_had(rich: Path) -> None:
    twin = twin_of(rich)
    rows = twin["tables"]["differing-1"]["rows"]
    assert [r[0] for r in rows] == ["Age", "Age", "Ethnicity", "Ethnicity"]
    assert rows[0][3:] == ["under 40", -0.05, -0.11, 0.01, 0.18]
    assert all(cell == {"suppressed": True} for cell in rows[2][3:])  # one of its groups has five people with the finding


def test_operating_points_hide_shares_that_would_count_too_few(rich: Path) -> None:
    table = twin_of(rich)["tables"]["operating-1"]
    ids = {c["label"]: i for i, c in enumerate(table["columns"])}
    assert "Sensitivity (highest sensitivity plus specificity)" in ids
    rows = {(r[0], r[1]): r for r in table["rows"] if len(r) > 1}
    everyone, young = rows["Everyone", "natural"], rows["under 40", "natural"]
    sensitivity = ids["Sensitivity (highest sensitivity plus specificity)"]
    assert everyone[sensitivity] == pytest.approx(0.8, abs=0.02)  # as of rounded counts
    assert young[sensitivity] == {"suppressed": True}  # 80 % of 22 people leaves out four
    assert everyone[ids["Negative predictive value (probability 0.5)"]] == {"suppressed": True}  # 99 % of 410 leaves out four


def test_calibration_stands_in_a_folded_table(rich: Path) -> None:
    table = twin_of(rich)["tables"]["calibration-1"]
    assert [c["label"] for c in table["columns"]][2::3] == ["Calibration slope", "Calibration error"]
    page = (rich / "card" / "card.html").read_text(encoding="utf-8")
    assert re.search(r"<summary>[^/]*How far the models’ probabilities can be believed", page)


def test_quality_and_morphology_are_given_by_group(rich: Path) -> None:
    twin = twin_of(rich)
    quality = twin["tables"]["quality"]["rows"]
    assert ["Age"] in quality
    assert ["Site"] in quality
    london = next(r for r in quality if r[0] == "London")
    assert london[1] % 5 == 0
    assert sum(london[2:]) == pytest.approx(100, abs=2)
    assert {"London", "Chinese", "Camera A"} <= {r[0] for r in twin["tables"]["medians"]["rows"]}


def test_the_estimand_is_said_in_words(rich: Path) -> None:
    text = " ".join(section(twin_of(rich), "performance")["text"])
    assert "the mean of these 5 trained heads, used on new people like those tested" in text


def test_the_citation_can_be_copied_as_a_line_and_as_bibtex(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(100))
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "card.yaml").write_text(
        "about: {title: Eyes of two cities, creators: Eye clinic A; Eye clinic B, released: 2026-01-31, version: '1.0', identifier: 'https://doi.org/10.1234/abc'}\n"
    )
    build(tmp_path)
    found = next(b for b in section(twin_of(tmp_path), "report")["blocks"] if "citation" in b)
    assert found["citation"] == "Eye clinic A; Eye clinic B. Eyes of two cities. version 1.0. 31 January 2026. https://doi.org/10.1234/abc."
    assert "@misc{eyesoftwocities2026," in found["bibtex"]
    assert "author = {{Eye clinic A} and {Eye clinic B}}" in found["bibtex"]
    assert "doi = {10.1234/abc}" in found["bibtex"]


def test_bibtex_cannot_be_broken_out_of() -> None:
    entry = bibtex({"custodian": "}, year = {1900}, x = {\\input{y}", "released": "soon"}, "50 % of {all} & more")
    assert entry.count("{") == entry.count("}")
    assert "1900}" in entry.replace("year = 1900", "1900}")
    assert "\\input" not in entry
    assert r"50 \% of all \& more" in entry


def test_what_nobody_recorded_is_one_calm_sentence(tmp_path: Path) -> None:
    table = cohort_table(200).assign(ethnicity=None, device=None, site=None, acquired_on=None)
    write_cohort(tmp_path / "cohort", table, measured=False)
    build(tmp_path)
    text = section(twin_of(tmp_path), "who")["text"]
    assert [s for s in text if "recorded for nobody" in s] == ["Ethnicity, device, site and year were recorded for nobody."]


def test_of_forty_devices_the_largest_are_drawn_and_the_rest_are_counted(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(1500, devices=40))
    build(tmp_path)
    twin = twin_of(tmp_path)
    assert len(twin["tables"]["device"]["rows"]) == 40
    assert "The 12 largest are drawn; 28 more are in the table." in (tmp_path / "card" / "card.html").read_text(encoding="utf-8")


def test_the_summary_says_that_groups_stay_short(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(600))
    write_shards(tmp_path / "shards", tmp_path / "cohort", per_group=400)
    build(tmp_path)
    assert "so they stay smaller" in twin_of(tmp_path)["summary"]


def test_a_second_registry_is_asked_listed_and_placed(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(100))
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "card.yaml").write_text("registries: [healthsheet]\nitems: {H1: {answer: Two cameras of one maker.}}\n")
    build(tmp_path, registries=["beamrad"])
    twin = twin_of(tmp_path)
    assert twin["items"]["H1"]["registry"] == "healthsheet"
    assert (twin["items"]["H1"]["state"], twin["items"]["B1"]["state"]) == ("reported", "not available")
    assert "H1" in [i for b in section(twin, "who")["blocks"] for i in b.get("items", [])]
    page = (tmp_path / "card" / "card.html").read_text(encoding="utf-8")
    assert "Healthsheet: what it adds" in page
    assert "Two cameras of one maker." in page
