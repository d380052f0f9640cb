"""Building: what is written, from what, and what is said where something is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from card_artefacts import build, cohort_table, make_project, write_cohort, write_evaluation, write_shards

from cards import build_card, init_card
from curate import UserError


def test_every_table_of_the_page_is_in_the_twin(html: str, twin: dict[str, Any]) -> None:
    import re

    printed = set(re.findall(r'<table id="t-([^"]+)"', html))
    assert printed == set(twin["tables"])
    assert {
        "age-sex",
        "age",
        "sex",
        "ethnicity",
        "gates",
        "gate-cost",
        "allocation",
        "missing",
        "measures",
        "runs",
        "estimates-1",
        "comparisons-1",
    } <= printed


def counts_of(twin: dict[str, Any]) -> list[tuple[str, int]]:
    found = []
    for name, table in twin["tables"].items():
        kinds = [c["kind"] for c in table["columns"]]
        for row in [*table["rows"], *([table["total"]] if "total" in table else [])]:
            found += [(name, cell) for kind, cell in zip(kinds, row, strict=False) if kind == "count" and isinstance(cell, int)]
    return found


def test_no_count_of_one_to_seven_is_in_the_twin_and_all_are_rounded(twin: dict[str, Any]) -> None:
    found = counts_of(twin)
    assert len(found) > 100
    for name, value in found:
        assert value == 0 or value >= 10, name
        assert value % 5 == 0, name


def test_totals_in_the_twin_are_sums_of_the_cells_shown(twin: dict[str, Any]) -> None:
    checked = 0
    for table in twin["tables"].values():
        for i, column in enumerate(table["columns"]):
            if column["kind"] == "count" and "total" in table:
                assert table["total"][i] == sum(r[i] for r in table["rows"] if len(r) > 1 and isinstance(r[i], int))
                checked += 1
    assert checked > 8


def test_composition_agrees_with_the_cohort(project: Path, twin: dict[str, Any]) -> None:
    table = pd.read_parquet(project / "cohort" / "cohort.parquet")
    rows = {r[0]: r[1] for r in twin["tables"]["site"]["rows"]}
    for site, people in table.groupby("site")["patient_id"].nunique().items():
        assert abs(rows[site] - people) <= 2


def test_a_fairness_result_on_few_positives_is_hidden_but_keeps_its_row(twin: dict[str, Any]) -> None:
    table = twin["tables"]["estimates-1"]
    names = [c["id"] for c in table["columns"]]
    black = [r for r in table["rows"] if r[0] == "Black"]
    assert len(black) == 2  # five patients with a positive image, two models
    for row in black:
        assert row[names.index("auroc")] == {"suppressed": True}
        assert row[names.index("positive")] == {"suppressed": True}
    chinese = next(r for r in table["rows"] if r[0] == "Chinese")
    assert chinese[names.index("auroc")] == 0.86


def test_a_comparison_of_few_people_is_hidden(twin: dict[str, Any]) -> None:
    rows = [r for r in twin["tables"]["comparisons-1"]["rows"] if r[0].endswith("Black")]
    assert rows
    assert all(cell == {"suppressed": True} for row in rows for cell in row[3:])


def test_states_are_given_for_every_item_and_there_is_no_score(twin: dict[str, Any], html: str) -> None:
    assert len(twin["items"]) == 21
    assert {i["state"] for i in twin["items"].values()} == {"reported", "not available"}
    assert twin["items"]["1.2a"]["state"] == "reported"
    assert twin["items"]["1.4a"]["reason"] == "not answered yet"
    assert not any(i["verified_against_primary"] for i in twin["items"].values())
    assert "8 further recommendations on use" in html


def test_the_card_states_its_policy_and_how_many_numbers_it_hid(twin: dict[str, Any], html: str) -> None:
    said = twin["disclosure"]
    assert said["name"] == "opensafely"
    assert said["hidden_small"] > 0
    assert f"{said['hidden_small']} numbers are hidden" in html


def test_two_builds_give_the_same_bytes_with_and_without_card_yaml(project: Path, tmp_path: Path) -> None:
    first = {n: (project / "card" / n).read_bytes() for n in ("card.html", "card.json", "card.yaml")}
    build(project)  # now card.yaml is there
    assert {n: (project / "card" / n).read_bytes() for n in first} == first
    build(project, out=tmp_path / "card")
    assert {n: (tmp_path / "card" / n).read_bytes() for n in first} == first


def test_the_page_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    sizes = []
    for people in (600, 6000):
        folder = tmp_path / str(people)
        write_cohort(folder / "cohort", cohort_table(people))
        write_shards(folder / "shards", folder / "cohort", per_group=people // 8)
        sizes.append(build(folder)["bytes"])
    assert sizes[1] < sizes[0] * 1.05
    assert sizes[1] < 600_000


def test_hundreds_of_groups_and_tasks_stay_below_the_size_limit(tmp_path: Path) -> None:
    table = cohort_table(900, devices=400, sites=tuple(f"Site {i} " + "x" * 200 for i in range(150)))
    table = pd.concat([table, pd.DataFrame(None, index=table.index, columns=[f"column {i}" for i in range(100)])], axis=1)
    folder = make_project(tmp_path / "p", table)
    assert build(folder)["bytes"] < 600_000


def test_a_cohort_alone_gives_a_card_that_says_what_is_absent(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(300), measured=False)
    build(tmp_path)
    html = (tmp_path / "card" / "card.html").read_text()
    for sentence in (
        "Nothing was sampled.",
        "Nothing was measured on the photographs.",
        "No model has been trained on it yet",
        "No model trained on it has been evaluated",
    ):
        assert sentence in html


def test_one_person_is_never_counted(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(1, seed=2))
    build(tmp_path)
    twin = json.loads((tmp_path / "card" / "card.json").read_text())
    assert not [c for c in counts_of(twin) if c[1] not in (0,) and c[0] != "cleaning"]
    assert "so few people" in twin["summary"]


def test_without_the_private_keys_the_set_is_described_by_what_the_sampling_counted(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(600))
    write_shards(tmp_path / "shards", tmp_path / "cohort", private=False)
    build(tmp_path)
    twin = json.loads((tmp_path / "card" / "card.json").read_text())
    assert "set" in [c["id"] for c in twin["tables"]["age"]["columns"]]
    assert "set" not in [c["id"] for c in twin["tables"]["device"]["columns"]]
    assert "stays with the custodian" in (tmp_path / "card" / "card.html").read_text()


def test_keys_of_another_cohort_are_not_joined(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(300))
    write_shards(tmp_path / "shards", tmp_path / "cohort")
    cohort_table(301).to_parquet(tmp_path / "cohort" / "cohort.parquet", index=False)
    build(tmp_path)
    assert "drawn from another version of this cohort" in (tmp_path / "card" / "card.html").read_text()


def test_a_single_model_is_shown_without_differences(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(200))
    write_evaluation(tmp_path / "evaluation", models=("only",))
    build(tmp_path)
    twin = json.loads((tmp_path / "card" / "card.json").read_text())
    assert "estimates-1" in twin["tables"]
    assert "comparisons-1" not in twin["tables"]


def test_an_evaluation_of_many_metrics_shows_the_papers_two(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(100))
    write_evaluation(tmp_path / "evaluation")
    for name in ("estimates", "comparisons"):
        file = tmp_path / "evaluation" / f"{name}.parquet"
        table = pd.read_parquet(file).assign(threshold="")
        further = [table.assign(metric=metric, threshold=at) for metric, at in (("brier", ""), ("ppv", "youden"), ("ppv", "0.5"))]
        pd.concat([table, *further]).to_parquet(file, index=False)
    build(tmp_path)
    tables = json.loads((tmp_path / "card" / "card.json").read_text())["tables"]
    assert {c["id"] for c in tables["estimates-1"]["columns"]} >= {"auroc", "auprc"}
    assert not {c["id"] for c in tables["estimates-1"]["columns"]} & {"brier", "ppv"}
    assert {r[1] for r in tables["comparisons-1"]["rows"]} <= {"AUROC", "AUPRC"}


def test_an_evaluation_on_too_few_people_keeps_its_rows_without_a_figure(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(100))
    write_evaluation(tmp_path / "evaluation")
    table = pd.read_parquet(tmp_path / "evaluation" / "estimates.parquet").assign(n_pos_patients=3)
    table.to_parquet(tmp_path / "evaluation" / "estimates.parquet", index=False)
    build(tmp_path)
    twin = json.loads((tmp_path / "card" / "card.json").read_text())
    rows = [r for r in twin["tables"]["estimates-1"]["rows"] if len(r) > 1]
    assert len(rows) == 24
    assert all(r[4] == {"suppressed": True} for r in rows)
    assert "large enough for a result to be shown" in (tmp_path / "card" / "card.html").read_text()


def test_policy_none_carries_a_banner(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(100))
    build(tmp_path, policy="none")
    html = (tmp_path / "card" / "card.html").read_text()
    assert 'class="banner"' in html
    assert "Do not publish it" in html


def test_no_cohort_is_a_user_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no cohort here"):
        build(tmp_path)
    assert not (tmp_path / "card").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(50))
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds holiday\.jpg"):
        build(tmp_path)
    (tmp_path / "card" / "holiday.jpg").rename(tmp_path / "card" / "card.json")
    (tmp_path / "card" / "card.json").write_text("{}")
    with pytest.raises(UserError, match="not made by this tool"):
        build(tmp_path)


def test_a_damaged_evaluation_stops_in_one_line_and_keeps_the_former_card(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(50))
    build(tmp_path)
    before = (tmp_path / "card" / "card.html").read_bytes()
    write_evaluation(tmp_path / "evaluation")
    (tmp_path / "evaluation" / "estimates.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"estimates\.parquet: cannot be read"):
        build(tmp_path)
    assert (tmp_path / "card" / "card.html").read_bytes() == before


def test_init_writes_every_item_once_and_never_again(tmp_path: Path) -> None:
    import yaml

    made = init_card(out=tmp_path / "card", cohort=tmp_path / "none")
    text = (tmp_path / "card" / "card.yaml").read_text(encoding="utf-8")
    assert made["written"]
    assert len(yaml.safe_load(text)["items"]) == 21
    assert text.count("#: Question:") == text.count("#: A good answer holds:") == 21
    (tmp_path / "card" / "card.yaml").write_text("about: {title: Mine}\n")
    assert not init_card(out=tmp_path / "card")["written"]
    assert (tmp_path / "card" / "card.yaml").read_text() == "about: {title: Mine}\n"


def test_build_never_writes_over_card_yaml(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(50))
    build(tmp_path)
    path = tmp_path / "card" / "card.yaml"
    path.write_text("about: {title: My own name, custodian: An eye hospital}\n")
    build(tmp_path)
    assert path.read_text() == "about: {title: My own name, custodian: An eye hospital}\n"
    assert '<h1 dir="auto">My own name</h1>' in (tmp_path / "card" / "card.html").read_text()


def test_public_names_are_those_of_the_room() -> None:
    assert callable(build_card)
    import cards

    with pytest.raises(AttributeError):
        _ = cards.nothing


def test_a_target_is_called_by_its_name_and_not_as_balanced(tmp_path: Path) -> None:
    folder = make_project(tmp_path)
    path = folder / "shards" / "sample.json"
    sample = json.loads(path.read_text())
    path.write_text(json.dumps({**sample, "target": "cohort:/srv/secret-ward/other-site/"}))
    build(folder)
    page = (folder / "card" / "card.html").read_text(encoding="utf-8")
    assert "towards this target: other-site." in page
    assert "secret-ward" not in page
    assert "weigh the same" not in page
