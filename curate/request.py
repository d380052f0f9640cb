"""What is asked of a sample."""

from __future__ import annotations

from dataclasses import dataclass

from curate.errors import UserError
from curate.rules import Comparison, parse_rule
from curate.tars import CHECKSUMS

# Least quality asked for -> the grades that pass; none: no gate.
ACCEPTED = {"good": ("good",), "usable": ("good", "usable"), "any": ()}


@dataclass(frozen=True)
class SampleRequest:
    """What is asked of a sample.

    Attributes:
        balance: columns whose joint groups are made equal; none draws at random.
        images: how many to draw; None: as many as keep the balance exact.
        per_patient: at most so many images a patient; 0: no limit.
        holdout: share of patients kept out.
        quality: least quality where it was measured: "good", "usable" or "any".
        target: what share of the draw each group should have, as in `curate.target.read_target`.
        strata: with several columns, whether their "joint" groups are the strata or each column's own shares are met ("marginal");
            "auto": joint where every combination has 20 images or more.
        exclude: files with a column patient_id (as another sample's ``private/holdout.parquet``) whose patients stay out.
        where: rule that drawn images fit, as ``site == North and age >= 40`` (`curate.rules`); none: all may be drawn. The
            hold-out is that of the whole cohort, so that sets drawn by other rules leave the same patients to test on.
        unknown: "exclude" or "include" images whose group is unknown.
        size: pixels along the shorter side; 0 keeps each photograph's own.
        jpeg_quality: of photographs that are encoded anew.
        crop: cut every photograph to the modality's field of view before it is resized.
        modality: what the images are, as ``curate measure`` names it; decides what a field of view is.
        shard_images: at most so many images a shard.
        checksum: of the tars: "members" or "md5", see `curate.tars.Checksum`.
        embed_metadata: columns written into the shards.
        bins: texts ``COLUMN=EDGE,EDGE``.
        name: of the shard set.
        seed: of every random choice.
    """

    balance: tuple[str, ...] = ("age",)
    images: int | None = None
    per_patient: int = 0
    holdout: float = 0.1
    quality: str = "usable"
    target: str = "uniform"
    strata: str = "auto"
    exclude: tuple[str, ...] = ()
    where: str = ""
    unknown: str = "exclude"
    size: int = 256
    jpeg_quality: int = 92
    crop: bool = False
    modality: str = "retina"
    shard_images: int = 8192
    checksum: str = "members"
    embed_metadata: tuple[str, ...] = ()
    bins: tuple[str, ...] = ()
    name: str | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: with the option's name.
        """
        if self.quality not in ACCEPTED:
            raise UserError(f"--quality {self.quality}: expected good, usable or any")
        if self.unknown not in ("exclude", "include"):
            raise UserError(f"--unknown {self.unknown}: expected exclude or include")
        if self.strata not in ("auto", "joint", "marginal"):
            raise UserError(f"--strata {self.strata}: expected auto, joint or marginal")
        if self.checksum not in CHECKSUMS:
            raise UserError(f"--checksum {self.checksum}: expected members or md5")
        self.rule()
        if self.crop:
            from curate.crop import check_modality

            check_modality(self.modality)
        if not 0 <= self.holdout < 1:
            raise UserError(f"--holdout {self.holdout}: expected a share from 0 up to below 1")
        if len(set(self.balance)) != len(self.balance):
            raise UserError(f"--balance {','.join(self.balance)}: names a column twice")
        if self.target != "uniform" and not self.balance:
            raise UserError(f"--target {self.target}: a target needs groups; name their columns with --balance")

    def rule(self) -> tuple[Comparison, ...]:
        """Read `where`; empty where it is.

        Raises:
            UserError: where it is no rule.
        """
        if not self.where.strip():
            return ()
        try:
            return parse_rule(self.where)
        except ValueError as error:
            raise UserError(f"--where: {error}") from None
