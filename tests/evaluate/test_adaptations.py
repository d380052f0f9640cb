"""Which adaptations are asked for, and with which settings."""

from __future__ import annotations

import pytest

from curate import UserError
from evaluate.adaptations import SETTINGS, choose_adaptations
from evaluate.training import TrainingSettings, rate_at


def test_all_means_the_five_and_seeds_only_where_there_is_chance() -> None:
    chosen = choose_adaptations(["knn", "all"], None, seeds=3, seed=7)
    assert [a.name for a in chosen] == list(SETTINGS) == ["finetune", "probe-paper", "probe-cached", "logistic", "knn"]
    assert {a.name: a.seeds for a in chosen}["finetune"] == (7, 8, 9)
    assert {a.name: a.seeds for a in chosen}["logistic"] == (7,)
    assert [a.name for a in choose_adaptations(None, None, seeds=1, seed=0)] == ["probe-cached"]


def test_settings_can_be_changed_and_the_result_says_which() -> None:
    (chosen,) = choose_adaptations(["finetune"], ["finetune.epochs=5", "finetune.augment=none", "finetune.rate=1e-3"], seeds=1, seed=0)
    assert chosen.settings == TrainingSettings(epochs=5, augment="none", rate=1e-3)
    assert chosen.described()["from"]["the command"] == "epochs, rate, augment"
    assert chosen.described()["warmup"] == 1
    (chosen,) = choose_adaptations(["finetune"], ["finetune.crop=0.5", "finetune.head=probe"], seeds=1, seed=0)
    assert "crops of 50 to 100 %" in chosen.described()["views"]
    assert "initial weights" not in chosen.described()["seeds_vary"]
    (chosen,) = choose_adaptations(["knn"], ["knn.neighbours=1,3"], seeds=1, seed=0)
    assert chosen.specification()["neighbours"] == (1, 3)


@pytest.mark.parametrize(
    ("names", "change", "message"),
    [
        (["fine-tune"], None, "--adapt fine-tune: not an adaptation; did you mean 'finetune'"),
        (["finetune"], "finetune.epoch=5", "finetune has no field 'epoch'; did you mean 'epochs'"),
        (["finetune"], "finetun.epochs=5", "'finetun' is not an adaptation; did you mean 'finetune'"),
        (["knn"], "finetune.epochs=5", "finetune is not asked for; add --adapt finetune"),
        (["finetune"], "finetune=5", "expected NAME.FIELD=VALUE"),
        (["finetune"], "finetune.epochs=five", "--set finetune.epochs=five: input should be a valid integer"),
        (["finetune"], "finetune.warmup=50", "warmup (50) must be less than epochs (50)"),
        (["finetune"], "finetune.pooling=max", "input should be 'mean', 'class' or 'both'"),
        (["finetune"], "finetune.augment=rnd-m9", "augment is none or a RandAugment, as rand-m9-mstd0.5-inc1, not 'rnd-m9'"),
        (["finetune"], "finetune.crop=0", "crop is above 0 and at most 1"),
        (["finetune"], "finetune.head=best", "input should be 'zero' or 'probe'"),
        (["probe-cached"], "probe-cached.rates=0.1,-1", "rates, epochs and batch are positive"),
        (["logistic"], "logistic.strengths=0", "strengths, tolerance and iterations are positive"),
        (["knn"], "knn.temperature=0", "neighbours and temperature are positive"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_nearest_name(names: list[str], change: str | None, message: str) -> None:
    with pytest.raises(UserError) as error:
        choose_adaptations(names, [change] if change else None, seeds=5, seed=0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_paper_is_the_default() -> None:
    paper = TrainingSettings()
    assert (paper.epochs, paper.batch, paper.rate, paper.lowest_rate, paper.warmup_epochs) == (50, 16, 5e-4, 1e-6, 10)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.0), (5, 2.5e-4), (10, 5e-4), (30, (5e-4 + 1e-6) / 2), (50, 1e-6), (51, 1e-6)])
def test_the_rate_at_the_corners_of_the_schedule(epoch: float, rate: float) -> None:
    assert rate_at(epoch, TrainingSettings()) == pytest.approx(rate, abs=1e-12)


def test_the_rate_falls_after_warm_up_and_without_one_starts_at_the_top() -> None:
    rates = [rate_at(e / 4, TrainingSettings()) for e in range(40, 201)]
    assert rates == sorted(rates, reverse=True)
    assert rate_at(0, TrainingSettings(warmup=0)) == 5e-4
