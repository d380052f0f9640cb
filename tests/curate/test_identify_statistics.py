"""The statistics of identify against their definitions, other programs, and bootstraps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import contingency, f_oneway, kruskal
from sklearn.metrics import roc_auc_score

from curate.identify.associations import correlation_ratio, cramers_v
from curate.identify.conditioning import spline
from curate.identify.effects import benjamini_hochberg, kruskal_wallis
from curate.identify.permanova import labels_left, permanova
from curate.identify.predictability import Probe, nearest_of_others, purity


def clustered(seed: int, *, shift: float, patients: int = 150, by_patient: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One measure of one to four images a patient, three groups, the second shifted."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    group = rng.integers(0, 3, patients)[patient] if by_patient else rng.integers(0, 3, len(patient))
    values = rng.standard_normal(patients)[patient] + 0.7 * rng.standard_normal(len(patient)) + shift * (group == 1)
    return values, group, patient


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 3)), min_size=6, max_size=80))
def test_kruskal_wallis_is_scipys_with_ties_and_unknown_groups(pairs: list[tuple[int, int]]) -> None:
    values, group = (np.array(x) for x in zip(*pairs, strict=True))
    present = [g for g in range(4) if (group == g).any()]
    found = kruskal_wallis(values.astype(float), group, np.arange(len(values)))
    if len(present) < 2 or len(set(values[group >= 0])) < 2:
        assert found is None
        return
    expected = kruskal(*[values[group == g] for g in present])
    assert found is not None
    assert found.h == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert found.p_images == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.epsilon_squared == pytest.approx(expected.statistic / ((group >= 0).sum() - 1), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("rounded", [False, True])
def test_the_interval_of_epsilon_squared_is_as_wide_as_a_bootstrap_of_patients(rounded: bool) -> None:
    values, group, patient = clustered(3, shift=1.0, patients=300)
    values = np.round(values) if rounded else values
    found = kruskal_wallis(values, group, patient)
    assert found is not None
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(patient == p) for p in range(300)]
    drawn = []
    for _ in range(400):
        take = np.concatenate([rows[p] for p in rng.integers(0, 300, 300)])
        again = kruskal_wallis(values[take], group[take], patient[take])
        assert again is not None
        drawn.append(again.epsilon_squared)
    assert (found.high - found.epsilon_squared) / 1.96 == pytest.approx(np.std(drawn), rel=0.12)


def test_several_images_a_patient_dont_make_a_difference_where_there_is_none() -> None:
    by_patient, by_image, over, covered = 0, 0, 0, 0
    for seed in range(400):
        found = kruskal_wallis(*clustered(seed, shift=0.0, patients=80))
        assert found is not None
        by_patient += found.p < 0.05
        by_image += found.p_images < 0.05
        over += found.epsilon_squared > found.floor
        covered += found.low == 0
    assert 8 <= by_patient <= 34  # 20 expected
    assert by_image > 60  # the textbook's p-value, which takes eyes for people
    assert over <= 12  # 4 expected
    assert covered >= 360


def test_benjamini_hochberg_is_the_definition() -> None:
    p = np.random.default_rng(0).uniform(0, 1, 40) ** 3
    m = len(p)
    brute = [min(min(p[j] * m / (p <= p[j]).sum() for j in range(m) if p[j] >= p[i]), 1) for i in range(m)]
    assert benjamini_hochberg(p) == pytest.approx(brute)


def pseudo_f(distance: np.ndarray, group: np.ndarray) -> float:
    """Anderson 2001, equations 1 to 3, from the matrix of distances."""
    n, groups = len(group), np.unique(group)
    total = (distance[np.triu_indices(n, 1)] ** 2).sum() / n
    within = 0.0
    for g in groups:
        rows = np.flatnonzero(group == g)
        inside = distance[np.ix_(rows, rows)]
        within += (inside[np.triu_indices(len(rows), 1)] ** 2).sum() / len(rows)
    return ((total - within) / (len(groups) - 1)) / (within / (n - len(groups)))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(8, 40), st.integers(1, 5), st.integers(2, 4))
def test_permanova_is_andersons_pseudo_f(seed: int, n: int, d: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    x, group = rng.standard_normal((n, d)) + 5, np.arange(n) % groups
    found = permanova(x, group, np.arange(n), permutations=19)
    assert found is not None
    assert found.f == pytest.approx(pseudo_f(squareform(pdist(x)), group), rel=1e-9)


def test_permanova_is_scikit_bios() -> None:
    distance = pytest.importorskip("skbio.stats.distance")
    rng = np.random.default_rng(1)
    x, group = rng.standard_normal((300, 6)), rng.integers(0, 3, 300)
    x[group == 1] += 0.3
    theirs = distance.permanova(distance.DistanceMatrix(squareform(pdist(x))), group, permutations=0)
    ours = permanova(x, group, np.arange(300), permutations=19)
    assert ours is not None
    assert ours.f == pytest.approx(float(theirs["test statistic"]), rel=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_others_are_held_fixed_as_the_hat_matrices_of_mcardle_and_anderson_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    z, stratum, group = rng.standard_normal((n, 2)), rng.integers(0, 4, n), rng.integers(0, 3, n)
    z = np.hstack([z, z[:, :1]])  # a column too many does no harm
    x = rng.standard_normal((n, 3)) + z[:, :1] + group[:, None]
    centring = np.eye(n) - 1 / n
    gower = centring @ (-0.5 * squareform(pdist(x)) ** 2) @ centring
    hat = lambda m: m @ np.linalg.pinv(m)  # noqa: E731
    rest = np.hstack([np.eye(4)[stratum], z])
    whole = np.hstack([rest, np.eye(3)[group]])
    added = np.trace((hat(whole) - hat(rest)) @ gower)
    found = permanova(x, group, np.arange(n), strata=stratum, covariates=z, permutations=19)
    assert found is not None
    assert found.r2 == pytest.approx(added / np.trace(gower), rel=1e-7, abs=1e-9)
    freedom = np.linalg.matrix_rank(whole) - np.linalg.matrix_rank(rest)
    f = (added / freedom) / (np.trace((np.eye(n) - hat(whole)) @ gower) / (n - np.linalg.matrix_rank(whole)))
    assert found.f == pytest.approx(f, rel=1e-6)


def test_permanova_of_one_feature_is_the_f_of_an_analysis_of_variance() -> None:
    values, group, _ = clustered(0, shift=0.5)
    found = permanova(values[:, None], group, np.arange(len(values)), permutations=19)
    assert found is not None
    assert found.f == pytest.approx(f_oneway(*[values[group == g] for g in range(3)]).statistic, rel=1e-9)


@pytest.mark.parametrize("by_patient", [True, False])
def test_labels_move_between_patients_so_that_p_is_right(by_patient: bool) -> None:
    p = []
    for seed in range(200):
        values, group, patient = clustered(seed, shift=0.0, patients=60, by_patient=by_patient)
        x = np.stack([values, np.random.default_rng(seed).standard_normal(60)[patient]], axis=1)
        found = permanova(x, group, patient, strata=patient % 3, permutations=39, seed=seed)
        assert found is not None
        p.append(found.p)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.045)
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.11)


def test_a_difference_between_a_persons_own_images_is_found_under_the_difference_between_people() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(80), 2)
    eye = np.tile([0, 1], 80)
    x = 5 * rng.standard_normal((80, 2))[patient] + 0.5 * rng.standard_normal((160, 2)) + 0.4 * eye[:, None]
    found = permanova(x, eye, patient)
    assert found is not None
    assert found.p <= 0.01


def test_images_of_a_patient_in_two_strata_are_refused() -> None:
    with pytest.raises(ValueError, match="several strata"):
        permanova(np.eye(4), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), strata=np.array([0, 1, 1, 1]))


def test_what_cant_be_compared_gives_nothing() -> None:
    x, people = np.random.default_rng(0).standard_normal((6, 2)), np.arange(6)
    assert permanova(x, np.zeros(6, dtype=int), people) is None
    assert permanova(np.ones((6, 2)), people % 2, people) is None
    # each stratum holds one group: nothing is left to credit to it
    assert permanova(x, people % 2, people, strata=people % 2) is None
    assert kruskal_wallis(np.ones(6), people % 2, people) is None


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 5))
def test_what_strata_leave_of_labels_is_one_less_goodman_and_kruskals_tau(seed: int, groups: int, strata: int) -> None:
    rng = np.random.default_rng(seed)
    g, s = rng.integers(0, groups, 50), rng.integers(0, strata, 50)
    g[:2] = [0, 1]
    cells = np.array([[((g == i) & (s == j)).sum() for j in range(strata)] for i in range(groups)], dtype=float)
    columns = cells.sum(axis=0)
    gini = 1 - ((cells.sum(axis=1) / 50) ** 2).sum()
    within = sum((c / 50) * (1 - ((cells[:, j] / c) ** 2).sum()) for j, c in enumerate(columns) if c)
    assert labels_left(g, s, None) == pytest.approx(within / gini, abs=1e-9)


def test_cramers_v_without_the_correction_is_scipys_and_the_correction_takes_chance_away() -> None:
    cells = np.array([[900, 300, 50], [200, 400, 800]])
    assert cramers_v(cells * 1000) == pytest.approx(contingency.association(cells, method="cramer"), abs=1e-5)
    rng = np.random.default_rng(0)
    values = [cramers_v(rng.multinomial(200, np.full(20, 0.05)).reshape(4, 5)) for _ in range(300)]
    plain = [contingency.association(rng.multinomial(200, np.full(20, 0.05)).reshape(4, 5) + 1, method="cramer") for _ in range(300)]
    assert np.mean(values) < 0.6 * np.mean(plain)


def test_cramers_v_is_bergsmas_formula() -> None:
    # n = 60, chi-squared = 60 * phi2, worked by hand from Bergsma (2013), section 3
    cells = np.array([[20, 10], [10, 20]])
    phi2 = (10 / 30) ** 2 - 1 / 59
    reduced = 2 - 1 / 59
    assert cramers_v(cells) == pytest.approx(np.sqrt(phi2 / (reduced - 1)))


def test_the_correlation_ratio_is_between_over_total() -> None:
    values, group = np.array([1.0, 3, 5, 7, 20]), np.array([0, 0, 1, 1, 1])
    grand = values.mean()
    between = 2 * (2 - grand) ** 2 + 3 * (32 / 3 - grand) ** 2
    assert correlation_ratio(values, group, np.ones(5)) == pytest.approx(between / ((values - grand) ** 2).sum())


def test_the_spline_is_linear_beyond_the_outer_knots() -> None:
    x = np.linspace(0, 100, 2001)
    basis = spline(x, np.ones(len(x), dtype=bool))
    assert basis.shape == (2001, 5)
    bend = np.abs(np.diff(basis, 2, axis=0)).max(axis=1)
    assert bend[:98].max() < 1e-10
    assert bend[-98:].max() < 1e-10
    assert bend[200:1800].max() > 1e-6


def test_the_probe_learns_from_other_patients_alone() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 4)
    # Every patient has a place of its own, which says nothing about the group of the next.
    x = rng.standard_normal((60, 30))[patient] + 0.01 * rng.standard_normal((240, 30))
    code = rng.integers(0, 2, 60)[patient]
    score = Probe(x, patient, 0).groups(code, 2, 99, rng)
    assert abs(score.value - 0.5) < 0.2
    assert score.value < score.floor
    found = purity(nearest_of_others(x, patient), code, patient, 99, rng)
    assert abs(found.value) < 0.15


def test_the_probes_score_is_the_area_under_the_roc_curve_and_finds_what_is_there() -> None:
    rng = np.random.default_rng(1)
    patient, code = np.arange(400), np.arange(400) % 3
    x = rng.standard_normal((400, 5))
    x[:, 0] += code
    probe = Probe(x, patient, 0)
    score = probe.groups(code, 3, 19, rng)
    predicted = probe.scores(np.eye(3)[code])
    assert score.value == pytest.approx(np.mean([roc_auc_score(code == g, predicted[:, g]) for g in range(3)]))
    assert score.value > score.floor
    age = probe.number(x[:, 0] + x[:, 1], 19, rng)
    assert age.value > 0.99
    assert age.floor < 0.05


def test_neighbours_are_the_nearest_of_other_patients_by_brute_force() -> None:
    rng = np.random.default_rng(2)
    x, patient = rng.standard_normal((90, 4)), rng.integers(0, 30, 90)
    distance = squareform(pdist(x))
    distance[patient[:, None] == patient] = np.inf
    assert (nearest_of_others(x, patient, 7) == np.argsort(distance, axis=1)[:, :7]).all()
    few = nearest_of_others(x[:4], np.array([0, 0, 1, 1]), 5)
    assert (few[:, 2:] == -1).all()
    assert (few[:, :2] >= 0).all()


def test_purity_of_apart_groups_is_one_and_of_mixed_ones_nothing() -> None:
    rng = np.random.default_rng(3)
    x, code, patient = rng.standard_normal((300, 2)), np.arange(300) % 2, np.arange(300)
    around = nearest_of_others(x + 100 * code[:, None], patient)
    assert purity(around, code, patient, 99, rng).value == pytest.approx(1)
    mixed = purity(nearest_of_others(x, patient), code, patient, 99, rng)
    assert mixed.value < mixed.floor < 0.2
