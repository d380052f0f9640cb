"""What a photograph becomes on its way into a shard: its pixels, its size, and nothing that says whose it is."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter

from curate.jpeg import read_jpeg
from curate.rendering import render
from curate.tars import tar_header

SECRETS = (b"Jane", b"hospital", b"secret", b"1950")


def photograph(side: int = 64) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side + 16, side), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def dirty(**options: object) -> bytes:
    """A JPEG that names its patient in every place where a JPEG can."""
    exif = Image.Exif()
    exif[0x010E] = "Jane Roe, born 1950"
    data = saved(photograph(), exif=exif, comment=b"hospital number 123", xmp=b"<x>Jane</x>", **options)
    iptc = b"\xff\xed" + (2 + 14 + 4).to_bytes(2, "big") + b"Photoshop 3.0\0" + b"Jane"
    return data[:2] + iptc + data[2:] + b"trailing secret"


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": "4:4:4"}])
def test_metadata_is_stripped_and_the_coded_pixels_stay_bit_for_bit(options: dict[str, object]) -> None:
    made = render(dirty(**options), size=0, quality=92)
    assert not any(secret in made.jpeg for secret in SECRETS)
    assert not made.encoded
    assert not made.original
    assert (pixels(made.jpeg) == pixels(dirty(**options))).all()
    assert (made.width, made.height) == (80, 64)


def test_metadata_is_stripped_from_what_is_encoded_anew() -> None:
    made = render(dirty(), size=32, quality=92)
    assert made.encoded
    assert not any(secret in made.jpeg for secret in SECRETS)
    assert (made.width, made.height) == (40, 32)


def test_a_comment_after_the_coded_pixels_and_a_thumbnail_in_the_header_are_stripped() -> None:
    data = saved(photograph())
    late = data[:-2] + b"\xff\xfe\x00\x06Jane" + b"\xff\xd9"
    assert b"Jane" not in read_jpeg(late).stripped
    assert read_jpeg(late).stripped == data
    header = b"\xff\xe0" + (16 + 3).to_bytes(2, "big") + b"JFIF\0\x01\x01\0\0\x01\0\x01\x01\x01abc"
    assert b"abc" not in read_jpeg(data[:2] + header + data[20:]).stripped
    assert read_jpeg(data[:2] + header + data[20:]).stripped == data


def test_a_clean_photograph_is_the_original_file() -> None:
    data = saved(photograph())
    made = render(data, size=0, quality=92)
    assert made.original
    assert made.jpeg is data


def test_a_photograph_no_larger_than_asked_keeps_its_pixels() -> None:
    assert not render(saved(photograph(64)), size=64, quality=92).encoded
    assert render(saved(photograph(64)), size=63, quality=92).encoded


def test_a_turned_photograph_comes_out_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    made = render(saved(photograph(), exif=exif), size=0, quality=92)
    assert (made.width, made.height) == (64, 80)
    assert Image.open(io.BytesIO(made.jpeg)).getexif().get(0x0112) is None


def test_the_colour_profile_stays() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(photograph(), icc_profile=profile)
    for size in (0, 32):
        assert Image.open(io.BytesIO(render(data, size=size, quality=92).jpeg)).info["icc_profile"] == profile


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK"])
def test_any_kind_of_image_becomes_a_colour_jpeg(mode: str) -> None:
    values = np.arange(100 * 120, dtype=np.uint16).reshape(100, 120)
    image = Image.fromarray(values) if mode == "I;16" else Image.fromarray((values % 256).astype(np.uint8)).convert(mode)
    made = render(saved(image, "JPEG" if mode == "CMYK" else "PNG"), size=50, quality=92)
    assert (made.width, made.height) == (60, 50)
    assert Image.open(io.BytesIO(made.jpeg)).mode == "RGB"


def test_resizing_is_cubic_with_antialiasing() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8))
    made = pixels(render(saved(noise, "PNG"), size=32, quality=100).jpeg).astype(float)
    # Noise averaged over 8 x 8 pixels keeps about an eighth of its spread; taken pixel by pixel it would keep all.
    assert made.std() < 0.3 * np.asarray(noise).std()
    smooth = noise.filter(ImageFilter.GaussianBlur(12))
    expected = np.asarray(smooth.resize((32, 32), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(pixels(render(saved(smooth, "PNG"), size=32, quality=100).jpeg) - expected).max() < 8


def test_a_broken_structure_that_still_decodes_is_encoded_anew() -> None:
    data = saved(photograph())
    made = render(data[:20] + b"\0\0" + data[20:], size=0, quality=92)  # two bytes too many between segments
    assert made.encoded
    assert np.abs(pixels(made.jpeg).astype(int) - pixels(data)).mean() < 3


@pytest.mark.parametrize(("name", "size"), [("0" * 24 + ".jpg", 54_321), ("a.json", 0), ("b" * 95 + ".json", 8**11 - 1)])
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    assert tar_header(name.encode(), size) == header.tobuf(tarfile.USTAR_FORMAT)
