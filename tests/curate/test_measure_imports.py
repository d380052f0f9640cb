"""Tables of AutoMorph, PVBM, VascX and of one's own become the cohort's measures; what became missing is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from curate.artefacts import write_json, write_parquet
from curate.cli import app
from curate.describe import DescribeRequest, describe_cohort
from curate.errors import UserError
from curate.identify.run import identify_cohort
from curate.imported.matching import match
from curate.imported.profile import MeasureProfile, plain, read_measure_profile, tools
from curate.imported.tables import import_tables, parse_imports
from curate.imported.values import RULES
from curate.measure import measure_cohort
from curate.modalities import load_modality

SHAPES = (
    "Fractal_dimension",
    "Vessel_density",
    "Average_width",
    "Distance_tortuosity",
    "Squared_curvature_tortuosity",
    "Tortuosity_density",
)
AUTOMORPH = [
    "Name", "Disc_height", "Disc_width", "Cup_height", "Cup_width", "CDR_vertical", "CDR_horizontal",
    *(f"{kind}{shape}{zone}" for zone in ("", "_zone_b", "_zone_c") for kind in ("", "Artery_", "Vein_") for shape in SHAPES),
    *(f"{what}_{formula}_zone_{zone}" for zone in "bc" for formula in ("Hubbard", "Knudtson") for what in ("CRAE", "CRVE", "AVR")),
]  # fmt: skip


def automorph_row(name: str, seed: int = 0, **values: object) -> dict[str, object]:
    """Make a row as AutoMorph writes it: every column, numbers in their usual ranges."""
    rng = np.random.default_rng(seed)
    row: dict[str, object] = {c: round(float(v), 6) for c, v in zip(AUTOMORPH[1:], rng.uniform(0.5, 1.5, len(AUTOMORPH) - 1), strict=True)}
    return {"Name": name, **row, **values}


def write_csv(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


@pytest.fixture
def cohort(tmp_path: Path) -> Callable[..., Path]:
    """Write a cohort's folder without photographs."""

    def make(*paths: str) -> Path:
        folder = tmp_path / "cohort"
        folder.mkdir()
        ids = [f"e{number}" for number in range(len(paths))]
        table = pd.DataFrame({"image_id": ids, "path": list(paths), "patient_id": ids, "width": 160, "height": 160})
        write_parquet(folder / "cohort.parquet", table)
        write_json(folder / "cohort.json", {"images": "../images", "name": "drawn"})
        return folder

    return make


def measured(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "measurements.parquet").set_index("image_id")


def ledger(folder: Path) -> list[tuple[Any, ...]]:
    frame = pd.read_parquet(folder / "measurements_ledger.parquet").astype(object)
    assert frame["after"].isna().all()
    assert set(frame["rule"]) <= set(RULES)
    return [tuple(row) for row in frame[["image_id", "column", "before", "rule"]].itertuples(index=False)]


# AutoMorph


def test_the_columns_of_automorph_keep_their_names_and_its_definitions_are_recorded(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg", "b.jpg", "c.jpg")
    write_csv(tmp_path / "Results" / "M3" / "Disc_Features.csv", [automorph_row("a.png", 1)])
    write_csv(tmp_path / "Results" / "M3" / "Macular_Features.csv", [automorph_row("b.png", 2)])
    about = measure_cohort(folder, imports={"automorph": tmp_path / "Results"}, workers=1)
    table = measured(folder)
    assert list(table.columns) == ["state", *AUTOMORPH[1:]]
    for image, seed in (("e0", 1), ("e1", 2)):
        expected = {k: v for k, v in automorph_row("", seed).items() if k != "Name"}
        assert table.loc[image].drop("state").to_dict() == pytest.approx(expected)
    assert table["state"].tolist() == ["ok", "ok", "not in the tables"]
    assert table.loc["e2"].drop("state").isna().all()
    assert about["made_by"]["specification"] == {"modality": None, "resolution": None, "compatible": "automorph", "imports": ["AutoMorph"]}
    assert about["imports"][0]["images_without_a_row"] == 1
    assert "resolution_information.csv" in about["imports"][0]["notes"][0]
    assert about == json.loads((folder / "measurements.json").read_text())
    assert ledger(folder) == []


def test_failures_of_automorph_and_the_ratios_taken_of_them_become_missing_and_are_written_down(
    cohort: Callable[..., Path], tmp_path: Path
) -> None:
    folder = cohort("a.jpg", "b.jpg", "c.jpg")
    both = {"CRAE_Hubbard_zone_b": -1, "CRVE_Hubbard_zone_b": -1, "AVR_Hubbard_zone_b": 1.0}
    cleared = {"CRAE_Knudtson_zone_c": "", "CRVE_Knudtson_zone_c": 180.0, "AVR_Knudtson_zone_c": -1 / 180}
    whole = {"CRAE_Hubbard_zone_b": 150.0, "CRVE_Hubbard_zone_b": 150.0, "AVR_Hubbard_zone_b": 1.0}
    rows = [automorph_row("a.png", 1, **both), automorph_row("b.png", 2, **cleared), automorph_row("c.png", 3, **whole)]
    write_csv(tmp_path / "Macular_Features.csv", rows)
    about = measure_cohort(folder, imports={"automorph": tmp_path}, workers=1)
    table = measured(folder)
    assert table.loc["e0", list(both)].isna().all()
    assert table.loc["e1", ["CRAE_Knudtson_zone_c", "AVR_Knudtson_zone_c"]].isna().all()
    assert table.loc["e1", "CRVE_Knudtson_zone_c"] == 180
    assert table.loc["e2", "AVR_Hubbard_zone_b"] == 1  # of two sides that were measured
    assert ledger(folder) == [
        ("e0", "CRAE_Hubbard_zone_b", "-1.0", "measure-failed"),
        ("e0", "CRVE_Hubbard_zone_b", "-1.0", "measure-failed"),
        ("e0", "AVR_Hubbard_zone_b", "1.0", "ratio-of-failed"),
        ("e1", "AVR_Knudtson_zone_c", str(-1 / 180), "ratio-of-failed"),
    ]
    assert about["imports"][0]["nulled"] == {"measure-failed": 2, "ratio-of-failed": 2}


def test_a_ratio_whose_sides_are_not_in_the_table_goes_where_only_a_failure_gives_it(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg", "b.jpg", "c.jpg")
    rows = [{"Name": f"{n}.png", "AVR_Hubbard_zone_b": v} for n, v in (("a", 1.0), ("b", -0.006), ("c", 0.7))]
    write_csv(tmp_path / "Disc_Features.csv", rows)
    measure_cohort(folder, imports={"automorph": tmp_path}, workers=1)
    assert measured(folder)["AVR_Hubbard_zone_b"].dropna().to_dict() == {"e2": 0.7}


def test_automorphs_grades_become_the_quality_by_its_own_gate(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort(*(f"{n}.jpg" for n in "abcde"))
    grades = [("a", 0, 0.0), ("b", 1, 0.1), ("c", 1, 0.3), ("d", 2, 0.9), ("e", 7, 0.0)]
    rows = [{"Name": f"/x/Results/M0/images/{n}.png", "softmax_bad": bad, "Prediction": p} for n, p, bad in grades]
    write_csv(tmp_path / "M1" / "results_ensemble.csv", rows)
    write_csv(tmp_path / "M3" / "Disc_Features.csv", [automorph_row("a.png")])
    about = measure_cohort(folder, imports={"automorph": tmp_path}, workers=1)
    assert measured(folder)["quality"].astype(object).where(lambda s: s.notna(), None).tolist() == [
        "good",
        "usable",
        "reject",
        "reject",
        None,
    ]
    assert about["quality"] == {"good": 1, "reject": 2, "usable": 1}
    assert ledger(folder) == [("e4", "quality", "7", "quality-unreadable")]


# Whose row is it?


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.png", "a.jpg"), ("a", "a.jpg"), ("site/a.png", "a.jpg"), ("a.png", "site/a.jpg"), ("C:\\data\\a.PNG", "a.jpg"),
        ("A.png", "a.jpg"), ("1.2.840.1", "1.2.840.1.jpg"), ("caf\u0065\u0301.png", "caf\u00e9.jpg"),
    ],
)  # fmt: skip
def test_a_row_is_of_the_image_of_that_name_whatever_folder_and_ending(name: str, path: str) -> None:
    assert match([name], [path, "other.jpg"]).image == [0]


def test_of_images_with_one_name_the_one_whose_folder_agrees_is_meant() -> None:
    paths = ["north/left.jpg", "south/left.jpg", "south/right.jpg"]
    found = match(["/data/south/left.png", "left.png", "elsewhere/left.png"], paths)
    assert found.image == [1, None, None]
    assert found.ambiguous == ["left.png", "elsewhere/left.png"]


def test_a_row_of_another_folder_is_not_taken_where_the_right_one_is_there() -> None:
    found = match(["north/1.png", "south/1.png"], ["south/1.jpg"])
    assert found.image == [None, 0]
    assert found.unmatched == ["north/1.png"]


def test_of_two_endings_the_rows_own_is_meant_unless_the_tool_changes_them() -> None:
    assert match(["a.png"], ["a.jpg", "a.png"]).image == [1]
    assert match(["a.png"], ["a.jpg", "a.png"], cut=True).ambiguous == ["a.png"]


def test_names_that_automorph_cuts_at_the_first_dot_find_their_image_where_it_is_the_only_one() -> None:
    assert match(["IMG.png"], ["IMG.2020.jpg", "b.jpg"], cut=True).image == [0]
    assert match(["IMG.png"], ["IMG.2020.jpg", "IMG.2021.jpg"], cut=True).ambiguous == ["IMG.png"]


def test_many_images_of_one_name_are_matched_in_no_time() -> None:
    paths = [f"p{n}/images/left.jpg" for n in range(10_000)]
    assert match([p.replace(".jpg", ".png") for p in paths], paths).image == list(range(10_000))
    assert len(match([f"x{n}/left.png" for n in range(10_000)], paths).ambiguous) == 10_000


def test_rows_of_no_image_are_counted_and_the_first_are_named(
    cohort: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cohort("a.jpg", "x/b.jpg", "y/b.jpg")
    write_csv(tmp_path / "Disc_Features.csv", [automorph_row(f"{n}.png", n_) for n_, n in enumerate(["a", "b", "p", "q", "r", "s"])])
    done = CliRunner().invoke(app, ["measure", "--cohort", str(folder), "--import", f"automorph={tmp_path}"])
    assert done.exit_code == 0, done.output
    said = done.output
    assert "AutoMorph: 1 of 6 rows belong to 1 images of the cohort" in said
    assert "4 names belong to no image of the cohort: p.png, q.png, r.png, ..." in said
    assert "1 names could be several images, and are left out: b.png" in said
    assert "2 images of the cohort have no row" in said
    assert "resolution_information.csv, which ships with 1" in said


def test_a_table_of_other_images_is_refused_in_one_line(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg")
    write_csv(tmp_path / "Disc_Features.csv", [automorph_row("z.png")])
    with pytest.raises(
        UserError, match=r"no row belongs to one image of the cohort; AutoMorph names them as 'z\.png', the cohort as 'a\.jpg'"
    ):
        measure_cohort(folder, imports={"automorph": tmp_path}, workers=1)
    assert not (folder / "measurements.json").exists()


# Rows of one image


def test_rows_of_one_image_that_agree_or_complete_each_other_are_one(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg")
    write_csv(tmp_path / "run1" / "Disc_Features.csv", [automorph_row("a.png", 1, Cup_width=-1)] * 2)
    write_csv(tmp_path / "run2" / "Disc_Features.csv", [automorph_row("a.png", 1, Disc_width="")])
    measure_cohort(folder, imports={"automorph": tmp_path}, workers=1)
    expected = {k: v for k, v in automorph_row("", 1).items() if k != "Name"}
    assert measured(folder).loc["e0"].drop("state").to_dict() == pytest.approx(expected)


def test_rows_of_one_image_that_disagree_are_refused_with_the_first(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg", "b.jpg")
    write_csv(tmp_path / "Disc_Features.csv", [automorph_row("b.png"), automorph_row("a.png", 1, CDR_vertical=0.4)])
    write_csv(tmp_path / "Macular_Features.csv", [automorph_row("a.png", 1, CDR_vertical=0.5)])
    said = r"rows of image e0 disagree: CDR_vertical is 0\.4 \(Disc_Features\.csv row 3\) and 0\.5 \(Macular_Features\.csv row 2\)"
    with pytest.raises(UserError, match=said):
        measure_cohort(folder, imports={"automorph": tmp_path}, workers=1)


# PVBM, VascX, one's own


def test_numbers_of_pvbm_get_columns_of_their_own_by_either_way_of_writing_them(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg", "b.jpg")
    file = tmp_path / "my_pvbm.csv"
    file.write_text(
        "image,artery.area,artery.tortuosity_index,vein_medTor,D0_vein,artery_startp,craek,crvek,AVR_k,center\n"
        "a,61419,1.1,1.09,1.37,10,18.9,21.0,0.9,460\n"
        "b,60000,1.2,nan,1.36,9,-1,-1,1.0,461\n"
    )
    about = measure_cohort(folder, imports={"pvbm": file}, workers=1)
    table = measured(folder)
    assert list(table.columns) == [
        "state", "PVBM_Artery_area", "PVBM_Artery_tortuosity_index", "PVBM_Vein_median_tortuosity", "PVBM_Vein_capacity_dimension",
        "PVBM_Artery_startpoints", "PVBM_CRAE_Knudtson", "PVBM_CRVE_Knudtson", "PVBM_AVR_Knudtson",
    ]  # fmt: skip
    assert table.loc["e0"].drop("state").tolist() == [61419, 1.1, 1.09, 1.37, 10, 18.9, 21.0, 0.9]
    assert table.loc["e1"].isna().sum() == 4
    assert about["made_by"]["specification"]["compatible"] is None
    assert about["imports"][0]["nulled"] == {"measure-failed": 2, "missing-word": 1, "ratio-of-failed": 1}


def test_every_column_of_numbers_of_vascx_is_taken_under_its_own_name(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("site/a.jpg", "site/b.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "biomarkers.csv").write_text(",median_tort_dist_etdrs_arteries,laterality,vd_veins\na,1.08,L,0.05\nb,,R,inf\n")
    about = measure_cohort(folder, imports={"vascx": tmp_path / "out"}, workers=1)
    table = measured(folder)
    assert list(table.columns) == ["state", "VascX_median_tort_dist_etdrs_arteries", "VascX_vd_veins"]
    assert table["VascX_vd_veins"].tolist()[0] == 0.05
    assert about["imports"][0]["left_out"] == ["laterality"]
    assert ledger(folder) == [("e1", "VascX_vd_veins", "inf", "measure-infinite")]


def test_a_profile_of_ones_own_maps_any_table(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg")
    (tmp_path / "mine.yaml").write_text("title: Mine\nimage: [photo]\ncolumns: {Mine_width: [Mean width (px)]}\nfailed: [-99]\n")
    (tmp_path / "t.csv").write_text("Photo;mean width (PX)\na.tif;12.5\n")
    about = measure_cohort(folder, imports={str(tmp_path / "mine.yaml"): tmp_path / "t.csv"}, workers=1)
    assert measured(folder)["Mine_width"].tolist() == [12.5]
    assert about["made_by"]["specification"]["imports"] == ["Mine"]


def test_the_profile_of_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "measure.md").read_text(encoding="utf-8")
    (example,) = (block.split("```")[0] for block in page.split("```yaml\n")[1:] if block.startswith("# mine.yaml"))
    assert MeasureProfile.model_validate(yaml.safe_load(example)).wanted() == {"Mine_width": ["meanwidthpx"]}


@pytest.mark.parametrize("tool", tools())
def test_the_profiles_that_ship_can_be_read(tool: str) -> None:
    profile = read_measure_profile(tool)
    assert not profile.has("sharpness") or profile.prefix
    names = [alias for aliases in profile.wanted().values() for alias in aliases]
    assert len(names) == len(set(names))  # one name stands for one column
    assert all(name == plain(name) for name in names)


# With what is measured here


def test_beside_measured_photographs_the_tables_columns_take_the_place_of_ours(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.png", "b.png")
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        image = np.zeros((160, 160, 3), np.uint8)
        cv2.circle(image, (80, 80), 76, (50, 110, 200), -1)
        cv2.line(image, (30, 40), (130, 110), (30, 55, 150), 2)
        image = np.clip(image.astype(int) + rng.integers(-3, 4, image.shape) * (image > 0), 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), image)
    rows = [{k: v for k, v in automorph_row("a.png").items() if "_zone_" not in k}]
    write_csv(tmp_path / "Disc_Features.csv", rows)
    about = measure_cohort(folder, modality="retina", imports={"automorph": tmp_path}, workers=1)
    table = measured(folder)
    assert {"sharpness", "quality", "quality_score", "Branch_density", "Cup_height"} <= set(table.columns)
    assert set(table.columns) == {*load_modality("retina").measures, *rows[0]} - {"Name"}
    assert table["quality"].notna().all()
    assert table.loc["e0", "Fractal_dimension"] == rows[0]["Fractal_dimension"]
    assert np.isnan(table.loc["e1", "Fractal_dimension"])  # never ours under a name that is AutoMorph's here
    assert about["made_by"]["specification"] == {
        "modality": "retina", "resolution": 512, "compatible": "automorph", "imports": ["AutoMorph"],
    }  # fmt: skip
    assert "sharpness" in about["of_the_photograph"]


def test_grades_alone_leave_our_measures_where_they_are(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.png")
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full((160, 160, 3), 90, np.uint8))
    write_csv(tmp_path / "results_ensemble.csv", [{"Name": "a.png", "softmax_bad": 0.1, "Prediction": 1}])
    about = measure_cohort(folder, modality="retina", imports={"automorph": tmp_path}, workers=1)
    assert set(measured(folder).columns) == set(load_modality("retina").measures)
    assert measured(folder)["quality"].tolist() == ["usable"]
    assert about["made_by"]["specification"]["compatible"] is None


def test_issued_again_it_does_nothing_and_a_changed_table_is_refused(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg")
    file = write_csv(tmp_path / "Disc_Features.csv", [automorph_row("a.png", 1)])
    about = measure_cohort(folder, imports={"automorph": file}, workers=1)
    assert measure_cohort(folder, imports={"automorph": file}, workers=1) == about
    write_csv(file, [automorph_row("a.png", 2)])
    with pytest.raises(UserError, match=r"measurements\.json: was made with another specification .*Disc_Features\.csv.*remove it"):
        measure_cohort(folder, imports={"automorph": file}, workers=1)


def test_measured_anew_without_tables_their_ledger_is_gone(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.png")
    file = write_csv(tmp_path / "Disc_Features.csv", [automorph_row("a.png", 1)])
    measure_cohort(folder, imports={"automorph": file}, workers=1)
    assert (folder / "measurements_ledger.parquet").exists()
    (folder / "measurements.json").unlink()
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((160, 160, 3), np.uint8))
    measure_cohort(folder, modality="generic", workers=1)
    assert not (folder / "measurements_ledger.parquet").exists()


def test_two_tools_stand_beside_each_other(cohort: Callable[..., Path], tmp_path: Path) -> None:
    folder = cohort("a.jpg", "b.jpg")
    write_csv(tmp_path / "Disc_Features.csv", [automorph_row("a.png", 1)])
    write_csv(tmp_path / "pvbm.csv", [{"image": "b.jpg", "vein_area": 5.0}])
    measure_cohort(folder, imports={"automorph": tmp_path, "pvbm": tmp_path / "pvbm.csv"}, workers=1)
    table = measured(folder)
    assert table["state"].tolist() == ["ok", "ok"]
    assert table["PVBM_Vein_area"].notna().tolist() == [False, True]


def test_describe_and_identify_read_imported_measures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = 45
    ids = [f"p{n}_{eye}" for n in range(people) for eye in "lr"]
    age = np.repeat(rng.integers(20, 90, people), 2).astype(float)
    folder = tmp_path / "cohort"
    folder.mkdir()
    table = pd.DataFrame({
        "image_id": ids, "path": [f"{i}.jpg" for i in ids], "patient_id": np.repeat([f"p{n}" for n in range(people)], 2),
        "age": age, "sex": np.repeat(rng.choice(["female", "male"], people), 2),
    })  # fmt: skip
    write_parquet(folder / "cohort.parquet", table)
    write_parquet(
        folder / "duplicates.parquet",
        pd.DataFrame(
            {
                "image_a": pd.Series(dtype="str"),
                "image_b": pd.Series(dtype="str"),
                "distance": pd.Series(dtype="int64"),
                "similarity": pd.Series(dtype="float64"),
            }
        ),
    )
    write_json(folder / "cohort.json", {"name": "phantom", "images": "images", "counts": {"rows": len(ids), "images": len(ids)}})
    rows = [automorph_row(f"{i}.png", n, Fractal_dimension=1.6 - 0.002 * age[n]) for n, i in enumerate(ids)]
    rows[0] |= {"CRAE_Hubbard_zone_b": -1}
    write_csv(tmp_path / "Macular_Features.csv", rows)
    write_csv(tmp_path / "results_ensemble.csv", [{"Name": f"{i}.png", "softmax_bad": 0.1, "Prediction": n % 3} for n, i in enumerate(ids)])
    measure_cohort(folder, imports={"automorph": tmp_path}, workers=1)
    found = identify_cohort(folder, permutations=19, out=tmp_path / "identify")
    assert found["ranking"][0]["attribute"] == "age"
    assert f"{len(ids) // 3} of {len(ids)} images are graded reject: left out" in found["notes"]
    described = describe_cohort(folder, DescribeRequest(pictures=False), out=tmp_path / "describe")
    assert described
    shown = pd.read_parquet(tmp_path / "describe" / "description.parquet")
    assert {"Fractal_dimension", "AVR_Hubbard_zone_b", "Cup_width"} <= set(shown["variable"])


# What goes wrong


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("automorph", "expected TOOL=FOLDER or TOOL=FILE, as automorph=Results"),
        ("=x", "expected TOOL=FOLDER"),
        ("automrph=.", "no such tool; did you mean 'automorph'"),
        ("automorph=nowhere", "nowhere: no such file or folder"),
        ("automorph=.", "holds no table of AutoMorph"),
        ("automorph=notes.md", r"expected a table \(\.csv"),
        ("automorph=empty.csv", "is empty"),
        ("automorph=header.csv", r"no table of AutoMorph holds a row \(header\.csv\)"),
        ("automorph=strange.csv", "none of its columns is one of AutoMorph's.*it has Name, Temperature"),
        ("automorph=nameless.csv", r"no column says which image a row is of \(looked for Name\); it has Fractal_dimension"),
        ("automorph=twice.csv", "two columns are called 'Fractal_dimension'"),
        ("pvbm=both.csv", "columns 'area_artery' and 'artery area' both give PVBM_Artery_area; leave one out"),
        ("automorph=latin.csv", "not UTF-8; save it as UTF-8"),
        ("bad.yaml=header.csv", "unknown field 'colums'; did you mean 'columns'"),
        ("broken.yaml=header.csv", "not YAML"),
        ("none.yaml=header.csv", "names no column to take; give columns, keep or quality"),
        ("sides.yaml=header.csv", "sides names none"),
        ("keep.yaml=header.csv", "field 'keep': not a regular expression"),
        ("absent.yaml=header.csv", r"absent\.yaml: no such file"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(
    cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, said: str
) -> None:
    folder = cohort("a.jpg")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name, text in {
        "notes.md": "x", "empty.csv": "", "header.csv": "Name,Fractal_dimension\n", "strange.csv": "Name,Temperature\na.png,3\n",
        "nameless.csv": "Fractal_dimension\n1.4\n", "twice.csv": "Name,Fractal_dimension,Fractal_dimension\na,1,2\n",
        "both.csv": "image,area_artery,artery area\na,1,2\n", "bad.yaml": "title: x\nimage: [a]\ncolums: {}\n", "broken.yaml": "a: [",
        "none.yaml": "title: x\nimage: [a]\n", "sides.yaml": "title: x\nimage: [a]\ncolumns: {'{side}_b': c}\n",
        "keep.yaml": "title: x\nimage: [a]\nkeep: '('\n",
    }.items():  # fmt: skip
        Path(name).write_text(text)
    Path("latin.csv").write_bytes("Name,Fractal_dimension\ncaf\xe9.png,1.4\n".encode("latin-1"))
    with pytest.raises(UserError, match=said):
        measure_cohort(folder, imports=parse_imports([option]), workers=1)


CELLS = st.one_of(
    st.sampled_from(
        ["", "-1", "-1.0", "nan", "NaN", "inf", "-inf", "1e999", "0,5", "1_000", "\u0663", "N/A", " 1.5 ", "0x10", "error", "\u00a0"]
    ),
    st.floats(allow_nan=False).map(str),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=6),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a.png", "b", "x/c.tif", "", "nobody.png", "d"]), CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=8
    ),
    tool=st.sampled_from(["automorph", "vascx", "pvbm"]),
)
def test_no_table_however_dirty_ends_in_a_traceback(tmp_path: Path, rows: list[tuple[str, ...]], tool: str) -> None:
    columns = {
        "automorph": ["Name", "Fractal_dimension", "CRAE_Hubbard_zone_b", "AVR_Hubbard_zone_b", "Prediction"],
        "vascx": ["id", "mean_a", "mean_b", "mean_c", "mean_d"],
        "pvbm": ["image", "artery_area", "craeh", "crveh", "avrh"],
    }[tool]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "t.csv", index=False)
    images = pd.DataFrame({"image_id": ["A", "B", "C", "D"], "path": ["a.jpg", "b.jpg", "c.jpg", "d/d.jpg"]})
    try:
        found = import_tables(tool, tmp_path / "t.csv", images)
    except UserError:
        return
    numeric = found.table.select_dtypes("float64")
    assert not np.isinf(numeric.to_numpy()).any()
    assert not (numeric == -1).to_numpy().any() or tool == "vascx"
    assert found.table.index.is_unique
    assert set(found.table.index) <= set(images["image_id"])
    assert set(found.ledger["rule"]) <= set(RULES)
    # Every filled cell of a row that was taken is a number now, or has a line in the ledger, or repeats another row.
    assert len(found.ledger) <= 4 * len(rows)
