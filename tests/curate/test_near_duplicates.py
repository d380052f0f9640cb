"""Near-duplicates: what was saved, scaled, brightened or bordered anew is found; what merely looks alike is not."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curate.cohort import read_cohort
from curate.ingest import ingest_archive
from curate.likeness import hashes, similarity, thumbnail
from curate.near_duplicates import LINKED, SAME, candidate_pairs
from curate.phantom.archive import simulate_archive
from curate.photographs import read_grey


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "archive"
    simulate_archive(folder, patients=30, seed=4, workers=1)
    return folder


def encode(image: Image.Image, quality: int = 85) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def bordered(image: Image.Image) -> Image.Image:
    whole = Image.new("RGB", (image.width + 40, image.height + 90))
    whole.paste(image, (10, 60))
    return whole


CHANGES = {
    "saved again": lambda i: encode(i, 50),
    "half the size": lambda i: encode(i.resize((i.width // 2, i.height // 2), Image.Resampling.BICUBIC)),
    "twice the size": lambda i: encode(i.resize((i.width * 2, i.height * 2), Image.Resampling.BICUBIC)),
    "brighter": lambda i: encode(i.point(lambda v: min(255, int(1.15 * v + 5)))),
    "another gamma": lambda i: encode(i.point(lambda v: int(255 * (v / 255) ** 0.8))),
    "a border": lambda i: encode(bordered(i)),
    "turned by two degrees": lambda i: encode(i.rotate(2, Image.Resampling.BICUBIC)),
    "grey": lambda i: encode(i.convert("L").convert("RGB")),
}


def bits(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_photograph_is_recognised(phantoms: Path, change: str) -> None:
    files = sorted((phantoms / "images").iterdir())[:12]
    for file in files:
        before = read_grey(file.read_bytes())[0]
        after = read_grey(CHANGES[change](Image.open(file).convert("RGB")))[0]
        assert bits(hashes(before)[0], hashes(after)[0]) <= 14
        assert similarity(thumbnail(before), thumbnail(after)) >= SAME


def test_photographs_of_different_eyes_are_told_apart(phantoms: Path) -> None:
    files = sorted((phantoms / "images").glob("*_1.jpg"))[:20]
    small = [thumbnail(read_grey(f.read_bytes())[0]) for f in files]
    assert max(similarity(a, b) for i, a in enumerate(small) for b in small[:i]) < LINKED


def test_blank_images_are_like_nothing() -> None:
    blank = np.zeros((200, 200), np.uint8)
    assert hashes(blank)[1] == bytes(32)
    assert similarity(thumbnail(blank), thumbnail(blank)) == 0
    assert len(candidate_pairs(np.zeros(5, np.uint64), np.zeros((5, 4), np.uint64))) == 0


def test_candidates_are_all_pairs_within_five_bits() -> None:
    rng = np.random.default_rng(0)
    fine = rng.integers(1, 2**63, (1, 4), dtype=np.uint64).repeat(400, axis=0)
    coarse = rng.integers(0, 2**63, 400, dtype=np.uint64)
    expected = set()
    for i in range(0, 200, 2):
        flips = rng.choice(64, rng.integers(0, 6), replace=False)
        coarse[i + 1] = coarse[i] ^ np.uint64(sum(1 << int(f) for f in flips))
        expected.add((i, i + 1))
    found = set(map(tuple, candidate_pairs(coarse, fine).tolist()))
    assert expected <= found
    assert all(np.bitwise_count(coarse[a] ^ coarse[b]) <= 14 for a, b in found)


def test_crowds_of_equal_hashes_cost_no_more_than_their_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.near_duplicates._REACH", 4)
    pairs = candidate_pairs(np.full(50, 7, np.uint64), np.ones((50, 4), np.uint64))
    assert len(np.unique(pairs)) == 50  # everyone is compared with someone, and through others with all
    assert len(pairs) <= 50 * 4


def test_a_patient_registered_twice_is_linked_and_the_ledger_says_so(phantoms: Path, tmp_path: Path) -> None:
    table = pd.read_csv(phantoms / "manifest.csv", dtype=str, keep_default_na=False)
    images = tmp_path / "images"
    images.mkdir()
    for file in (phantoms / "images").iterdir():
        (images / file.name).write_bytes(file.read_bytes())
    again = table.iloc[[0, 10]].copy()
    for at, change in zip(again.index, ("saved again", "a border"), strict=True):
        name = f"again{at}.jpg"
        (images / name).write_bytes(CHANGES[change](Image.open(images / table.at[at, "image_file"]).convert("RGB")))
        again.loc[at, ["image_file", "patient_id"]] = [name, f"{900000 + at}"]
    pd.concat([table, again]).to_csv(tmp_path / "manifest.csv", index=False)
    about = ingest_archive(tmp_path / "manifest.csv", images=[images], out=tmp_path / "cohort", workers=1)
    pairs = read_cohort(tmp_path / "cohort").duplicates()
    expected = {tuple(sorted((table.at[at, "image_file"][:-4], f"again{at}"))) for at in again.index}
    assert set(zip(pairs["image_a"], pairs["image_b"], strict=True)) == expected
    assert about["rules"]["near-duplicate"] == 4


def test_a_photograph_stored_on_its_side_is_compared_upright(phantoms: Path) -> None:
    image = Image.open(next((phantoms / "images").iterdir())).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to see it upright
    buffer = io.BytesIO()
    image.rotate(90, expand=True).save(buffer, "JPEG", quality=90, exif=exif)
    turned = read_grey(buffer.getvalue())[0]
    assert similarity(thumbnail(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)), thumbnail(turned)) >= SAME
