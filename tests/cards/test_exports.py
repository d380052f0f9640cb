# ruff: noqa: E501
"""The exports: what each holds, that its own reader takes it, and what is said where something is missing."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from card_artefacts import build, cohort_table, write_cohort, write_evaluation, write_shards
from exported import ABOUT, answer, make_published, write_tars
from lxml import etree

from cards.exports.chai import NAMESPACE
from cards.exports.content import Content
from cards.exports.croissant import NEURIPS, REQUIRED, description
from cards.exports.files import set_files
from cards.exports.write import FORMATS, export_card, write_exports
from curate import UserError

BUILT = ("README.md", "croissant.json", "chai.xml", "chai-2.xml")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_published(tmp_path_factory.mktemp("published") / "project")


@pytest.fixture(scope="module")
def card(published: Path) -> Content:
    return Content(json.loads((published / "card.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def jsonld(published: Path) -> dict[str, Any]:
    return json.loads((published / "croissant.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort alone, nothing answered."""
    folder = tmp_path_factory.mktemp("bare")
    write_cohort(folder / "cohort", cohort_table(300), measured=False)
    build(folder)
    return folder / "card"


def digests(folder: Path, names: tuple[str, ...] = BUILT) -> dict[str, str]:
    return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names}


# writing


def test_a_build_names_the_files_it_wrote_and_what_they_lack(published: Path) -> None:
    made = build(published.parent)
    assert made["files"] == list(BUILT)
    assert made["open"] == {}
    assert all((published / n).exists() for n in made["files"])


def test_two_builds_and_an_export_from_the_json_alone_give_the_same_bytes(published: Path, tmp_path: Path) -> None:
    first = digests(published)
    build(published.parent, out=tmp_path / "card", answers=published / "card.yaml")
    assert digests(tmp_path / "card") == first
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(published / "card.json", alone)
    for name in ("readme", "croissant", "chai"):
        export_card(name, alone)
    assert digests(alone) == first


def test_a_format_goes_to_the_file_or_folder_that_is_named(published: Path, tmp_path: Path) -> None:
    made = export_card("croissant", published / "card.json", tmp_path / "c.json")
    assert made == {"format": "croissant", "files": [str(tmp_path / "c.json")], "open": []}
    assert (tmp_path / "c.json").read_bytes() == (published / "croissant.json").read_bytes()
    assert [Path(f).name for f in export_card("chai", published, tmp_path / "models")["files"]] == ["chai.xml", "chai-2.xml"]
    with pytest.raises(UserError, match="chai makes 2 files here, so --out must name a folder"):
        export_card("chai", published, tmp_path / "one.xml")
    assert not (tmp_path / "one.xml").exists()


def test_an_unknown_format_or_card_is_said_in_a_line(published: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no format 'croisant'; did you mean 'croissant'"):
        export_card("croisant", published)
    with pytest.raises(UserError, match="card"):
        export_card("readme", tmp_path / "nowhere")
    (tmp_path / "card.json").write_text('{"format": "another card 7"}')
    with pytest.raises(UserError, match="'another card 7', not 'evenfooting card 1'; build the card again"):
        export_card("readme", tmp_path)


def test_model_cards_of_models_that_are_gone_are_removed(published: Path, tmp_path: Path) -> None:
    (tmp_path / "chai-7.xml").write_text("<!-- evenfooting -->")
    write_exports(json.loads((published / "card.json").read_text()), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(BUILT)


def test_a_file_of_somebody_else_is_not_written_over(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(50))
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("# My own words\n")
    with pytest.raises(UserError, match=r"README\.md: was not written by this tool; move it away"):
        build(tmp_path)
    assert (tmp_path / "card" / "README.md").read_text() == "# My own words\n"
    (tmp_path / "card" / "README.md").unlink()
    build(tmp_path)
    build(tmp_path)  # its own are written anew
    (tmp_path / "card" / "card.json").unlink()
    build(tmp_path)


def run_cards(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cards", *arguments], capture_output=True, text=True, check=False)


def test_the_command_prints_what_a_format_lacks_and_fails_in_a_line(bare: Path) -> None:
    done = run_cards("export", "croissant", str(bare))
    assert done.returncode == 0
    assert done.stdout.strip() == str(bare / "croissant.json")
    assert "note: license is missing: write the licence under about, licence" in done.stderr
    result = run_cards("export", "readme", str(bare), "--json", "--quiet")
    assert json.loads(result.stdout)["files"] == [str(bare / "README.md")]
    failed = run_cards("export", "chai", str(bare))
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1


# README.md


def test_datasets_loads_the_photographs_by_the_readme(published: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    shutil.copy(published / "README.md", tmp_path)
    for tar in (published.parent / "shards").glob("*.tar"):
        shutil.copy(tar, tmp_path)
    samples = list(load_dataset(str(tmp_path), split="train", streaming=True))
    assert len(samples) == 6
    assert samples[0]["jpg"].size == (8, 8)


def test_hugging_face_loads_the_readme_offline(published: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    loaded = huggingface_hub.DatasetCard.load(published / "README.md")
    data = loaded.data.to_dict()
    assert data["pretty_name"] == ABOUT["title"]
    assert data["license"] == "cc-by-4.0"
    assert data["size_categories"] == ["n<1K"]
    assert data["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "shard-*.tar"}]}]
    assert "dataset_info" not in data
    assert loaded.text.strip().startswith("<!-- Written by evenfooting")


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("", {"license": "unknown"}),
        ("Our terms, see https://hospital.example/terms.", {"license": "other", "license_name": "Our terms, see https://hospital.example/terms.", "license_link": "https://hospital.example/terms"}),
        ("cc0 1.0", {"license": "cc0-1.0"}),
    ],
)  # fmt: skip
def test_licences_get_the_names_that_hugging_face_knows(card: Content, licence: str, fields: dict[str, str]) -> None:
    changed = Content({**card.card, "about": {**card.card["about"], "licence": licence}})
    text = FORMATS["readme"](changed)["README.md"]
    front = yaml.safe_load(text.split("---")[1])
    assert {k: v for k, v in front.items() if k.startswith("license")} == fields


def test_the_readme_says_what_the_card_says(published: Path, card: Content) -> None:
    text = (published / "README.md").read_text(encoding="utf-8")
    assert card.protection in text
    for said in ("Not for diagnosis.", "A panel of patients.", "Whom those models serve"):
        assert said in text
    white = next(line for line in text.splitlines() if line.startswith("| White | 110"))
    assert re.search(r"0\.\d+ \(0\.\d+ to 0\.\d+\)", white)
    assert next(line for line in text.splitlines() if line.startswith("| Black |") and "| natural |" in line).count("hidden") >= 3
    assert "rows, in [card.html](card.html)" in text


# croissant.json


def test_mlcroissant_takes_it_without_a_warning_and_reads_photographs_from_the_tars(published: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlcroissant")
    shutil.copy(published / "croissant.json", tmp_path)
    for tar in (published.parent / "shards").glob("*.tar"):
        shutil.copy(tar, tmp_path)
    code = """
import mlcroissant
data = mlcroissant.Dataset("croissant.json")
assert not data.metadata.ctx.issues.errors and not data.metadata.ctx.issues.warnings, data.metadata.ctx.issues.report()
print([(r["photographs/key"].decode(), r["photographs/image"].size) for r in data.records("photographs")])
"""
    # A process of its own: the reader keeps what it unpacks in a folder that it chooses when it is imported.
    environment = {**os.environ, "CROISSANT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    assert sorted(ast.literal_eval(done.stdout)) == [(f"{i:012x}{k:012x}", (8, 8)) for i in range(2) for k in range(3)]


def test_every_required_field_is_there_by_the_specifications_own_name(jsonld: dict[str, Any]) -> None:
    assert set(REQUIRED) | set(NEURIPS) | {"@context", "@type", "conformsTo"} <= set(jsonld)
    assert jsonld["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    assert jsonld["@context"]["conformsTo"] == "dct:conformsTo"
    assert {"rai:dataCollectionTimeframe", "rai:dataManipulationProtocol"} <= set(jsonld)
    assert not {k for k in jsonld if k in ("rai:dataCollectionTimeFrame", "rai:dataDataManipulationProtocol")}
    assert jsonld["rai:dataCollectionTimeframe"] == ["2008-01-01", "2018-12-31"]
    assert jsonld["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    assert jsonld["creator"]["name"] == "The reading centre"
    assert jsonld["publisher"]["name"] == "An eye hospital"


def test_counts_are_annotations_and_equal_the_protected_tables(published: Path, card: Content, jsonld: dict[str, Any]) -> None:
    photographs = jsonld["recordSet"][0]
    found = {a["@id"]: a for a in photographs["annotation"]}
    assert found["photographs/people"]["value"] == card.card["counts"]["people"]["set"]
    for attribute in ("age", "sex", "ethnicity", "device", "site", "year"):
        table = card.card["tables"][attribute]
        at = [c["id"] for c in table["columns"]].index("set")
        shown = [r[at] if not isinstance(r[at], dict) else "hidden" for r in table["rows"]]
        assert [f["value"] for f in found[f"photographs/people-by-{attribute}"]["subField"]] == shown
    everything = (published / "croissant.json").read_text()
    assert "nsamples" not in everything
    assert "hidden" in everything


def test_counts_of_an_embedded_column_stand_at_its_field(card: Content) -> None:
    files = {**card.card["set"]["files"], "columns": ["width", "height", "age", "Grade (left)", "it's"]}
    sets = description(Content({**card.card, "set": {**card.card["set"], "files": files}}))["recordSet"]
    fields = {f["name"]: f for f in sets[1]["field"]}
    assert fields["age"]["annotation"][0]["@id"] == "photographs/people-by-age"
    assert "photographs/people-by-age" not in [a["@id"] for a in sets[0]["annotation"]]
    assert fields["Grade (left)"]["source"]["extract"] == {"jsonPath": "$['Grade (left)']"}
    assert fields["it's"]["source"]["extract"] == {"jsonPath": "$"}


def test_files_have_the_checksums_of_their_bytes(published: Path, jsonld: dict[str, Any]) -> None:
    objects = {f["@id"]: f for f in jsonld["distribution"] if f["@type"] == "cr:FileObject"}
    assert set(objects) == {"shard-000000.tar", "shard-000001.tar", "index.parquet"}
    for name, file in objects.items():
        assert file["contentUrl"] == name
        assert file["sha256"] == hashlib.sha256((published.parent / "shards" / name).read_bytes()).hexdigest()


def test_a_large_set_is_named_by_a_pattern_and_checked_by_its_index(
    published: Path, card: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    monkeypatch.setattr("cards.exports.files.HASH_AT_MOST", 100)
    files = set_files(published.parent / "shards", {})
    assert files["tars"] == []
    made = write_exports({**card.card, "set": {**card.card["set"], "files": files}}, tmp_path)
    assert made["open"] == {}
    data = mlcroissant.Dataset(tmp_path / "croissant.json")
    assert {f.id for f in data.metadata.distribution} == {"index.parquet", "shards", "jpeg-files", "json-files"}


def test_recorded_md5_sums_are_used_as_they_are(tmp_path: Path) -> None:
    write_tars(tmp_path, checksum="md5sum")
    assert set_files(tmp_path, {})["tars"][1] == {"name": "shard-000001.tar", "md5": f"{1:032x}"}


def test_a_list_of_shards_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shards.json").write_text(json.dumps({"shardlist": [{"url": "../../etc/passwd"}]}))
    with pytest.raises(UserError, match="no tar in that folder"):
        set_files(tmp_path, {})


# chai.xml

LEAF = None
METRIC = {"MetricGoal": LEAF, "Results": {"MetricResult": {"Label": LEAF, "ValueJson": LEAF}}, "Interpretation": LEAF, "TestType": LEAF, "TestingDataDescription": LEAF, "ValidationProcessAndJustification": LEAF}  # fmt: skip
# The elements of the applied model card v0.2 in their order; `?` marks those that may be absent, `+` those that come once or more.
STRUCTURE = {
    "BasicInfo": {"ModelName": LEAF, "ModelDeveloper": LEAF, "DeveloperContact": LEAF},
    "ReleaseInfo": {"ReleaseStage": LEAF, "ReleaseDate": LEAF, "ReleaseVersion": LEAF, "GlobalAvailability": LEAF},
    "ModelSummary": {"Summary": LEAF, "Keywords": LEAF},
    "UsesAndDirections": {"IntendedUseAndWorkflow": LEAF, "PrimaryIntendedUsers": LEAF, "HowToUse": LEAF, "TargetedPatientPopulation": LEAF, "CautionedOutOfScopeSettings": LEAF},
    "Warnings": {"KnownRisksAndLimitations": LEAF, "KnownBiasesOrEthicalConsiderations": LEAF, "ClinicalRiskLevel": LEAF},
    "TrustIngredients": {
        "AISystemFacts": {"OutcomesAndOutputs": LEAF, "ModelType": LEAF, "FoundationModels": LEAF, "InputDataSource": LEAF, "OutputAndInputDataTypes": LEAF, "DevelopmentDataCharacterization": LEAF, "BiasMitigationApproaches": LEAF, "OngoingMaintenance": LEAF},
        "TransparencyInformation": {"FundingSource": LEAF, "StakeholdersConsulted": LEAF},
    },
    "KeyMetrics": {"UsefulnessUsabilityEfficacy": METRIC, "FairnessEquity": METRIC, "SafetyReliability": METRIC},
    "Resources": {"PeerReviewedPublications": LEAF, "PatientConsentOrDisclosure": LEAF},
    "Bibliography": LEAF,
}  # fmt: skip


def check_structure(element: Any, expected: dict[str, Any] | None) -> None:
    names = [etree.QName(child).localname for child in element]
    if expected is LEAF:
        assert names == []
        return
    assert list(dict.fromkeys(names)) == list(expected), element.tag
    assert element.text is None or not element.text.strip()
    for child in element:
        name = etree.QName(child).localname
        assert names.count(name) == 1 or name == "MetricResult"
        check_structure(child, expected[name])


def model_card(path: Path) -> Any:
    root = etree.parse(path).getroot()
    assert root.tag == f"{{{NAMESPACE}}}AppliedModelCard"
    check_structure(root, STRUCTURE)
    return root


def results(root: Any, where: str) -> dict[str, dict[str, Any]]:
    found = root.findall(f".//{{*}}{where}/{{*}}Results/{{*}}MetricResult")
    return {r.findtext("{*}Label"): json.loads(r.findtext("{*}ValueJson")) for r in found}


def test_each_model_gets_a_card_of_the_schemas_structure_with_its_own_results(published: Path) -> None:
    models = [model_card(published / n) for n in ("chai.xml", "chai-2.xml")]
    assert [m.findtext(".//{*}ModelName") for m in models] == ["natural", "balanced"]
    everyone = [results(m, "UsefulnessUsabilityEfficacy") for m in models]
    assert [next(iter(e.values()))["estimate"] for e in everyone] == [0.84, 0.851]
    groups = results(models[0], "FairnessEquity")
    chinese = next(v for k, v in groups.items() if k.startswith("AUROC, Ethnicity: Chinese"))
    assert (chinese["kind"], chinese["estimate"], chinese["level"]) == ("estimate_ci", 0.86, 95)
    assert "lowest for" in models[0].findtext(".//{*}FairnessEquity/{*}Interpretation")
    assert list(results(models[0], "SafetyReliability").values()) == [{"kind": "none"}]


def test_a_suppressed_result_stays_a_row_without_a_value(published: Path) -> None:
    groups = results(model_card(published / "chai.xml"), "FairnessEquity")
    assert next(v for k, v in groups.items() if "Ethnicity: Black" in k) == {"kind": "suppressed"}


def test_what_people_answered_stands_in_the_model_card(published: Path) -> None:
    root = model_card(published / "chai.xml")
    for element, said in {"FundingSource": "A public fund", "InputDataSource": "Screening at two hospitals.", "PatientConsentOrDisclosure": "Approved; consent waived.", "DeveloperContact": ABOUT["contact"]}.items():  # fmt: skip
        assert said in root.findtext(f".//{{*}}{element}")


# tables


def test_every_table_is_written_as_csv_with_the_cards_numbers(published: Path, card: Content, tmp_path: Path) -> None:
    made = export_card("tables", published, tmp_path / "csv")
    assert {Path(f).stem for f in made["files"]} == set(card.card["tables"])
    with open(tmp_path / "csv" / "ethnicity.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][0] == "Ethnicity"
    table = card.card["tables"]["ethnicity"]
    assert len(rows) == 1 + len(table["rows"])
    for row, cells in zip(rows[1:], table["rows"], strict=True):
        assert row == [("hidden" if isinstance(c, dict) else "" if c is None else str(c)) for c in cells]
    with open(tmp_path / "csv" / "estimates-1.csv", encoding="utf-8", newline="") as file:
        estimates = list(csv.DictReader(file))
    assert {r["Attribute"] for r in estimates} == {"", "Age", "Sex", "Ethnicity"}


# what is missing


def test_a_cohort_alone_gives_what_it_can_and_says_what_is_missing(bare: Path) -> None:
    content = Content(json.loads((bare / "card.json").read_text()))
    made = write_exports(content.card, bare)
    assert made["files"] == ["README.md", "croissant.json"]
    lines = made["open"]["croissant.json"]
    assert "distribution is missing: there is no shard set beside this card; draw one with: curate sample" in lines
    assert "datePublished is missing: write a date such as 2026-03-31 under about, released" in lines
    assert any(line.startswith("creator is missing: ") and "custodian" in line for line in lines)
    assert any(line.startswith("rai:dataUseCases is missing (NeurIPS asks for it): answer item 1.1c") for line in lines)
    assert made["open"]["chai.xml"] == ["not written: no model was evaluated; run: evaluate run"]
    found = json.loads((bare / "croissant.json").read_text())
    assert not {"license", "url", "creator", "datePublished", "distribution"} & set(found)
    with pytest.raises(UserError, match="nothing to write as chai: not written: no model was evaluated"):
        export_card("chai", bare)
    assert "configs" not in yaml.safe_load((bare / "README.md").read_text().split("---")[1])


def test_every_line_about_a_required_field_goes_away_when_it_is_answered(card: Content) -> None:
    from cards.exports import chai, croissant, readme

    for module in (croissant, chai, readme):
        assert module.missing(card) == []
    for field, name in {"licence": "license", "released": "datePublished"}.items():
        without = Content({**card.card, "about": {**card.card["about"], field: ""}})
        assert [line for line in croissant.missing(without) if line.startswith(f"{name} is missing")]


def test_a_date_in_words_is_no_date(card: Content) -> None:
    from cards.exports.croissant import missing

    said = Content({**card.card, "about": {**card.card["about"], "released": "spring 2026"}})
    assert any(line.startswith("datePublished is missing: write a date such as") for line in missing(said))


def test_a_reason_for_not_answering_is_an_answer_and_not_answered_yet_is_none(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(100), measured=False)
    answer(tmp_path / "card", {}, {})
    content = {"items": {"1.1c": {"state": "cannot be reported", "reason": "under a court order"}}}
    (tmp_path / "card" / "card.yaml").write_text(json.dumps(content))
    build(tmp_path)
    found = json.loads((tmp_path / "card" / "croissant.json").read_text())
    assert found["rai:dataUseCases"] == ["cannot be reported: under a court order"]
    assert "rai:dataSocialImpact" not in found


def test_an_evaluation_without_shards_or_runs_has_its_model_card(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(200))
    write_evaluation(tmp_path / "evaluation", models=("only",))
    build(tmp_path)
    root = model_card(tmp_path / "card" / "chai.xml")
    assert root.findtext(".//{*}ModelName") == "only"
    assert not (tmp_path / "card" / "chai-2.xml").exists()


def test_one_person_is_counted_in_no_export(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(1, seed=2))
    build(tmp_path)
    found = json.loads((tmp_path / "card" / "croissant.json").read_text())
    values = [f.get("value") for a in found["recordSet"][0]["annotation"] for f in a.get("subField", [a])]
    assert set(values) <= {"hidden", 0}
    assert "size_categories" not in yaml.safe_load((tmp_path / "card" / "README.md").read_text().split("---")[1])


def test_a_card_without_protection_says_so_in_every_export(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(100))
    write_shards(tmp_path / "shards", tmp_path / "cohort")
    write_evaluation(tmp_path / "evaluation")
    build(tmp_path, policy="none")
    for name in BUILT:
        assert "Do not publish it" in (tmp_path / "card" / name).read_text(), name
    assert "The numbers on this card are not protected." in (tmp_path / "card" / "README.md").read_text()
