"""The plan: gates, near-duplicates, hold-out components, joint and marginal strata, the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archives import people
from curate.artefacts import write_json, write_parquet
from curate.cohort import Cohort, read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.plan import NEEDED, make_plan
from curate.sample import SampleRequest, how_many, sample_cohort

REQUEST = SampleRequest(size=32, holdout=0.2)
NO_PAIRS: tuple[tuple[str, str, float], ...] = ()


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Cohort]:
    """Make a cohort of rows without photographs: enough for a plan."""

    def make(table: pd.DataFrame, pairs: tuple[tuple[str, str, float], ...] = NO_PAIRS, *, name: str = "cohort") -> Cohort:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        defaults = {
            "acquired_on": None,
            "age": 50.0,
            "sex": "female",
            "ethnicity": None,
            "width": 100,
            "height": 100,
            "path": "x.jpg",
            "sha256": "0",
        }
        table = table.assign(**{c: v for c, v in defaults.items() if c not in table.columns}).sort_values("image_id", ignore_index=True)
        text = dict.fromkeys(("image_id", "patient_id", "acquired_on", "sex", "ethnicity"), "str")
        write_parquet(folder / "cohort.parquet", table.astype(text))
        duplicates = pd.DataFrame([(a, b, 2, s) for a, b, s in pairs], columns=["image_a", "image_b", "distance", "similarity"])
        write_parquet(folder / "duplicates.parquet", duplicates.astype({"image_a": "str", "image_b": "str", "similarity": float}))
        write_json(folder / "cohort.json", {"name": name, "images": ".", "counts": {"rows": len(table), "images": len(table)}})
        return read_cohort(folder)

    return make


def archive(patients: int, images: int = 2, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        {"image_id": f"i{p:05d}{k}", "patient_id": f"p{p:05d}", "age": age, "sex": sex, "ethnicity": group}
        for p, age, sex, group in zip(
            range(patients),
            np.clip(rng.normal(55, 18, patients), 18, 95),
            rng.choice(["female", "male"], patients),
            rng.choice(["White", "Asian", "Black"], patients, p=[0.8, 0.15, 0.05]),
            strict=True,
        )
        for k in range(images)
    ]
    return pd.DataFrame(rows)


def names(plan_rows: pd.DataFrame) -> set[str]:
    return set(plan_rows["image_id"])


def test_of_near_duplicates_the_largest_stays(made: Callable[..., Cohort]) -> None:
    table = pd.DataFrame({"image_id": ["a", "b", "c", "d"], "patient_id": ["1", "2", "3", "4"], "width": [100, 300, 100, 100]})
    plan = make_plan(made(table, (("a", "b", 0.95), ("b", "c", 0.93))), replace(REQUEST, balance=(), holdout=0.0), None)
    assert names(plan.drawn) == {"b", "d"}
    assert next(g for g in plan.gates if g["gate"] == "duplicates")["removed_images"] == 2


def test_alike_is_not_the_same_but_links_the_patients(made: Callable[..., Cohort]) -> None:
    table = pd.DataFrame({"image_id": [f"i{n:03d}" for n in range(200)], "patient_id": [f"p{n:03d}" for n in range(200)]})
    pairs = tuple((f"i{n:03d}", f"i{n + 1:03d}", 0.85) for n in range(0, 200, 2))
    plan = make_plan(made(table, pairs), replace(REQUEST, balance=(), holdout=0.4), None)
    assert len(plan.drawn) + len(plan.held_out) == 200
    held = set(plan.held_out["patient_id"])
    for n in range(0, 200, 2):
        assert len({f"p{n:03d}", f"p{n + 1:03d}"} & held) in (0, 2)
    assert 40 < len(held) < 180


def test_one_patients_photographs_of_different_days_are_different(made: Callable[..., Cohort]) -> None:
    table = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d", "e", "f"],
            "patient_id": ["1", "1", "2", "2", "3", "4"],
            "acquired_on": ["2020-01-01", "2021-01-01", "2020-01-01", "2020-01-01", "2020-01-01", "2021-01-01"],
        }
    )
    pairs = (("a", "b", 0.97), ("c", "d", 0.97), ("e", "f", 0.97))
    plan = make_plan(made(table, pairs), replace(REQUEST, balance=(), holdout=0.0), None)
    assert names(plan.drawn) == {"a", "b", "c", "e"}


def test_whoever_was_held_out_stays_so_when_the_cohort_links_them_to_others(made: Callable[..., Cohort]) -> None:
    table = archive(300, 1)
    before = set(make_plan(made(table), replace(REQUEST, balance=()), None).held_out["patient_id"])
    ids = table["image_id"].tolist()
    pairs = tuple((ids[n], ids[n + 1], 0.85) for n in range(0, 300, 2))
    after = set(make_plan(made(table, pairs, name="later"), replace(REQUEST, balance=()), None).held_out["patient_id"])
    assert before < after


def test_a_rule_limits_the_draw_and_leaves_the_hold_out_to_everyone(made: Callable[..., Cohort]) -> None:
    table = archive(300)
    table["site"] = np.where(table["patient_id"].str[-1].astype(int) < 4, "North", "South")
    cohort = made(table)
    everyone = make_plan(cohort, REQUEST, None)
    north = make_plan(cohort, replace(REQUEST, where="site == 'North' and age >= 40"), None)
    assert set(north.drawn["site"]) == {"North"}
    assert north.drawn["age"].min() >= 40
    assert sorted(north.held_out["image_id"]) == sorted(everyone.held_out["image_id"])
    gates = [gate["gate"] for gate in north.gates]
    assert gates.index("where") == gates.index("holdout") + 1
    assert "where" not in [gate["gate"] for gate in everyone.gates]
    fits = (table["site"] == "North") & (table["age"] >= 40) & ~table["patient_id"].isin(everyone.held_out["patient_id"])
    assert north.gates[gates.index("where")]["images"] == fits.sum()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("sote == North", r"--where: the cohort has no column 'sote'"),
        ("site is North", r"--where: 'site is North' is not COLUMN OP VALUE"),
        ("age > young", r"--where: 'young' is text but column 'age' holds numbers"),
        ("age > 200", r"--where age > 200: of the images that passed the gates before it none fits"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_one_line(where: str, words: str, made: Callable[..., Cohort]) -> None:
    cohort = made(archive(40))
    with pytest.raises(UserError, match=words):
        make_plan(cohort, replace(REQUEST, where=where), None)


def test_whoever_shares_a_photograph_with_an_excluded_patient_stays_out(made: Callable[..., Cohort], tmp_path: Path) -> None:
    table = archive(50, 1)
    (tmp_path / "out.csv").write_text("patient_id\np00003\n")
    cohort = made(table, (("i000030", "i000080", 0.85),))
    plan = make_plan(cohort, replace(REQUEST, balance=(), holdout=0.0, exclude=(str(tmp_path / "out.csv"),)), None)
    assert {"p00003", "p00008"} & set(plan.drawn["patient_id"]) == set()
    assert len(plan.drawn) == 48


def test_a_cap_keeps_so_many_of_each_patient_and_favours_no_one(made: Callable[..., Cohort]) -> None:
    table = pd.concat(
        [archive(200, 6), archive(200, 1).assign(image_id=lambda t: "x" + t["image_id"], patient_id=lambda t: "x" + t["patient_id"])]
    )
    plan = make_plan(made(table), replace(REQUEST, balance=(), per_patient=1, holdout=0.0, images=100), None)
    assert plan.drawn["patient_id"].value_counts().max() == 1
    assert 30 <= plan.drawn["patient_id"].str.startswith("x").sum() <= 70  # of patients with one image and with six alike


def test_thin_combinations_are_balanced_by_their_marginals(made: Callable[..., Cohort]) -> None:
    plan = make_plan(made(archive(2000)), replace(REQUEST, balance=("age", "sex", "ethnicity")), None)
    assert plan.draw.strata["kind"] == "marginal"
    assert plan.draw.strata["residual"] < 1e-6
    for attribute in ("age", "sex", "ethnicity"):
        counts = [r["allocated"] for r in plan.draw.marginals if r["attribute"] == attribute]
        assert max(counts) - min(counts) <= 0.06 * sum(counts) + 4
    assert all(r["shortfall"] <= 1 for r in plan.allocation)
    joint = make_plan(made(archive(2000)), replace(REQUEST, balance=("age", "sex", "ethnicity"), strata="joint"), None)
    assert len({r["allocated"] for r in joint.allocation}) == 1
    assert len(joint.drawn) < len(plan.drawn)


def test_combinations_with_enough_images_are_balanced_jointly(made: Callable[..., Cohort]) -> None:
    plan = make_plan(made(archive(3000)), replace(REQUEST, balance=("age", "sex")), None)
    assert plan.draw.strata["kind"] == "joint"
    assert len({r["allocated"] for r in plan.allocation}) == 1
    assert plan.draw.measures_by["sex"]["after"]["total_variation"] == pytest.approx(0)


def test_draws_by_marginals_are_nested(made: Callable[..., Cohort]) -> None:
    cohort = made(archive(1500))
    request = replace(REQUEST, balance=("age", "sex", "ethnicity"))
    few, some, many = (names(make_plan(cohort, replace(request, images=n), None).drawn) for n in (150, 151, 1200))
    assert few < some < many


def test_a_census_gives_the_shares_of_single_attributes(made: Callable[..., Cohort], tmp_path: Path) -> None:
    file = tmp_path / "census.csv"
    file.write_text("attribute,group,share\nsex,female,51\nsex,male,49\nethnicity,White,82\nethnicity,Asian,9\nethnicity,Black,9\n")
    plan = make_plan(made(archive(2000)), replace(REQUEST, balance=("sex", "ethnicity"), target=str(file), images=500), None)
    assert plan.draw.strata["kind"] == "marginal"
    shares = plan.drawn["ethnicity"].value_counts(normalize=True)
    assert shares["White"] == pytest.approx(0.82, abs=0.01)
    assert shares["Black"] == pytest.approx(0.09, abs=0.01)
    with pytest.raises(UserError, match="--strata joint does not apply"):
        make_plan(made(archive(100)), replace(REQUEST, balance=("sex", "ethnicity"), target=str(file), strata="joint"), None)


def test_a_group_that_another_cohort_has_and_this_one_lacks_is_named(made: Callable[..., Cohort]) -> None:
    other = archive(300).assign(ethnicity=lambda t: t["ethnicity"].replace("Black", "Mixed"))
    made(other, name="other")
    here = made(archive(1000))
    plan = make_plan(here, replace(REQUEST, balance=("ethnicity",), target=f"cohort:{here.folder.parent / 'other'}"), None)
    assert set(plan.drawn["ethnicity"]) <= {"White", "Asian"}


def test_too_many_combinations_are_refused(made: Callable[..., Cohort]) -> None:
    rng = np.random.default_rng(0)
    table = archive(2500, 1).assign(**{c: rng.permutation(2500).astype(str) for c in ("device", "site")})
    with pytest.raises(UserError, match="6,250,000 combinations of groups are too many"):
        make_plan(made(table), replace(REQUEST, balance=("device", "site")), None)


def test_reading_only_what_is_needed_plans_the_same(made: Callable[..., Cohort]) -> None:
    whole = made(archive(400))
    part = read_cohort(whole.folder, columns=(*NEEDED, "age", "sex", "ethnicity"))
    assert "path" not in part.table.columns
    assert make_plan(part, REQUEST, None).drawn["image_id"].tolist() == make_plan(whole, REQUEST, None).drawn["image_id"].tolist()
    rows = part.rows(np.array([3, 799]), ("path", "image_id"))
    assert rows["image_id"].tolist() == whole.table["image_id"].iloc[[3, 799]].tolist()


def test_the_picture_is_drawn_before_anything_is_written(made: Callable[..., Cohort], tmp_path: Path) -> None:
    table = archive(400).assign(ethnicity=lambda t: t["ethnicity"].replace("Black", "<b>&'\"\u202e\x07"))
    cohort = made(table)
    picture = tmp_path / "plan.svg"
    sample_cohort(cohort.folder, replace(REQUEST, balance=("sex", "ethnicity")), out=tmp_path / "shards", dry_run=True, picture=picture)
    texts = [t.text or "" for t in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert any("<b>&'\"" in t for t in texts)
    assert "By ethnicity alone" in texts
    assert not (tmp_path / "shards").exists()
    with pytest.raises(UserError, match=r"ends in \.svg"):
        sample_cohort(cohort.folder, REQUEST, dry_run=True, picture=tmp_path / "plan.png")


def test_images_may_be_as_many_as_another_cohort_or_set_has(made: Callable[..., Cohort]) -> None:
    folder = made(archive(30)).folder
    assert how_many(str(folder)) == 60
    assert how_many("904,170") == 904_170
    assert how_many(None) is None
    for wrong in ("0", "-3", "many", str(folder.parent)):
        with pytest.raises(UserError, match="expected a number of 1 or more"):
            how_many(wrong)


def test_one_patient_alone(made: Callable[..., Cohort]) -> None:
    cohort = made(pd.DataFrame({"image_id": ["a"], "patient_id": ["1"]}))
    assert len(make_plan(cohort, replace(REQUEST, holdout=0.0), None).drawn) == 1
    with pytest.raises(UserError, match=r"no image has a known group in ethnicity"):
        make_plan(cohort, replace(REQUEST, holdout=0.0, balance=("ethnicity",)), None)


def test_a_patient_in_two_sites_photographed_again_stays_on_one_side(archive_of_photographs: Path) -> None:
    cohort = read_cohort(archive_of_photographs)
    assert len(cohort.duplicates()) == 20
    plan = make_plan(cohort, replace(REQUEST, balance=(), holdout=0.5), None)
    held, drawn = set(plan.held_out["patient_id"]), set(plan.drawn["patient_id"])
    assert held
    assert drawn
    for n in range(20):
        assert len({f"{n:05d}", f"again{n}"} & held) == 0 or len({f"{n:05d}", f"again{n}"} & drawn) == 0


@pytest.fixture
def archive_of_photographs(tmp_path: Path) -> Path:
    from PIL import Image

    from archives import draw_photograph

    rows = people(20)[::2]
    images = tmp_path / "images"
    for n, row in enumerate(rows):
        draw_photograph(images / row["image_file"], n, side=160)
        Image.open(images / row["image_file"]).resize((120, 120)).save(images / f"again{n}.jpg", quality=60)
    rows += [{**row, "image_file": f"again{n}.jpg", "patient_id": f"again{n}"} for n, row in enumerate(rows)]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    ingest_archive(tmp_path / "manifest.csv", images=[images], out=tmp_path / "cohort", workers=1)
    return tmp_path / "cohort"
