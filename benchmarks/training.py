"""How fast a training step is on a CPU: ours beside lightly's MAE and DINOv2 examples, at equal settings.

    python benchmarks/training.py [--repeats 5] [--steps 4] [--threads 2] [--only mae|dinov2]

Both sides train the same network on the same normalised pictures, ready in memory: timm's ViT-Tiny/16 at 224 px (12 layers, width
192), float32, AdamW; MAE with a decoder of 4 layers of width 192 on batches of 32, DINOv2 with 2 x 224 + 8 x 96 px and two heads of 4,096
prototypes on batches of 8. The peers are built from lightly's modules as its examples build them. What still differs:
our MAE normalises its target, our DINOv2 evens its targets out with Sinkhorn-Knopp where lightly subtracts a running mean, clips its
gradients, and sorts its parameters into groups; lightly draws its masks within the step, ours come with the batch (lightly's are drawn
beforehand for DINOv2, where that takes long).

Prints a Markdown table: images a second, and the median over rounds of our rate to lightly's in the same round. Then trains both tiny
recipes on a shard set of noise with `pretrain run`'s own loop, and prints the share of the time that it waited for data.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
from lightly.models import utils
from lightly.models.modules import DINOv2ProjectionHead, MaskedVisionTransformerTIMM
from lightly.models.modules.masked_autoencoder_timm import MAEDecoderTIMM
from loader import write_shards
from timm.models.vision_transformer import vit_tiny_patch16_224
from torch import Tensor, nn

from pretrain.batch import Batch
from pretrain.loop import backward, clip_gradients
from pretrain.method import Method, build_method
from pretrain.order import batch_generator
from pretrain.recipe import Recipe, read_recipe
from pretrain.run import build_optimizer, run_pretraining
from pretrain.schedule import set_rates
from timing import machine, rounds, show

SIZE, PATCH, WIDTH = 224, 16, 192
LOCAL, LOCAL_SIZE, PROTOTYPES, BOTTLENECK, HIDDEN = 8, 96, 4096, 256, 2048
BATCH = {"mae": 32, "dinov2": 8}
SETTINGS = {
    "mae": ["model.arguments={}", "mae.decoder_depth=4", f"mae.decoder_width={WIDTH}", "mae.decoder_heads=3"],
    "dinov2": [
        "model.arguments={init_values: 1.0e-5}",
        *(f"dinov2.{head}={{hidden: {HIDDEN}, bottleneck: {BOTTLENECK}, prototypes: {PROTOTYPES}}}" for head in ("dino_head", "ibot_head")),
        f"data.local={{crops: {LOCAL}, size: {LOCAL_SIZE}}}",
    ],
}

Step = Callable[[], None]


def our_recipe(method: str) -> Recipe:
    """Give the tiny recipe with the sizes of this benchmark."""
    return read_recipe(f"{method}-tiny", [*SETTINGS[method], f"data.size={SIZE}", f"optim.batch={BATCH[method]}"])


def our_step(method: Method, batch: Batch, recipe: Recipe) -> Step:
    """Give the training loop's step on a batch whose pictures are normalised already."""
    optimizer = build_optimizer(method, recipe)

    def step() -> None:
        set_rates(optimizer, 0, recipe.optim)
        optimizer.zero_grad(set_to_none=True)
        losses = backward(method, batch, 0, micro_batch=None, precision="float32")
        norms = clip_gradients(method.clipped(), recipe.optim.clip)
        assert torch.cat([losses, norms]).isfinite().all()
        optimizer.step()
        method.end_step(0)

    return step


def mae(generator: torch.Generator) -> tuple[Step, Step]:
    """Make our step and lightly's."""
    recipe = our_recipe("mae")
    images = torch.randn(BATCH["mae"], 3, SIZE, SIZE, generator=generator)
    ours: Any = build_method(recipe, seed=0)
    ours.normalise = lambda ready: ready
    drawn = ours.views(recipe.data)
    batch = drawn.allocate(len(images))
    for place, item in enumerate(drawn.deal(len(images), batch_generator(0, 0))):
        drawn.fill(batch, place, torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8).numpy(), batch_generator(0, place), item)
    batch.tensors["images"] = images
    return our_step(ours, batch, recipe), lightly_mae(images)


def lightly_mae(images: Tensor) -> Step:
    """Give a step as in lightly's MAE example."""
    vit = vit_tiny_patch16_224()
    backbone = MaskedVisionTransformerTIMM(vit=vit)
    decoder = MAEDecoderTIMM(
        num_patches=vit.patch_embed.num_patches, patch_size=PATCH, embed_dim=WIDTH, decoder_embed_dim=WIDTH, decoder_depth=4,
        decoder_num_heads=3, mlp_ratio=4.0, proj_drop_rate=0.0, attn_drop_rate=0.0, mask_token=nn.Parameter(torch.zeros(1, 1, WIDTH)),
    )  # fmt: skip
    optimizer = torch.optim.AdamW([*backbone.parameters(), *decoder.parameters()], lr=1.5e-4)
    size = len(images), backbone.sequence_length

    def step() -> None:
        kept, hidden = utils.random_token_mask(size=size, mask_ratio=0.75)
        encoded = decoder.embed(backbone.encode(images=images, idx_keep=kept))
        tokens = utils.set_at_index(utils.repeat_token(decoder.mask_token, size), kept, encoded)
        predicted = decoder.predict(utils.get_at_index(decoder.decode(tokens), hidden))
        loss = nn.functional.mse_loss(predicted, utils.get_at_index(utils.patchify(images, PATCH), hidden - 1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def dinov2(generator: torch.Generator) -> tuple[Step, Step]:
    """Make our step and lightly's, on the same masks."""
    recipe = our_recipe("dinov2")
    images = BATCH["dinov2"]
    globals_ = torch.randn(2 * images, 3, SIZE, SIZE, generator=generator)
    locals_ = torch.randn(LOCAL * images, 3, LOCAL_SIZE, LOCAL_SIZE, generator=generator)
    side = SIZE // PATCH
    masks = utils.random_block_mask(size=(2 * images, side, side))
    ours: Any = build_method(recipe, seed=0)
    ours.normalise = lambda ready, _: ready.flatten(0, 1)
    batch = Batch(
        {
            "global": globals_.unflatten(0, (2, images)).transpose(0, 1),
            "local": locals_.unflatten(0, (LOCAL, images)).transpose(0, 1),
            "colour": torch.zeros(images, 2 + LOCAL, 8),
            "masks": masks.flatten(1).unflatten(0, (2, images)).transpose(0, 1),
        }
    )
    return our_step(ours, batch, recipe), lightly_dinov2(globals_, locals_, masks)


def lightly_dinov2(globals_: Tensor, locals_: Tensor, masks: Tensor) -> Step:
    """Give a step as in lightly's DINOv2 example, with separate heads as it offers them and no drop path."""

    def network() -> Any:
        vit = vit_tiny_patch16_224(pos_embed="learn", dynamic_img_size=True, init_values=1e-5)
        return nn.ModuleDict(
            {
                "backbone": MaskedVisionTransformerTIMM(vit=vit, antialias=False, pos_embed_initialization="skip"),
                **{name: DINOv2ProjectionHead(WIDTH, HIDDEN, BOTTLENECK, PROTOTYPES) for name in ("dino_head", "ibot_head")},
            }
        )

    student, teacher = network(), network()
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False).eval()
    dino, ibot, koleo = DINOLoss(output_dim=PROTOTYPES), IBOTPatchLoss(output_dim=PROTOTYPES), KoLeoLoss()
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.001)
    of_tokens = nn.functional.pad(masks.flatten(1), (1, 0))

    def step() -> None:
        with torch.no_grad():
            features = teacher["backbone"].encode(globals_)
            of_classes, of_patches = teacher["dino_head"](features[:, 0]), teacher["ibot_head"](features[of_tokens])
        tokens = student["backbone"].encode(globals_, mask=of_tokens)
        classes = student["dino_head"](tokens[:, 0])
        of_locals = student["dino_head"](student["backbone"].encode(locals_, mask=None)[:, 0])
        loss = dino(
            teacher_out=of_classes.chunk(2), student_out=torch.cat([classes, of_locals]).chunk(2 + LOCAL), teacher_temp=0.04
        ) + ibot(teacher_out=of_patches, student_out=student["ibot_head"](tokens[of_tokens]), mask=masks, teacher_temp=0.04)
        loss = loss + 0.1 * sum(koleo(t) for t in tokens[:, 0].chunk(2))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        utils.update_momentum(student, teacher, m=0.992)

    return step


def several(step: Step, images: int, steps: int) -> Callable[[], int]:
    """Take a step some times; gives the images seen."""

    def work() -> int:
        for _ in range(steps):
            step()
        return images * steps

    return work


def data_wait(method: str, shards: Path, folder: Path) -> tuple[float, float]:
    """Train a tiny recipe for a while; gives images a second and the share of the time that was waited for data."""
    steps = 120
    batch = read_recipe(f"{method}-tiny").optim.batch
    run_pretraining(shards, recipe=f"{method}-tiny", out=folder, samples=steps * batch, device="cpu")
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line.get("data_wait") is not None][1:]  # the first batches of a run are never ready
    return sum(line["images_per_s"] for line in lines) / len(lines), sum(line["data_wait"] for line in lines) / len(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of each contender in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("mae", "dinov2"), help="one method alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    print(f"{machine()}, lightly {importlib.metadata.version('lightly')}; {options.threads} threads")
    methods = [method for method in ("mae", "dinov2") if options.only in (None, method)]
    for method in methods:
        ours, theirs = {"mae": mae, "dinov2": dinov2}[method](torch.Generator().manual_seed(0))
        contenders = {name: several(step, BATCH[method], options.steps) for name, step in (("evenfooting", ours), ("lightly", theirs))}
        show(f"Training step, {method}", rounds(contenders, repeats=options.repeats), "images/s", reference="lightly")
    with tempfile.TemporaryDirectory() as name:
        shards = Path(name) / "shards"
        shards.mkdir()
        write_shards(shards, 1024)
        print("\n| recipe | images/s | waited for data |\n|---|---:|---:|")
        for method in methods:
            rate, waited = data_wait(method, shards, Path(name) / method)
            print(f"| {method}-tiny | {rate:,.0f} | {waited:.1%} |")


if __name__ == "__main__":
    main()
