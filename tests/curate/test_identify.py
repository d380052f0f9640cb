"""curate identify on people whose age drives the measures while sex and ethnicity don't, and on what archives get wrong."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from phantom_measures import people_and_measures

from curate.artefacts import write_json, write_parquet
from curate.errors import UserError
from curate.identify import run
from curate.identify.archive import read_archive
from curate.identify.report import read_suggested_balance, show
from curate.identify.run import analyse, identify_cohort


def make_cohort(folder: Path, table: pd.DataFrame, *, pairs: list[tuple[str, str]] | None = None) -> Path:
    """Write a cohort's folder without photographs: columns m0, m1, ... are its measures."""
    folder.mkdir()
    measures = [c for c in table.columns if c[0] == "m" and c[1:].isdigit()]
    write_parquet(folder / "cohort.parquet", table.drop(columns=measures))
    write_parquet(folder / "measurements.parquet", table[["image_id", *measures]])
    links = pd.DataFrame(pairs or [], columns=["image_a", "image_b"], dtype=str).assign(distance=0, similarity=1.0)
    write_parquet(folder / "duplicates.parquet", links)
    write_json(folder / "cohort.json", {"name": "phantom", "images": ".", "counts": {"rows": len(table), "images": len(table)}})
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make_cohort(tmp_path / "cohort", people_and_measures(120, 0))


def files(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.parametrize("confounding", [None, 0.6])
def test_age_ranks_first_and_sex_and_ethnicity_stay_at_the_floor_in_19_of_20_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confounding: float | None
) -> None:
    monkeypatch.setattr(run._Predictability, "__call__", lambda *_: (None, None))  # takes time and no part in the ranking
    first, quiet, seeming = 0, {"sex": 0, "ethnicity": 0}, 0
    for seed in range(20):
        folder = make_cohort(tmp_path / f"cohort-{seed}", people_and_measures(600, seed, confounding=confounding))
        ranked = analyse(read_archive(folder, ["age", "sex", "ethnicity"], (), None), 199, seed)["ranking"]
        first += ranked[0]["attribute"] == "age" and ranked[0]["verdict"] == "matters"
        for row in ranked:
            if row["attribute"] in quiet:
                quiet[row["attribute"]] += row["verdict"] == "at the noise floor"
            seeming += row["attribute"] == "ethnicity" and row["r2_marginal"] > row["r2_marginal_floor"]
    assert first >= 19
    assert min(quiet.values()) >= 19
    assert seeming == 20  # on its own ethnicity does look as if it mattered


def test_an_attribute_that_does_matter_is_found_beside_one_that_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_A_SITE", 50)
    table = people_and_measures(600, 1, confounding=0.6)
    for m in range(4):
        table[f"m{m}"] += 0.6 * (table["sex"] == "male")
    folder = make_cohort(tmp_path / "cohort", table)
    about = analyse(read_archive(folder, ["age", "sex", "ethnicity"], (), None), 199, 0)
    assert {r["attribute"]: r["verdict"] for r in about["ranking"]} == {
        "age": "matters",
        "sex": "matters",
        "ethnicity": "at the noise floor",
    }
    assert sorted(about["suggested_balance"]) == ["age", "sex"]


def test_the_command_writes_tables_pictures_and_words_and_the_same_bytes_again(small: Path, tmp_path: Path) -> None:
    about = identify_cohort(small, by=["age", "sex"], permutations=39, out=tmp_path / "one")
    identify_cohort(small, by=["age", "sex"], permutations=39, out=tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    pictures = {f"{n}.{kind}" for n in ("ranking", "effects", "densities", "map") for kind in ("png", "svg")}
    assert set(files(tmp_path / "one")) == {"identify.json", "results.parquet", *pictures}
    assert set(about["figures"]) == pictures
    assert about["ranking"][0]["attribute"] == "age"
    assert "age matters most" in about["in_words"]
    assert read_suggested_balance(tmp_path / "one") == tuple(about["suggested_balance"])
    results = pd.read_parquet(tmp_path / "one" / "results.parquet")
    effects = results[results["method"] == "epsilon_squared"]
    assert len(effects) == 2 * 8
    assert (effects["q"] >= effects["p"]).all()
    assert ((effects["low"] <= effects["value"]) & (effects["value"] <= effects["high"])).all()
    assert {"permanova_marginal", "permanova_conditional", "r2_conditional", "probe_r2", "probe_auc", "purity_lift", "cramers_v"} <= set(
        results["method"]
    )
    assert identify_cohort(small, by=["age", "sex"], permutations=39, out=tmp_path / "one")["done_before"]
    with pytest.raises(UserError, match="permutations: there 39, asked 59"):
        identify_cohort(small, by=["age", "sex"], permutations=59, out=tmp_path / "one")


def test_latent_features_are_used_where_there_are_any(small: Path) -> None:
    table = pd.read_parquet(small / "cohort.parquet")
    rng = np.random.default_rng(0)
    features = rng.standard_normal((len(table), 300)).astype(np.float32)
    features[:, 3] += 4 * (table["sex"] == "male")
    latent = pd.DataFrame(features, columns=[f"f{i}" for i in range(300)])
    # Rows in another order, and one image without features.
    write_parquet(small / "latent-tiny.parquet", latent.assign(image_id=table["image_id"]).iloc[::-1].iloc[1:])
    archive = read_archive(small, ["age", "sex"], (), None)
    assert archive.space == "latent-tiny"
    assert any("300 features brought to 256 components" in n for n in archive.notes)
    assert any(f"1 of {len(table)} images have no features" in n for n in archive.notes)
    about = analyse(archive, 39, 0)
    assert [r["attribute"] for r in about["ranking"]] == ["sex", "age"]
    assert about["ranking"][0]["probe_score"] > 0.9
    assert set(about["results"]["feature"]) >= {"measures", "latent-tiny"}
    assert read_archive(small, ["age"], (), "measures").space == "measures"
    write_parquet(small / "latent-other.parquet", latent.assign(image_id=table["image_id"]))
    with pytest.raises(UserError, match=r"latent features of several models \(latent-other, latent-tiny\); say which"):
        read_archive(small, ["age"], (), None)
    with pytest.raises(UserError, match=r"no latent-tyny\.parquet in .*; did you mean 'latent-tiny'"):
        read_archive(small, ["age"], (), "latent-tyny")


def test_what_archives_get_wrong_is_said_in_words(tmp_path: Path) -> None:
    table = people_and_measures(120, 0)
    first = table["patient_id"].iloc[0]
    table["hospital"] = table["site"].str.upper()
    table["ethnicity"] = table["ethnicity"].where(table["patient_id"] != first, "Martian")
    table["country"] = "Atlantis"
    table["nothing"] = pd.Series([None] * len(table), dtype="str")
    table["m8"], table["m9"] = 7.0, np.nan
    folder = make_cohort(tmp_path / "cohort", table)
    notes = read_archive(folder, ["age", "ethnicity", "site", "hospital", "country", "nothing"], (), None).notes
    assert "ethnicity 'Martian' is a group of one patient: too few to tell the group from its people; left out" in notes
    assert "hospital is a synonym of site: each of its groups is one group of site; hospital is left out" in notes
    assert "country is 'Atlantis' for every image that can be compared: nothing to compare" in notes
    assert "nothing is unknown for every image: nothing to compare" in notes
    assert "measure m8 is 7 for every image: a constant has nothing to compare" in notes
    assert "measure m9 has no value: nothing to compare" in notes
    with pytest.raises(UserError, match=r"no attribute can be compared .*Atlantis"):
        read_archive(folder, ["country"], (), None)


def test_attributes_that_cant_be_told_apart_get_no_credit(tmp_path: Path) -> None:
    table = people_and_measures(300, 2)
    rng = np.random.default_rng(0)
    north = table["site"].str.startswith("Northgate")
    other = pd.Series(rng.random(300) < 0.02)[pd.factorize(table["patient_id"])[0]].to_numpy()
    table["ethnicity"] = np.where(north ^ other, "White", "Asian")
    for m in range(8):
        table[f"m{m}"] += 0.8 * north
    folder = make_cohort(tmp_path / "cohort", table)
    about = analyse(read_archive(folder, ["age", "ethnicity", "site"], (), None), 39, 0)
    rows = {r["attribute"]: r for r in about["ranking"]}
    for name in ("ethnicity", "site"):
        assert rows[name]["verdict"] == "can't be attributed"
        assert rows[name]["r2_conditional"] is None
        assert rows[name]["r2_marginal"] > 0.05
    assert any(n.startswith("ethnicity and site can't be told apart here: 98 % of patients") for n in about["notes"])
    assert "can't be told apart here" in about["in_words"]
    assert len({"ethnicity", "site"} & set(about["suggested_balance"])) == 1


def test_an_attribute_that_the_others_determine_together_gets_no_credit(tmp_path: Path) -> None:
    table = people_and_measures(300, 3)
    # Each device stands at one site: the site is known from the device.
    table["device"] = table["site"].str[:1] + (pd.factorize(table["patient_id"])[0] % 3).astype(str)
    about = analyse(read_archive(make_cohort(tmp_path / "cohort", table), ["age", "site", "device"], (), None), 39, 0)
    rows = {r["attribute"]: r for r in about["ranking"]}
    assert rows["site"]["not_attributable"].startswith("site and device can't be told apart here: 100 % of patients")
    assert rows["device"]["not_attributable"] is None


def test_linked_patients_count_as_one(tmp_path: Path) -> None:
    table = people_and_measures(60, 0)
    ids = table.groupby("patient_id")["image_id"].first()
    folder = make_cohort(tmp_path / "cohort", table, pairs=[(ids.iloc[0], ids.iloc[1]), (ids.iloc[1], ids.iloc[2])])
    archive = read_archive(folder, ["age"], (), None)
    assert archive.patient.max() + 1 == 58
    rows = archive.patient[np.isin(archive.image_id, ids.iloc[:3])]
    assert len(set(rows)) == 1


def test_rejected_images_are_left_out(small: Path) -> None:
    measured = pd.read_parquet(small / "measurements.parquet")
    measured["quality"] = np.where(np.arange(len(measured)) < 10, "reject", "good")
    write_parquet(small / "measurements.parquet", measured)
    archive = read_archive(small, ["age"], (), None)
    assert len(archive.image_id) == len(measured) - 10
    assert archive.notes[0] == f"10 of {len(measured)} images are graded reject: left out"


def test_sample_takes_the_suggested_balance(tmp_path: Path) -> None:
    folder = make_cohort(tmp_path / "cohort", people_and_measures(120, 0).assign(acquired_on="2020-01-01", width=64, height=64))
    command = [sys.executable, "-m", "curate", "sample", "--balance", "auto", "--dry-run"]
    missing = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "--balance auto: no identify/identify.json; run curate identify first" in missing.stderr
    (tmp_path / "elsewhere").mkdir()
    write_json(tmp_path / "elsewhere" / "identify.json", {"suggested_balance": ["age", "sex"]})
    done = subprocess.run([*command, "--identify", "elsewhere", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["balance"] == ["age", "sex"]
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"by": ["agee"]}, "--by agee: the cohort has no column 'agee'; did you mean 'age'"),
        ({"by": ["age", "age"]}, "--by age,age: names a column twice"),
        ({"permutations": 5}, "--permutations 5: at least 19"),
        ({"features": "latent-x"}, "no latent-x.parquet"),
        ({"bins": ["sex=1,2"]}, "'sex' is text, not a number"),
    ],
)
def test_a_mistake_is_named(small: Path, tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        identify_cohort(small, out=tmp_path / "identify", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "identify").exists()


def test_a_cohort_without_measures_and_features_says_what_to_run(small: Path) -> None:
    (small / "measurements.parquet").unlink()
    with pytest.raises(UserError, match="neither measured nor embedded; run curate measure"):
        read_archive(small, ["age"], (), None)


def test_a_handful_of_images_is_no_fault(tmp_path: Path) -> None:
    table = people_and_measures(24, 0)
    about = identify_cohort(make_cohort(tmp_path / "cohort", table), by=["age"], permutations=19, out=tmp_path / "identify")
    assert about["ranking"]


HOSTILE = ["../../etc/passwd", "$\\frac{a}{0}$ {x} %s", "n" * 300, "\x1b[31mred\n", "=cmd|'!A1", "上海"]


@pytest.mark.filterwarnings("error::UserWarning")  # matplotlib's, where a picture has no room for its letters
def test_columns_and_groups_of_any_name_are_compared_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = people_and_measures(120, 0)
    people = pd.factorize(table["patient_id"])[0]
    names = ["上海第一医院", "北京协和医院", "Ωμέγα " * 40, "<b>&amp;</b> $x_1$", "\u202ered\x1b[31m\nline", "other"]
    for shift, column in enumerate(HOSTILE):
        table[column] = [names[(p >> shift) % 6] for p in people]
    about = identify_cohort(make_cohort(tmp_path / "cohort", table), by=HOSTILE, permutations=19, out=tmp_path / "identify")
    show(about, tmp_path / "identify")
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert {r["attribute"] for r in about["ranking"]} == set(HOSTILE)
    assert len(about["figures"]) == 8
    assert max(len(line) for line in said.partition("\n\n")[0].splitlines()) < 220
    assert {p.parent for p in tmp_path.rglob("*.png")} == {tmp_path / "identify"}


def test_hundreds_of_groups_of_few_people_are_said_in_one_sentence(tmp_path: Path) -> None:
    table = people_and_measures(120, 0)
    table["diagnosis"] = [f"d{p:03d}" for p in pd.factorize(table["patient_id"])[0]]
    notes = read_archive(make_cohort(tmp_path / "cohort", table), ["age", "diagnosis"], (), None).notes
    assert notes == [
        "120 groups of diagnosis ('d002', 'd012', 'd024', ...) have fewer than 5 patients each: too few to tell a group from its people; "
        "left out",
        "diagnosis has no two groups of 5 patients or more: nothing to compare",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(patient_id="p"), "the images that can be compared are of one patient; two groups of 5 patients at least"),
        (lambda t: t.iloc[:0], "the cohort has no image: there is nothing to compare"),
        (
            lambda t: t.assign(**{f"m{m}": np.nan for m in range(8)}),
            "no measure varies; there is nothing to compare: no image could be measured, ",
        ),
    ],
    ids=["one patient", "no image", "nothing measured"],
)
def test_a_cohort_with_nothing_to_compare_says_why(tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], said: str) -> None:
    folder = make_cohort(tmp_path / "cohort", change(people_and_measures(60, 0)))
    states = pd.read_parquet(folder / "measurements.parquet").assign(state="unreadable")
    write_parquet(folder / "measurements.parquet", states)
    with pytest.raises(UserError, match=said) as error:
        identify_cohort(folder, by=["age", "sex"], permutations=19, out=tmp_path / "identify")
    assert len(str(error.value)) < 300
    assert not (tmp_path / "identify").exists()


def test_every_image_graded_reject_is_said(small: Path, tmp_path: Path) -> None:
    measured = pd.read_parquet(small / "measurements.parquet").assign(quality="reject")
    write_parquet(small / "measurements.parquet", measured)
    with pytest.raises(UserError, match="every image is graded reject: there is nothing to compare"):
        read_archive(small, ["age"], (), None)


def test_one_measure_alone_is_compared_without_a_map(tmp_path: Path) -> None:
    table = people_and_measures(60, 0).drop(columns=[f"m{m}" for m in range(1, 8)])
    about = identify_cohort(make_cohort(tmp_path / "cohort", table), by=["age", "sex"], permutations=19, out=tmp_path / "identify")
    assert about["space"]["dimensions"] == 1
    assert not any(f.startswith("map") for f in about["figures"])
