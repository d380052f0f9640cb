"""What an answer is taken to claim, and what it must not be taken to claim."""

from __future__ import annotations

import pytest

from cards.claims import Claim, Vocabulary
from cards.grammar import read_claims, small_counts

NAMES = Vocabulary(
    groups={
        "over 70": ("age", "over 70"),
        "under 40": ("age", "under 40"),
        "south asian": ("ethnicity", "South Asian"),
        "moorfields": ("site", "Moorfields"),
    },
    columns={"diabetes duration": "diabetes_duration"},
)


def claims(text: str) -> list[Claim]:
    return read_claims(text, NAMES)


def told(text: str) -> list[tuple[object, ...]]:
    return [(c.rule, c.about, c.group, c.value if c.value is not None else (c.low, c.high), c.how) for c in claims(text)]


NOTHING = (None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The set is balanced by sex.", [("balance", "sex", "", NOTHING, "")]),
        (
            "Well balanced for age, sex and ethnicity, we think.",
            [("balance", "age", "", NOTHING, ""), ("balance", "sex", "", NOTHING, ""), ("balance", "ethnicity", "", NOTHING, "")],
        ),
        ("A sex-balanced set of photographs.", [("balance", "sex", "", NOTHING, "")]),
        ("It holds equal numbers of men and women.", [("balance", "sex", "", NOTHING, "")]),
        ("There are no patients under 18.", [("nobody", "age", "", 18.0, "<")]),
        ("No patients under 18 years of age were included.", [("nobody", "age", "", 18.0, "<")]),
        ("Nobody over 90 is in the archive.", [("nobody", "age", "", 90.0, ">")]),
        ("All patients are 18 years or older.", [("nobody", "age", "", 18.0, "<")]),
        ("All participants were at least 40.", [("nobody", "age", "", 40.0, "<")]),
        ("No children are included in this data set.", [("nobody", "age", "", 18.0, "<")]),
        ("There are no women in the set.", [("nobody", "sex", "female", NOTHING, "")]),
        ("Only women were recruited.", [("nobody", "sex", "male", NOTHING, "")]),
        ("Ethnicity was recorded.", [("recorded", "ethnicity", "", NOTHING, "")]),
        ("Ethnicity is recorded for every patient.", [("recorded", "ethnicity", "", NOTHING, "everyone")]),
        ("Consent was documented.", [("recorded", "consent", "", NOTHING, "")]),
        ("Age and sex were not recorded.", [("unrecorded", "age", "", NOTHING, ""), ("unrecorded", "sex", "", NOTHING, "")]),
        ("Diabetes duration is known for all patients.", [("recorded", "diabetes_duration", "", NOTHING, "everyone")]),
        ("There are no missing values.", [("gapless", "", "", NOTHING, "")]),
        ("Nothing is missing in this data set.", [("gapless", "", "", NOTHING, "")]),
        ("There are no missing data for age and sex.", [("gapless", "age", "", NOTHING, ""), ("gapless", "sex", "", NOTHING, "")]),
        ("Ethnicity is missing for 12 % of patients.", [("missing", "ethnicity", "", 12.0, "")]),
        ("About 12 percent have no ethnicity recorded.", [("missing", "ethnicity", "", 12.0, "")]),
        ("The archive contains 5,000 patients.", [("size", "people", "", 5000.0, "")]),
        (
            "It holds about 900 photographs of the eyes of 680 people.",
            [("size", "images", "", 900.0, "about"), ("size", "people", "", 680.0, "")],
        ),
        ("The set comprises more than 20000 retinal images.", [("size", "images", "", 20000.0, "more than")]),
        ("The images were taken between 2010 and 2018.", [("years", "", "", (2010.0, 2018.0), "")]),
        ("Photographs collected 2010–2018.", [("years", "", "", (2010.0, 2018.0), "")]),
        ("46 % are female and 54 % are male.", [("share", "sex", "female", 46.0, ""), ("share", "sex", "male", 54.0, "")]),
        ("Women make up 46 percent of the patients.", [("share", "sex", "female", 46.0, "")]),
        ("About 30 % of people are over 70.", [("share", "age", "over 70", 30.0, "about")]),
        ("20 % of patients are South Asian.", [("share", "ethnicity", "South Asian", 20.0, "")]),
        ("The images come from two hospitals.", [("number of groups", "site", "", 2.0, "")]),
    ],
)
def test_a_plain_statement_is_read(text: str, expected: list[tuple[object, ...]]) -> None:
    assert told(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The set is not balanced by sex.",
        "We aimed for a set balanced by sex.",
        "Unbalanced by sex, as the clinic is.",
        "It is balanced by sex as far as possible.",
        "The panel was balanced by sex.",
        "A balanced view on sex and gender was sought.",
        "No patients under 18 were harmed.",
        "No patients under 18 were excluded.",
        "Nobody under 40 has diabetes.",
        "No patients under 18 have consented.",
        "We cannot say that no patients under 18 are included.",
        "In the national register there are no patients under 18.",
        "All patients are 18 times more likely to attend.",
        "No children were asked for an opinion.",
        "No women took part in the advisory panel.",
        "Ethnicity was recorded on paper.",
        "Ethnicity should be recorded.",
        "Ethnicity was not always recorded.",
        "Age was not recorded before 2015.",
        "Whether consent was recorded is unclear.",
        "Consent and its withdrawal are handled by the clinic.",
        "No missing data were imputed.",
        "There are no missing values in the test set.",
        "Without missing values we could have done more.",
        "The archive contains 12 patients with glaucoma.",
        "A panel of 12 people advised us.",
        "We interviewed 12 patients.",
        "The test set contains 300 patients.",
        "It does not contain 5,000 patients.",
        "Each site includes 200 patients.",
        "A previous version contained 400 patients; it holds 400 images that were removed.",
        "The study was approved between 2010 and 2018.",
        "Photographs were graded by readers trained in 2010 to 2018.",
        "In the national population 51 % are women.",
        "12 % of women had diabetic retinopathy.",
        "Of those over 70, 60 % are female.",
        "60 % of the images show women.",
        "46 % of the graders were female.",
        "90 % sensitivity is reached for women.",
        "Sex is either female or male, at a site such as Moorfields.",
        "Staff from two hospitals were trained.",
    ],
)
def test_what_claims_nothing_about_the_data_is_passed_over(text: str) -> None:
    assert claims(text) == []


def test_a_balanced_age_does_not_make_a_claim_about_sex() -> None:
    assert told("The set is balanced by age; sex was left as it came.") == [("balance", "age", "", NOTHING, "")]


def test_small_counts_of_people_are_found_and_others_are_not() -> None:
    assert small_counts("We left out 3 patients. We asked a panel of 5 people.", 7) == [("We left out 3 patients.", 3)]
    assert small_counts("Groups of fewer than 5 people are merged. The set has 12 patients and 300 people.", 7) == []
    assert small_counts("Ages 40 to 5 people", 7) == []
