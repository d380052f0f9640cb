"""Ethnicity schemes: each recorded label has one place in a scheme, or none and says so; what was recorded stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from archives import people
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.ethnicity import place, read_scheme, scheme_names
from curate.ingest import ingest_archive

Archive = Callable[..., Path]
# Label -> its group in ons-2021, uk-biobank, us-omb; None: not placed.
BLACK_US, HISPANIC, MENA, MULTI = (
    "Black or African American",
    "Hispanic or Latino",
    "Middle Eastern or North African",
    "Multiracial and/or Multiethnic",
)
PLACES = {
    "White": ("White", "White", "White"),
    "white british": ("White", "White", "White"),
    "White - British": ("White", "White", "White"),
    "British": ("White", "White", "White"),
    "English, Welsh, Scottish, Northern Irish or British": ("White", "White", "White"),
    "White: Gypsy or Irish Traveller": ("White", "White", "White"),
    "Any other White background": ("White", "White", "White"),
    "Caucasian": ("White", "White", "White"),
    "Indian": ("Asian", "Asian", "Asian"),
    "Asian or Asian British - Bangladeshi": ("Asian", "Asian", "Asian"),
    "Asian/Asian British: Pakistani": ("Asian", "Asian", "Asian"),
    "Any other Asian background": ("Asian", "Asian", "Asian"),
    "Chinese": ("Asian", "Chinese", "Asian"),
    "Asian, Asian British: Chinese": ("Asian", "Chinese", "Asian"),
    "East Asian": ("Asian", None, "Asian"),
    "Black or Black British - Caribbean": ("Black", "Black", BLACK_US),
    "Black African": ("Black", "Black", BLACK_US),
    "African American": ("Black", "Black", BLACK_US),
    "Any other Black background": ("Black", "Black", BLACK_US),
    "Mixed: White and Black Caribbean": ("Mixed", "Mixed", MULTI),
    "White and Asian": ("Mixed", "Mixed", MULTI),
    "Two or more races": ("Mixed", "Mixed", MULTI),
    "Arab": ("Other", "Other", MENA),
    "Iranian": (None, None, MENA),
    "Any other ethnic group": ("Other", "Other", None),
    "Hispanic or Latino": (None, None, HISPANIC),
    "Native American": (None, None, "American Indian or Alaska Native"),
    "Native Hawaiian or Other Pacific Islander": (None, None, "Native Hawaiian or Pacific Islander"),
    "White African": (None, None, None),
    "non-hispanic": (None, None, None),
    "Klingon": (None, None, None),
    "A": (None, None, None),
    "5": (None, None, None),
}


@pytest.mark.parametrize("label", PLACES)
def test_a_label_has_its_place_in_every_scheme_or_none(label: str) -> None:
    assert tuple(place(label, read_scheme(s))[0] for s in ("ons-2021", "uk-biobank", "us-omb")) == PLACES[label]


def test_every_label_is_placed_the_same_whatever_its_capitals_and_punctuation() -> None:
    for name in scheme_names()[1:]:
        scheme = read_scheme(name)
        for label, group in scheme.places.items():
            assert place(f"  {label.upper().replace(' ', ' - ')} ", scheme)[0] == group
            assert group is None or group in scheme.groups


def test_a_schemes_own_groups_are_labels_of_it() -> None:
    for name in scheme_names()[1:]:
        scheme = read_scheme(name)
        assert [place(group, scheme)[0] for group in scheme.groups] == list(scheme.groups)


def test_a_label_cut_short_is_placed_where_all_that_begin_so_agree() -> None:
    assert place("Any other Asian backgr", read_scheme("ons-2021")) == ("Asian", "text-truncated")
    assert place("Any other", read_scheme("us-omb"))[0] is None
    assert place("Asian or Asian Brit", read_scheme("uk-biobank"))[0] is None  # Chinese people would be apart
    assert place("Asian or Asian Brit", read_scheme("ons-2021"))[0] == "Asian"


def test_raw_harmonised_and_scheme_are_all_kept(archive: Archive, tmp_path: Path) -> None:
    rows = people(6)
    recorded = ["Bangladeshi", "chinese", "White - British", "Not Stated", "Klingon", "Any other mixed background"]
    for i, row in enumerate(rows):
        row["ethnicity"] = recorded[i // 2]
    about = ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", ethnicity_scheme="ons-2021", workers=1)
    read = read_cohort(tmp_path / "cohort")
    assert read.about["ethnicity_scheme"] == "ons-2021"
    eyes = read.table[read.table["laterality"] == "left"].sort_values("patient_id")
    assert eyes["ethnicity_recorded"].tolist() == recorded
    assert eyes["ethnicity"].fillna("-").tolist() == ["Asian", "Asian", "White", "-", "-", "Mixed"]
    assert about["rules"] == {"ethnicity-grouped": 8, "ethnicity-unplaced": 2, "missing-word": 2}
    assert any("2 recorded ethnicities have no one place in ons-2021" in w for w in about["warnings"])


def test_as_recorded_changes_nothing_but_spelling(archive: Archive, tmp_path: Path) -> None:
    rows = people(4)
    for row, label in zip(rows, ["Chinese", "Chinese", "Chinese", "chinese", "Klingon", "Klingon", "A", "A"], strict=True):
        row["ethnicity"] = label
    ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    read = read_cohort(tmp_path / "cohort")
    assert read.about["ethnicity_scheme"] == "as-recorded"
    assert set(read.table["ethnicity"]) == {"Chinese", "Klingon", "A"}
    assert "chinese" in set(read.table["ethnicity_recorded"])


def test_the_nhs_letters_mean_something_only_where_that_is_said(archive: Archive, tmp_path: Path) -> None:
    rows = people(3)
    for i, row in enumerate(rows):
        row["ethnicity"] = "RZN"[i // 2]
    manifest = archive(rows)
    plain = ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "plain", ethnicity_scheme="ons-2021", workers=1)
    assert plain["missing"]["ethnicity"] == 6
    ingest_archive(
        manifest, images=[tmp_path / "images"], out=tmp_path / "nhs", ethnicity_scheme="ons-2021", codes=["ethnicity=nhs"], workers=1
    )
    table = read_cohort(tmp_path / "nhs").table.sort_values("patient_id")
    assert table["ethnicity"].fillna("-").tolist() == ["Asian", "Asian", "-", "-", "Black", "Black"]
    assert table["ethnicity_recorded"].tolist() == ["R", "R", "Z", "Z", "N", "N"]


def test_an_unknown_scheme_is_named_with_the_nearest(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--ethnicity-scheme ons-2011: no such scheme; did you mean 'ons-2021'\?"):
        ingest_archive(archive(people(1)), images=[tmp_path / "images"], out=tmp_path / "cohort", ethnicity_scheme="ons-2011", workers=1)
