"""The losses of DINOv2 against nested loops written from the papers, and against lightly where it has them."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pretrain.dinov2 import Head, Prototypes, cross_entropy, dino_loss, effective_rank, ibot_loss, koleo_loss, losses, sinkhorn_knopp
from pretrain.recipe import HeadSettings

TEMPERATURE = 0.1


def distributions(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)


def one_cross_entropy(logits: Tensor, target: Tensor) -> float:
    """One token, one prototype after another, in double precision."""
    scaled = [value / TEMPERATURE for value in logits.double().tolist()]
    normaliser = math.log(sum(math.exp(value) for value in scaled))
    return -sum(t * (value - normaliser) for t, value in zip(target.tolist(), scaled, strict=True))


# DINO


def test_dino_loss_equals_nested_loops_over_pairs_of_different_crops() -> None:
    images, local, prototypes = 3, 4, 5
    logits, targets = torch.randn(2 + local, images, prototypes), distributions(2, images, prototypes)
    total, pairs = 0.0, 0
    for view in range(2):
        for crop in range(2 + local):
            if crop == view:
                continue
            pairs += 1
            for image in range(images):
                total += one_cross_entropy(logits[crop, image], targets[view, image]) / images
    assert pairs == 2 + 2 * local
    assert float(sum(dino_loss(logits[:2], logits[2:], targets, TEMPERATURE))) == pytest.approx(total / pairs, rel=1e-5)


def test_the_student_never_learns_from_the_teachers_view_of_the_same_crop() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    targets = distributions(2, 3, 5)
    dino_loss(logits, logits.new_empty(0, 3, 5), targets, TEMPERATURE)[0].backward()
    before = logits.grad
    logits.grad = None
    changed = torch.stack([targets[0], distributions(3, 5, seed=1)])  # another target from the second crop
    dino_loss(logits, logits.new_empty(0, 3, 5), changed, TEMPERATURE)[0].backward()
    assert torch.equal(before[1], logits.grad[1])
    assert not torch.equal(before[0], logits.grad[0])


def test_global_and_local_terms_share_one_divisor() -> None:
    targets = distributions(2, 3, 5)
    same = torch.zeros(1, 3, 5)  # every cross-entropy is log 5
    of_globals, of_locals = dino_loss(same.expand(2, -1, -1), same.expand(8, -1, -1), targets, TEMPERATURE)
    assert float(of_globals) == pytest.approx(math.log(5) * 2 / 18, rel=1e-6)
    assert float(of_locals) == pytest.approx(math.log(5) * 16 / 18, rel=1e-6)


def test_without_local_crops_two_pairs_remain() -> None:
    targets = distributions(2, 3, 5)
    of_globals, of_locals = dino_loss(torch.zeros(2, 3, 5), torch.zeros(0, 3, 5), targets, TEMPERATURE)
    assert (float(of_globals), float(of_locals)) == (pytest.approx(math.log(5), rel=1e-6), 0.0)


def test_cross_entropy_is_least_where_the_student_says_what_the_teacher_says() -> None:
    targets = distributions(4, 6)
    entropy = torch.special.entr(targets).sum(-1)
    torch.testing.assert_close(cross_entropy(targets.log() * TEMPERATURE, targets, TEMPERATURE), entropy)
    assert (cross_entropy(torch.randn(4, 6), targets, TEMPERATURE) > entropy).all()


def test_cross_entropy_is_that_of_lightlys_dino_loss_without_its_centre() -> None:
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.DINOLoss(output_dim=6, student_temp=TEMPERATURE, warmup_teacher_temp=0.07, teacher_temp=0.07)
    teacher, student = torch.randn(2, 4, 6), torch.randn(5, 4, 6)
    expected = theirs(list(teacher), list(student), teacher_temp=0.07)
    targets = (teacher / 0.07).softmax(dim=-1)
    # lightly divides by the pairs it compares, 2 x 5 - 2 of them, as here.
    assert float(sum(dino_loss(student[:2], student[2:], targets, TEMPERATURE))) == pytest.approx(float(expected), rel=1e-5)


# iBOT


def patches(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    masks = torch.zeros(2, 3, 6, dtype=torch.bool)
    masks[0, 0, [1, 4, 5]] = masks[1, 0, [0]] = masks[1, 2, [2, 3]] = True  # three of six crops
    hidden = int(masks.sum())
    return torch.randn(hidden, 4), torch.randn(5, 4), distributions(hidden, 5), masks


def test_ibot_loss_equals_nested_loops_over_crops_and_hidden_patches() -> None:
    student, prototypes, targets, masks = patches()
    total, row = 0.0, 0
    for crop in masks.flatten(0, 1):
        hidden = [n for n in range(6) if crop[n]]
        for _ in hidden:
            logits = torch.tensor([float(student[row].double() @ p.double()) for p in prototypes])
            total += one_cross_entropy(logits, targets[row]) / len(hidden)
            row += 1
    assert float(ibot_loss(student, prototypes, targets, masks, TEMPERATURE)) == pytest.approx(total / 6, rel=1e-5)


def test_ibot_loss_counts_crops_without_a_mask() -> None:
    student, prototypes, _, masks = patches()
    uniform = torch.full((6, 5), 0.2)
    loss = ibot_loss(student * 0, prototypes, uniform, masks, TEMPERATURE)
    assert float(loss) == pytest.approx(math.log(5) * 3 / 6, rel=1e-6)  # half of what a mean over hidden patches gives


def test_ibot_loss_in_parts_has_the_same_value_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    student, prototypes, targets, masks = patches()
    student.requires_grad_()
    prototypes.requires_grad_()
    whole = ibot_loss(student, prototypes, targets, masks, TEMPERATURE)
    expected = torch.autograd.grad(whole, (student, prototypes))
    monkeypatch.setattr(losses, "_ROWS", 4)
    parts = ibot_loss(student, prototypes, targets, masks, TEMPERATURE)
    torch.testing.assert_close(parts, whole)
    for mine, theirs in zip(torch.autograd.grad(parts, (student, prototypes)), expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_ibot_loss_of_no_hidden_patch_is_zero_and_has_a_gradient() -> None:
    student, prototypes, targets, masks = patches()
    student = student[:0].requires_grad_()
    loss = ibot_loss(student, prototypes, targets[:0], masks & False, TEMPERATURE)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert student.grad is not None


def test_ibot_loss_is_that_of_lightly_but_for_its_centre() -> None:
    lightly = pytest.importorskip("lightly.loss")
    student, prototypes, _, masks = patches()
    theirs = lightly.IBOTPatchLoss(output_dim=5, student_temp=TEMPERATURE, teacher_temp=0.07)
    teacher = torch.randn(6, 5)
    # lightly takes masks as [crops, rows, columns] and divides by all crops, those without a mask among them.
    expected = theirs(teacher_out=teacher, student_out=student @ prototypes.T, mask=masks.reshape(6, 2, 3), teacher_temp=0.07)
    mine = ibot_loss(student, prototypes, (teacher / 0.07).softmax(dim=-1), masks, TEMPERATURE)
    assert float(mine) == pytest.approx(float(expected), rel=1e-5)


# KoLeo


def test_koleo_equals_nested_loops_over_nearest_neighbours() -> None:
    tokens = torch.randn(6, 4)
    unit = [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in tokens.double().tolist()]
    total = 0.0
    for i, one in enumerate(unit):
        nearest = min(math.dist(one, other) for j, other in enumerate(unit) if j != i)
        total -= math.log(nearest + 1e-8)
    assert float(koleo_loss(tokens)) == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_koleo_is_that_of_lightly(scale: float) -> None:
    lightly = pytest.importorskip("lightly.loss")
    tokens = torch.randn(16, 8) * scale
    assert float(koleo_loss(tokens)) == pytest.approx(float(lightly.KoLeoLoss()(tokens)), rel=1e-5)


def test_koleo_of_the_same_photograph_twice_is_finite_in_sixteen_bits_too() -> None:
    tokens = torch.randn(1, 8).to(torch.bfloat16).expand(4, -1).clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = koleo_loss(tokens)
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(-math.log(1e-8), rel=1e-3)
    assert torch.isfinite(tokens.grad).all()


def test_koleo_of_one_photograph_is_zero() -> None:
    assert float(koleo_loss(torch.randn(1, 8))) == 0.0


def test_koleo_pushes_neighbours_apart() -> None:
    tokens = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]], requires_grad=True)
    koleo_loss(tokens).backward()
    moved = tokens.detach() - 0.01 * tokens.grad
    unit = torch.nn.functional.normalize
    before, after = ((unit(t)[0] - unit(t)[1]).norm() for t in (tokens.detach(), moved))
    assert after > before


# Sinkhorn-Knopp


def test_sinkhorn_equals_the_papers_loops() -> None:
    logits = torch.randn(4, 3).double()
    q = [[math.exp(v / 0.07) for v in row] for row in logits.tolist()]  # [tokens][prototypes]
    everything = sum(map(sum, q))
    q = [[v / everything for v in row] for row in q]
    for _ in range(3):
        sums = [sum(row[k] for row in q) for k in range(3)]
        q = [[row[k] / sums[k] / 3 for k in range(3)] for row in q]  # every prototype holds 1 / K
        q = [[v / sum(row) / 4 for v in row] for row in q]  # every token holds 1 / N
    torch.testing.assert_close(sinkhorn_knopp(logits, 0.07), torch.tensor(q, dtype=torch.float32) * 4, rtol=1e-4, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(2, 12), prototypes=st.integers(2, 9), seed=st.integers(0, 1000))
def test_sinkhorn_gives_every_token_a_distribution_and_every_prototype_the_same_share(tokens: int, prototypes: int, seed: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).uniform(-0.3, 0.3, (tokens, prototypes))).float()
    q = sinkhorn_knopp(logits, 0.1, iterations=100)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(tokens))
    torch.testing.assert_close(q.sum(dim=0), torch.full((prototypes,), tokens / prototypes), rtol=1e-3, atol=1e-3)


def test_sinkhorn_does_not_depend_on_a_constant_and_stays_finite_for_large_logits() -> None:
    logits = torch.randn(5, 4)
    torch.testing.assert_close(sinkhorn_knopp(logits + 100, 0.04), sinkhorn_knopp(logits, 0.04), rtol=1e-3, atol=1e-6)
    assert torch.isfinite(sinkhorn_knopp(logits * 1000, 0.04)).all()


def test_sinkhorn_passes_no_gradient_and_takes_no_token_at_all() -> None:
    logits = torch.randn(5, 4, requires_grad=True)
    assert not sinkhorn_knopp(logits, 0.04).requires_grad
    assert sinkhorn_knopp(logits[:0], 0.04).shape == (0, 4)


def test_sinkhorn_is_float32_whatever_it_gets() -> None:
    assert sinkhorn_knopp(torch.randn(5, 4).to(torch.bfloat16), 0.04).dtype == torch.float32


def test_sinkhorn_sums_over_processes_that_hold_different_numbers_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(8, 6)
    whole = sinkhorn_knopp(logits, 0.07)
    meeting, shown = threading.Barrier(2), {}

    def all_reduce(values: Tensor, op: object) -> None:  # two threads in the place of two processes
        shown[threading.get_ident()] = values.clone()
        meeting.wait(timeout=20)
        both = torch.stack(list(shown.values()))
        meeting.wait(timeout=20)
        values.copy_(both.amax(0) if op == torch.distributed.ReduceOp.MAX else both.sum(0))

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda part: sinkhorn_knopp(part, 0.07), (logits[:3], logits[3:]))
        torch.testing.assert_close(torch.cat(list(parts)), whole)


# Heads and monitors


def test_a_head_is_three_layers_a_unit_vector_and_prototypes_of_length_one() -> None:
    head = Head(6, HeadSettings(hidden=16, bottleneck=4, prototypes=10))
    assert [tuple(m.weight.shape) for m in head.mlp if hasattr(m, "weight")] == [(16, 6), (16, 16), (4, 16)]
    tokens = torch.randn(7, 6)
    torch.testing.assert_close(head.embed(tokens).norm(dim=-1), torch.ones(7))
    torch.testing.assert_close(head.last_layer.weight().norm(dim=1), torch.ones(10))
    assert head(tokens).abs().max() <= 1.0


def test_prototypes_are_torchs_weight_normalised_linear_layer() -> None:
    mine = Prototypes(4, 10)
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 10, bias=False))
    with torch.no_grad():
        mine.length.copy_(torch.rand(10, 1) + 0.5)
        theirs.parametrizations.weight.original0.copy_(mine.length)
        theirs.parametrizations.weight.original1.copy_(mine.direction)
    x = torch.randn(3, 4)
    torch.testing.assert_close(torch.nn.functional.linear(x, mine.weight()), theirs(x))


def test_effective_rank_counts_equal_singular_values() -> None:
    basis = torch.linalg.qr(torch.randn(9, 9)).Q
    assert effective_rank(basis[:, :5]) == pytest.approx(5.0, rel=1e-4)
    assert effective_rank(torch.ones(9, 5)) == pytest.approx(1.0, abs=1e-3)
