"""Rules that say which images belong to a class."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import UserError
from curate.rules import Comparison, fitting, is_rule, parse_rule

PEOPLE = pd.DataFrame(
    {
        "age": [30.0, 60.0, None],
        "eye": ["left", "right", None],
        "well": [True, False, True],
        "seen": ["2019-12-31", "2020-01-01", None],
        "Left-Diagnostic Keywords": ["normal fundus", "x", None],
    }
)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ("age < 40", [True, False, False]),
        ("age != 30", [False, True, False]),
        ("age >= 30 and eye == right", [False, True, False]),
        ("age == missing", [False, False, True]),
        ("eye != missing and age<=60", [True, True, False]),
        ("well == true", [True, False, True]),
        ("seen < 2020-01-01", [True, False, False]),
        ("\"Left-Diagnostic Keywords\" == 'normal fundus'", [True, False, False]),
        ("eye == 'missing'", [False, False, False]),
    ],
)
def test_a_rule_fits_the_rows_that_it_says(rule: str, fits: list[bool]) -> None:
    assert fitting(parse_rule(rule), PEOPLE, "here").tolist() == fits


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("agee < 40", "here: the cohort has no column 'agee'; did you mean 'age'"),
        ("age < young", "here: 'young' is text but column 'age' holds numbers"),
        ("eye < right", "here: 'eye < right': 'left' is neither a number nor a date"),
        ("seen < 2020", "here: 'seen < 2020': '2020' is neither a number nor a date"),
    ],
)
def test_a_rule_that_does_not_fit_the_cohort_says_why(rule: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fitting(parse_rule(rule), PEOPLE, "here")


@pytest.mark.parametrize(
    "text", ["", "age", "age <", "age = 3", "age < 3 or eye == left", "age < 3 and", "__import__('os')", "age > missing"]
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    assert not is_rule(text)
    with pytest.raises(ValueError, match="'"):
        parse_rule(text)


@given(
    st.lists(st.tuples(st.text("abc d", min_size=1), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.text("xyz 1.", min_size=1)))
)
def test_quoted_names_and_values_come_back_as_they_were(parts: list[tuple[str, str, str]]) -> None:
    text = " and ".join(f'"{name}" {sign} "{value}"' for name, sign, value in parts)
    if parts:
        assert parse_rule(text) == tuple(Comparison(*part) for part in parts)
