"""Direct identifiers are recognised by name and by content, never copied, never shown; ordinary columns are left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from archives import people
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.identifiers import kind_by_name, kind_of_column, kind_of_value, redact
from curate.ingest import ingest_archive

Archive = Callable[..., Path]

SURNAMES = ["Abbott", "Okafor", "Silva", "Patel", "Nguyen", "Kowalski", "Haddad", "Jensen"]
GIVEN = ["John", "Maria", "Ahmed", "Priya", "Peter", "Anna", "Omar", "Susan"]


@pytest.mark.parametrize(
    "name",
    [
        "name", "Surname", "first_name", "PatientName", "Patient's Name", "date_of_birth", "DOB", "dob", "birthdate", "BirthDate",
        "Date of Birth", "address", "Home Address", "address_line_1", "street", "Postcode", "ZIP code", "zip", "phone", "mobile",
        "Telephone No",         "home_phone", "email", "E-mail", "NHS Number", "nhs_no",
        "MRN", "SSN", "national_id", "Insurance Number", "passport_no",
        "next of kin", "GP name", "Nome", "CPF", "Geburtsdatum", "data de nascimento", "fecha_nacimiento",
    ],
)  # fmt: skip
def test_a_name_that_promises_an_identifier_is_enough(name: str) -> None:
    assert kind_by_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "lens_name", "file_name", "camera_name", "device", "hospital", "site", "image_id", "comorbidities", "diabetes_time_y", "insuline",
        "nationality", "optic_disc", "vessels", "macula", "DR_SDRG", "Illuminaton", "image_field", "artifacts", "increased_cup_disc",
        "educational_level", "insurance", "smoking", "dm_time", "final_icdr", "final_edema", "Left-Diagnostic Keywords", "labels", "target",
        "Pachymetry", "Axial_Length", "VF_MD", "dioptre_1", "Phakic/Pseudophakic", "54-0.0", "p21003_i0", "maritalstatus", "language",
        "year_of_birth", "mobile_camera", "smartphone", "phone_model", "dominant_eye", "N", "O", "visit", "scanner_address_bus", "gender",
    ],
)  # fmt: skip
def test_ordinary_names_promise_nothing(name: str) -> None:
    assert kind_by_name(name) is None


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("e-mail addresses", ["none"] * 30 + ["ann@example.org"]),
        ("NHS numbers", ["943 476 5919", "987 654 4322", "401-023-2137"]),
        ("numbers with the NHS's check digit", ["9434765919", "9876544322", "4010232137"]),
        ("telephone numbers", ["07700 900123", "+44 20 7946 0958", "(020) 7946 0321", "07700900456", "555-234-9876"]),
        ("postal codes", ["NW1 2DB", "ec1v 2pd", "SW1A1AA", "90210-1234"]),
        ("street addresses", ["12 High Street, Leeds", "7 Station Road", "Rua Augusta, 1500", "Hauptstraße 12"]),
        ("national identity numbers", ["219-09-9999", "QQ123456C".replace("QQ", "AB"), "529.982.247-25", "11010519491231002X"]),
        ("personal names", ["SMITH, John", "O'BRIEN, Mary", "DE SOUZA, Maria"]),
        ("personal names", [f"{s.upper()}^{g.upper()}" for s, g in zip(SURNAMES, GIVEN, strict=True)]),
        ("personal names", ["Mr Abbott", "Mrs Okafor", "Dr Silva"]),
        ("personal names", [f"{g} {s}" for g, s in zip(GIVEN, SURNAMES, strict=True)]),
        ("personal names", [f"{s}, {s[:3]}a" for s in SURNAMES]),
        ("names or numbers of people within its text", ["no retinopathy seen today", "spoke to Mrs Okafor about the appointment"]),
        ("names or numbers of people within its text", ["ring the daughter on 07700 900123 please", "x"]),
    ],
)  # fmt: skip
def test_what_a_column_holds_gives_it_away(kind: str, values: list[str]) -> None:
    patients = pd.Series([f"p{i}" for i in range(len(values))])
    assert kind_of_column(pd.Series(values, dtype=object), patients=patients) == kind


@pytest.mark.parametrize(
    "values",
    [
        ["Canon CR", "NIKON NF5050", "Topcon TRC-50", "Carl Zeiss Visucam", "Phelcom Eyer"],
        ["Adequate", "Inadequate"],
        ["normal fundus", "mild nonproliferative retinopathy", "drusen，macular epiretinal membrane", "moderate DR, laser spots"],
        ["Retinopathy, mild", "Glaucoma, Suspect", "Cataract, Nuclear"],
        ["DR Mild", "DR Severe", "MS Relapsing"],
        ["Moorfields Eye Hospital", "St Thomas' Hospital", "Royal Victoria Infirmary", "Maria Louisa Clinic"],
        ["White British", "Black African", "Any other Asian background"],
        ["diabetes1", "hypertension", "SAH"],
        ["['N']", "['D']"],
        ["0001", "0002", "0003"],
        ["1234567890", "1234567891", "1234567892"],
        ["2.16.840.1.113883", "1.2.840.10008"],
        ["img00001", "img00002"],
        ["2020-01-15", "2020-02-15"],
        ["12", "13.5", "-0.75"],
        ["1.1.jpg", "985.1.jpg"],
        ["New Zealand", "Brazil", "South Korea"],
        ["OD", "OS"],
        ["single", "married or partnered", "widowed"],
        ["Left eye dilated at 10 o'clock in room 3", "poor fixation, second attempt 12 minutes later"],
    ],
)
def test_ordinary_columns_are_left_alone(values: list[str]) -> None:
    patients = pd.Series([f"p{i}" for i in range(len(values))])
    acquired = pd.Series(["2021-01-01"] * len(values))
    ages = pd.Series([60.0] * len(values))
    column = pd.Series(values, dtype=object)
    assert kind_of_column(column, patients=patients, acquired=acquired, ages=ages) is None
    assert [v for v in values if kind_of_value(v)] == []


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%Y%m%d", "%d %b %Y", "%d.%m.%Y"])
def test_dates_of_birth_are_as_far_back_as_their_patients_are_old(form: str) -> None:
    births = pd.Series(pd.to_datetime(["1950-03-12", "1950-03-12", "1961-07-30", "1938-01-19"]))
    text, patients = births.dt.strftime(form).astype(object), pd.Series(["a", "a", "b", "c"])
    acquired = pd.Series(["2020-05-01", "2021-05-01", "2020-05-01", "2020-05-01"])
    assert kind_of_column(text, patients=patients, acquired=acquired, ages=pd.Series([70.0, 71.0, 58.0, 82.0])) == "dates of birth"
    assert kind_of_column(text, patients=patients, acquired=acquired) == "dates of birth"
    assert kind_of_column(text, patients=patients) == "dates of birth"


def test_other_dates_of_a_patient_are_not_dates_of_birth() -> None:
    patients, acquired = pd.Series(["a", "a", "b", "c"]), pd.Series(["2020-05-01", "2021-05-01", "2020-05-01", "2020-05-01"])
    ages = pd.Series([70.0, 71.0, 58.0, 82.0])
    diagnosed = pd.Series(["2005-01-01", "2005-01-01", "1999-03-03", "2011-01-01"])
    assert kind_of_column(diagnosed, patients=patients, acquired=acquired, ages=ages) is None
    assert kind_of_column(acquired, patients=patients, acquired=acquired) is None
    entered = pd.Series(["2018-01-01", "2018-01-01", "2018-03-03", "2019-01-01"])
    assert kind_of_column(entered, patients=patients, acquired=acquired) is None


def test_what_looks_like_an_identifier_is_shown_as_its_kind() -> None:
    assert redact("ann@example.org") == "(looks like e-mail addresses; not shown)"
    assert redact("12/03/1950") == "(looks like a date; not shown)"
    assert redact("John Abbott") == "(looks like personal names; not shown)"
    assert redact("Canon CR-2") == "Canon CR-2"


def with_columns(rows: list[dict[str, str]], **columns: Callable[[int], str]) -> list[dict[str, str]]:
    return [{**row, **{name: value(i // 2) for name, value in columns.items()}} for i, row in enumerate(rows)]


def test_a_cohort_holds_none_of_them_and_says_which_columns_it_left_out(archive: Archive, tmp_path: Path) -> None:
    rows = with_columns(
        people(8),
        who=lambda i: f"{GIVEN[i]} {SURNAMES[i]}",
        contact=lambda i: f"{GIVEN[i].lower()}@example.org",
        born=lambda i: f"19{40 + i}-03-12",
        lens=lambda i: ["45 degrees", "30 degrees"][i % 2],
    )
    about = ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    assert about["identifiers"] == {"who": "personal names", "contact": "e-mail addresses", "born": "its name"}
    read = read_cohort(tmp_path / "cohort")
    assert "lens" in read.table.columns
    noted = read.ledger().query("rule == 'direct-identifier'")
    said = [[1, column, f"not copied because of {kind}"] for column, kind in about["identifiers"].items()]
    assert noted[["row", "column", "after"]].to_numpy().tolist() == said
    text = " ".join(map(str, [*read.table.to_numpy().ravel(), *read.ledger().to_numpy().ravel(), read.about]))
    assert not [word for word in (*SURNAMES, "@example", "1941-03-12") if word in text]


def test_a_column_is_kept_by_name_alone(archive: Archive, tmp_path: Path) -> None:
    rows = with_columns(people(4), who=lambda i: f"{GIVEN[i]} {SURNAMES[i]}", address=lambda i: "bus 3")
    manifest = archive(rows)
    ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "cohort", keep_columns=["address"], workers=1)
    read = read_cohort(tmp_path / "cohort")
    assert set(read.table["address"]) == {"bus 3"}
    assert list(read.about["identifiers"]) == ["who"]
    with pytest.raises(UserError, match=r"--keep-column adress: the manifest has no such column; did you mean 'address'\?"):
        ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "other", keep_columns=["adress"], workers=1)


def test_single_cells_that_identify_someone_become_missing(archive: Archive, tmp_path: Path) -> None:
    rows = with_columns(people(8), remark=lambda i: "943 476 5919" if i == 3 else f"seen {i}")
    rows[0]["sex"], rows[2]["camera"], rows[4]["hospital"] = "SMITH, John", "07700 900123", "Mrs Okafor"
    ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    read = read_cohort(tmp_path / "cohort")
    ledger = read.ledger()
    assert ledger[ledger["rule"] == "identifier-value"]["column"].tolist() == ["device", "site", "remark", "remark"]
    assert set(ledger[ledger["rule"] == "identifier-value"]["before"]) == {
        "(looks like telephone numbers; not shown)", "(looks like personal names; not shown)", "(looks like NHS numbers; not shown)"
    }  # fmt: skip
    text = " ".join(map(str, [*read.table.to_numpy().ravel(), *ledger.to_numpy().ravel()]))
    assert not [v for v in ("SMITH", "07700", "Okafor", "943 476") if v in text]


def test_patient_ids_that_look_like_people_are_used_with_a_warning(archive: Archive, tmp_path: Path) -> None:
    rows = people(3)
    for i, row in enumerate(rows):
        row["patient_id"] = ["943 476 5919", "987 654 4322", "401 023 2137"][i // 2]
    about = ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    assert about["counts"]["patients"] == 3
    assert any("column 'patient_id' (patient_id) looks like NHS numbers" in warning for warning in about["warnings"])


def test_dates_of_birth_give_ages_and_are_not_kept(archive: Archive, tmp_path: Path) -> None:
    rows = with_columns([{**row, "age": ""} for row in people(4)], DOB=lambda i: f"19{50 + i}-06-20")
    ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", column_map=["birth_date=DOB"], workers=1)
    read = read_cohort(tmp_path / "cohort")
    assert sorted(set(read.table["age"])) == [66, 67, 68, 69]
    assert "DOB" not in read.table.columns
    assert set(read.ledger()["rule"]) == {"age-from-birth-date"}
    assert "1950-06-20" not in read.ledger().to_string()


def test_dates_of_birth_in_the_age_column_become_ages(archive: Archive, tmp_path: Path) -> None:
    rows = [{**row, "age": f"{20 + i}/12/1950"[:10] if i % 2 else row["age"]} for i, row in enumerate(people(4))]
    ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    ledger = read_cohort(tmp_path / "cohort").ledger()
    dated = ledger[ledger["rule"] == "age-birth-date"]
    assert len(dated) == 4
    assert set(dated["after"]) == {"69"}
    assert set(dated["before"]) == {"(looks like a date; not shown)"}
