"""Profiles: a small table of each archive, with its own columns and codes, becomes a cohort that says the same."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from archives import draw_photograph
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.profiles import parse_codes, parse_eyes, parse_map, profile_names, read_profile


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(line.strip() for line in lines) + "\n", encoding="utf-8")
    return path


def photographs(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        draw_photograph(folder / name, number)
    return folder


def cohort(manifest: Path | list[Path], images: Path, profile: str, **options: object) -> pd.DataFrame:
    out = images.parent / "cohort"
    ingest_archive(manifest, images=[images], out=out, profile=profile, workers=1, **options)  # type: ignore[arg-type]
    read = read_cohort(out)
    assert not read.about["identifiers"]
    return read.table.set_index("image_id")


def says(table: pd.DataFrame, image: str, *columns: str) -> list[object]:
    return [None if pd.isna(v) else v for v in table.loc[image, list(columns)]]


def test_every_profile_reads() -> None:
    assert profile_names() == ["brset", "mbrset", "odir5k", "papila", "uk_biobank"]
    for name in profile_names():
        assert read_profile(name).name == name


def test_brset(tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "labels_brset.csv",
        "image_id,patient_id,camera,patient_age,comorbidities,diabetes_time_y,insuline,patient_sex,exam_eye,diabetes,nationality,"
        "optic_disc,vessels,macula,DR_SDRG,DR_ICDR,focus,Illuminaton,image_field,artifacts,diabetic_retinopathy,drusens,quality",
        "img00001,1,Canon CR,48.0,diabetes1,12,yes,1,1,yes,Brazil,1,1,1,0,0,1,1,1,1,0,0,Adequate",
        "img00002,1,Canon CR,48.0,diabetes1,12,yes,1,2,yes,Brazil,1,1,1,0,0,1,2,1,1,0,1,Inadequate",
        "img00003,2,NIKON NF5050,,,,,2,1,No,Brazil,bv,1,2,2,1,1,1,1,1,1,0,Adequate",
        "img00004,2,NIKON NF5050,,,,,2,2,No,Brazil,1,1,2,2,1,1,1,1,1,1,0,Adequate",
    )
    images = photographs(tmp_path / "fundus_photos", *(f"img0000{i}.jpg" for i in range(1, 5)))
    table = cohort(manifest, images, "brset")
    assert says(table, "img00001", "patient_id", "age", "sex", "laterality", "device") == ["1", 48.0, "male", "right", "Canon CR"]
    assert says(table, "img00004", "patient_id", "age", "sex", "laterality", "device") == ["2", None, "female", "left", "NIKON NF5050"]
    assert says(table, "img00002", "graded_quality", "illumination", "drusen", "insulin", "diabetes") == ["Inadequate", 2, 1, "yes", "yes"]
    assert says(table, "img00003", "diabetes", "optic_disc") == ["No", "bv"]


def test_brset_as_later_versions_spell_it(tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "labels.csv",
        "image_id,patient_id,camera,patient_age,patient_sex,exam_eye,illumination,drusen,insulin_use,quality",
        "img00001.jpg,1,Canon CR,48,1,1,1,0,no,Adequate",
    )
    table = cohort(manifest, photographs(tmp_path / "fundus_photos", "img00001.jpg"), "brset")
    assert {"illumination", "drusen", "insulin", "graded_quality"} <= set(table.columns)


def test_mbrset(tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "labels_mbrset.csv",
        "patient,age,sex,dm_time,insulin,insurance,educational_level,file,laterality,final_artifacts,final_quality,final_icdr,final_edema",
        "1,67,0,10,0,0,3,1.1.jpg,right,yes,yes,0.0,no",
        "1,67,0,10,0,0,3,1.3.jpg,left,no,no,,",
        "2,54,1,4,1,0,7,2.1.jpg,right,yes,yes,2.0,yes",
    )
    table = cohort(manifest, photographs(tmp_path / "images", "1.1.jpg", "1.3.jpg", "2.1.jpg"), "mbrset")
    assert says(table, "1.1", "patient_id", "age", "sex", "laterality", "graded_quality") == ["1", 67.0, "female", "right", "yes"]
    assert says(table, "1.3", "laterality", "graded_quality", "final_icdr", "final_edema") == ["left", "no", None, None]
    assert says(table, "2.1", "sex", "final_icdr") == ["male", 2.0]


ODIR = "ID,Patient Age,Patient Sex,Left-Fundus,Right-Fundus,Left-Diagnostic Keywords,Right-Diagnostic Keywords,N,D,G,C,A,H,M,O"


def test_odir_with_one_row_an_eye(tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "full_df.csv",
        f"{ODIR},labels,target,filename",
        """0,69,Female,0_left.jpg,0_right.jpg,cataract,normal fundus,0,0,0,1,0,0,0,0,['N'],"[1, 0, 0, 0, 0, 0, 0, 0]",0_right.jpg""",
        """0,69,Female,0_left.jpg,0_right.jpg,cataract,normal fundus,0,0,0,1,0,0,0,0,['C'],"[0, 0, 0, 1, 0, 0, 0, 0]",0_left.jpg""",
    )
    table = cohort(manifest, photographs(tmp_path / "images", "0_left.jpg", "0_right.jpg"), "odir5k")
    assert says(table, "0_left", "laterality", "labels", "diagnosis", "sex", "age") == ["left", "C", "cataract", "female", 69.0]
    assert says(table, "0_right", "laterality", "labels", "diagnosis") == ["right", "N", "normal fundus"]
    assert "Left-Fundus" not in table.columns


def test_odir_with_one_row_a_patient(tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "data.csv",
        ODIR,
        "0,69,Female,0_left.jpg,0_right.jpg,cataract,normal fundus,0,0,0,1,0,0,0,0",
        "1,57,Male,1_left.jpg,,normal fundus,,1,0,0,0,0,0,0,0",
        "2,42,Male,,,,,1,0,0,0,0,0,0,0",
    )
    table = cohort(manifest, photographs(tmp_path / "images", "0_left.jpg", "0_right.jpg", "1_left.jpg"), "odir5k")
    assert says(table, "0_left", "patient_id", "laterality", "diagnosis", "C") == ["0", "left", "cataract", 1]
    assert says(table, "0_right", "patient_id", "laterality", "diagnosis", "C") == ["0", "right", "normal fundus", 1]
    assert sorted(table.index) == ["0_left", "0_right", "1_left"]
    read = read_cohort(tmp_path / "cohort")
    assert read.about["counts"] | {"repaired_values": 0} == {
        "manifest_rows": 3, "rows": 4, "images": 3, "patients": 2, "refused_rows": 1, "repaired_values": 0
    }  # fmt: skip
    refused = read.ledger().query("rule == 'path-missing'")
    assert refused["row"].tolist() == [4]


def workbook(path: Path, *rows: list[object]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_papila(tmp_path: Path) -> None:
    grouped = [None, "Age", "Gender", "Diagnosis", "Refractive_Defect", None, None, "Phakic/Pseudophakic", "IOP", None, "Pachymetry"]
    names = [None, "Age", "Gender", "Diagnosis", "dioptre_1", "dioptre_2", "astigmatism", "Phakic/Pseudophakic", "Pneumatic", "Perkins"]
    names.append("Pachymetry")
    right = workbook(
        tmp_path / "patient_data_od.xlsx", grouped, names, ["ID"],
        ["#002", 47, 0, 2, 0.75, -1.75, 90, 0, 21, None, 586], ["#004", 58, 1, 1, 1.5, -1.75, 85, 0, None, 20, 501],
    )  # fmt: skip
    left = workbook(
        tmp_path / "patient_data_os.xlsx", grouped, names, ["ID"], ["#002", 47, 0, 0, 1.0, -1.5, 100, 0, 21, None, 580]
    )  # fmt: skip
    images = photographs(tmp_path / "FundusImages", "RET002OD.jpg", "RET002OS.jpg", "RET004OD.jpg")
    table = cohort([right, left], images, "papila")
    assert says(table, "RET002OD", "patient_id", "laterality", "age", "sex", "Diagnosis") == ["002", "right", 47.0, "male", "suspect"]
    assert says(table, "RET002OS", "patient_id", "laterality", "Diagnosis", "Pneumatic") == ["002", "left", "healthy", 21]
    assert says(table, "RET004OD", "patient_id", "sex", "Perkins", "dioptre_1") == ["004", "female", 20, 1.5]
    assert read_cohort(tmp_path / "cohort").ledger()["rule"].value_counts()["header-row"] == 2


EYES = ("1000014_21015_0_0.png", "1000014_21016_0_0.png", "1000014_21015_1_0.png", "1000025_21016_0_1.png")


@pytest.mark.parametrize("kind", ["ukbconv csv", "R export", "platform"])
def test_uk_biobank_with_one_row_an_image(tmp_path: Path, kind: str) -> None:
    names = {
        "ukbconv csv": ("eid", "31-0.0", "21000-0.0", "21003-0.0", "21003-1.0", "53-0.0", "53-1.0", "54-0.0"),
        "R export": ("f.eid", "f.31.0.0", "f.21000.0.0", "f.21003.0.0", "f.21003.1.0", "f.53.0.0", "f.53.1.0", "f.54.0.0"),
        "platform": ("eid", "p31", "p21000_i0", "p21003_i0", "p21003_i1", "p53_i0", "p53_i1", "p54_i0"),
    }[kind]
    first, second = "1000014,0,1001,57,61,2009-11-20,2013-02-01,11010", "1000025,1,3004,45,,2010-01-05,,11010"
    manifest = write(
        tmp_path / "table.csv", "file," + ",".join(names), *(f"{f},{second if f.startswith('1000025') else first}" for f in EYES)
    )
    table = cohort(manifest, photographs(tmp_path / "images", *EYES), "uk_biobank")
    columns = ("patient_id", "laterality", "age", "acquired_on", "sex", "ethnicity", "ethnicity_recorded")
    assert says(table, "1000014_21015_0_0", *columns) == ["1000014", "left", 57.0, "2009-11-20", "female", "British", "1001"]
    assert says(table, "1000014_21015_1_0", *columns[:4]) == ["1000014", "left", 61.0, "2013-02-01"]
    assert says(table, "1000025_21016_0_1", *columns[1:6]) == ["right", 45.0, "2010-01-05", "male", "Any other Asian background"]


@pytest.mark.parametrize("kind", ["ukbconv csv", "platform"])
def test_uk_biobank_with_one_row_a_participant(tmp_path: Path, kind: str) -> None:
    if kind == "platform":
        header = "eid,p31,p21003_i0,p21003_i1,p21015_i0,p21015_i1,p21016_i0,p21016_i1"
        rows = ["1000014,Female,57,61,1000014_21015_0_0.png,1000014_21015_1_0.png,1000014_21016_0_0.png,", "1000025,Male,45,,,,,"]
    else:
        header = "eid,31-0.0,21003-0.0,21003-1.0,21015-0.0,21015-1.0,21016-0.0,21016-0.1"
        rows = ["1000014,0,57,61,21015_0_0,21015_1_0,21016_0_0,", "1000025,1,45,,,,,21016_0_1"]
    manifest = write(tmp_path / "participants.csv", header, *rows)
    table = cohort(manifest, photographs(tmp_path / "images", *EYES), "uk_biobank")
    assert says(table, "1000014_21015_1_0", "patient_id", "laterality", "age", "sex") == ["1000014", "left", 61.0, "female"]
    assert says(table, "1000014_21016_0_0", "laterality", "age") == ["right", 57.0]
    assert len(table) == (4 if kind == "ukbconv csv" else 3)


def test_uk_biobank_as_a_folder_of_images(tmp_path: Path) -> None:
    images = photographs(tmp_path / "images", *EYES)
    table = cohort(images, images, "uk_biobank")
    assert says(table, "1000025_21016_0_1", "patient_id", "laterality", "age") == ["1000025", "right", None]


def test_uk_biobank_ethnicity_in_a_scheme_keeps_chinese_apart_or_not(tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "table.csv",
        "file,eid,31-0.0,21000-0.0",
        *(f"{f},{f[:7]},{'0' if f[:7] == '1000014' else '1'},{'5' if f[:7] == '1000014' else '-3'}" for f in EYES),
    )
    images = photographs(tmp_path / "images", *EYES)
    for scheme, group in (("uk-biobank", "Chinese"), ("ons-2021", "Asian")):
        ingest_archive(manifest, images=[images], out=tmp_path / scheme, profile="uk_biobank", ethnicity_scheme=scheme, workers=1)
        read = read_cohort(tmp_path / scheme)
        table = read.table.set_index("image_id")
        assert read.about["ethnicity_scheme"] == scheme
        assert says(table, "1000014_21015_0_0", "ethnicity", "ethnicity_recorded") == [group, "5"]
        assert says(table, "1000025_21016_0_1", "ethnicity", "ethnicity_recorded") == [None, "-3"]


def test_a_profile_of_ones_own_is_a_file(tmp_path: Path) -> None:
    write(tmp_path / "mine.yaml", "columns: {path: Bild, patient_id: Fall, sex: Geschlecht}", "codes: {sex: {'1': male, '2': female}}")
    manifest = write(tmp_path / "table.csv", "Bild,Fall,Geschlecht", "a.jpg,7,2")
    table = cohort(manifest, photographs(tmp_path / "images", "a.jpg"), str(tmp_path / "mine.yaml"))
    assert says(table, "a", "patient_id", "sex") == ["7", "female"]


def test_the_profile_of_the_documentation_works(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/how-to/clean-a-table.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    manifest = write(
        tmp_path / "table.csv",
        "a letter above the header,,,,,,,,",
        "Fall,Bild,Alter_1,Alter_2,sex,Grad links,Grad rechts,quality,intern",
        "K-7,x_v1_l.jpg,60,64,1,A,B,good,secret",
        "K-7,x_v2_r.jpg,60,64,1,A,B,poor,secret",
    )
    images = photographs(tmp_path / "images", "x_v1_l.jpg", "x_v2_r.jpg")
    table = cohort(manifest, images, str(tmp_path / "mine.yaml"))
    columns = ("patient_id", "laterality", "age", "sex", "grade", "graded_quality")
    assert says(table, "x_v1_l", *columns) == ["7", "left", 60.0, "male", "A", "good"]
    assert says(table, "x_v2_r", *columns) == ["7", "right", 64.0, "male", "B", "poor"]
    assert "intern" not in table.columns


def test_codes_take_the_tables_own_name_too_and_must_find_their_column(tmp_path: Path) -> None:
    manifest = write(tmp_path / "table.csv", "path,patient,Gender,grade", "a.jpg,7,2,x")
    images = photographs(tmp_path / "images", "a.jpg")
    table = cohort(manifest, images, None, codes=["Gender=2:female", "grade=x:none"])  # type: ignore[arg-type]
    assert says(table, "a", "sex", "grade") == ["female", None]
    with pytest.raises(UserError, match=r"--codes gradd: there is no such column; did you mean 'grade'\?"):
        ingest_archive(manifest, images=[images], out=tmp_path / "other", codes=["gradd=x:y"], workers=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colums: {path: a}", "unknown field 'colums'; did you mean 'columns'"),
        ("columns: {paht: a}", "a cohort has no column 'paht'; did you mean 'path'"),
        ("eyes: {middle: {path: a}}", "field 'eyes.middle"),
        ("{{{", "not YAML"),
        ("pattern: '('", "not a regular expression"),
        ("extract: {path: '(?P<eig>a)'}", "a cohort has no column 'eig'"),
    ],
)
def test_a_mistake_in_a_profile_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    manifest = write(tmp_path / "table.csv", "path,patient_id", "a.jpg,7")
    with pytest.raises(UserError) as caught:
        ingest_archive(manifest, out=tmp_path / "cohort", profile=str(write(tmp_path / "mine.yaml", text)), workers=1)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_read_or_explained() -> None:
    assert parse_map(["age=Patient Age"]) == {"age": "Patient Age"}
    assert parse_eyes(["left:path=L", "right:path=R", "left:dx=L dx"]) == {"left": {"path": "L", "dx": "L dx"}, "right": {"path": "R"}}
    assert parse_codes(["sex=0:female,1:male"]) == {"sex": {"0": "female", "1": "male"}}
    assert parse_codes(["ethnicity=nhs"])["ethnicity"]["R"] == "Chinese"
    with pytest.raises(UserError, match="age is already 'A'; one column gives one"):
        parse_map(["age=A", "age=B"])
    with pytest.raises(UserError, match=r"--eye up:path=L: expected left:COLUMN=NAME or right:COLUMN=NAME"):
        parse_eyes(["up:path=L"])
    with pytest.raises(UserError, match="name the columns of the files too"):
        parse_eyes(["left:dx=L"])
    with pytest.raises(UserError, match=r"a table of codes; did you mean 'nhs'\?"):
        parse_codes(["ethnicity=nsh"])
