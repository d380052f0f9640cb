"""The photograph: light, pigment, vessels and lesions seen through an ageing lens by a camera.

The picture is a product: the light that arrives, times what the fundus returns, times what blood takes (an
exponential of its depth, strongest in green, as in a real fundus), plus what the disc and bright lesions return.
Everything smooth is computed on a small grid and enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from curate.phantom.anatomy import Anatomy
from curate.phantom.devices import Device
from curate.phantom.lesions import Lesions, lesion_maps
from curate.phantom.view import VesselMaps, View, field_of_view

COARSE = 64  # cells a side of what is smooth
# Light taken at full depth (absorbance, red, green, blue).
VEIN_TAKES = (0.40, 0.80, 0.70)
ARTERY_TAKES = (0.16, 0.60, 0.58)
BLOOD_TAKES = (0.58, 1.25, 0.95)
RIM_COLOUR = np.array([232, 158, 88], np.float32)
CUP_COLOUR = np.array([250, 222, 150], np.float32)
EXUDATE_COLOUR = np.array([246, 214, 120], np.float32)
WOOL_COLOUR = np.array([232, 212, 178], np.float32)
VEIL = (150.0, 112.0, 62.0)  # the light that a clouded lens scatters
# Cameras compress highlights instead of clipping them: the grey level for each brightness.
_BRIGHTNESS = np.arange(800.0)
SHOULDER = np.where(_BRIGHTNESS < 205, _BRIGHTNESS + 0.5, 205 + 50 * np.tanh((_BRIGHTNESS - 204.5) / 50)).astype(np.uint8)


@dataclass(frozen=True)
class Exposure:
    """What differs from photograph to photograph.

    Attributes:
        haze: how far an opaque lens veils the fundus, 0 to 1; grows with age.
        brightness: relative.
        warmth: shift of colour from blue to red, about 0.
        defocus: blur of a badly focused photograph, in thousandths of the image's width; 0 where it is sharp.
        light: where the light is brightest, (x, y), in radii of the field of view.
        unevenness: loss of light away from there, 0 to 1.
        glare: strength of the leak of light at the edge, relative.
    """

    haze: float
    brightness: float
    warmth: float
    defocus: float
    light: tuple[float, float]
    unevenness: float
    glare: float


def draw_exposure(age: float, rng: np.random.Generator) -> Exposure:
    """Draw the circumstances of one photograph.

    Args:
        age: years; lenses yellow and cloud from about 50 on.
        rng: the photograph's random numbers.
    """
    draws = rng.standard_normal(6)
    haze = 0.05 * np.exp(0.030 * (age - 50) + 0.45 * draws[0])
    return Exposure(
        haze=float(np.clip(haze, 0.0, 0.55)),
        brightness=float(np.exp(0.10 * draws[1]) * (0.62 if rng.random() < 0.03 else 1.0)),
        warmth=float(0.05 * draws[2]),
        defocus=float(rng.uniform(4, 11)) if rng.random() < 0.05 else 0.0,
        light=(float(0.22 * draws[3]), float(0.18 * draws[4])),
        unevenness=float(rng.uniform(0.10, 0.34)),
        glare=float(np.exp(0.4 * draws[5])),
    )


def photograph(
    anatomy: Anatomy, lesions: Lesions, maps: VesselMaps, device: Device, exposure: Exposure, view: View, rng: np.random.Generator
) -> np.ndarray:
    """Render one photograph.

    Args:
        anatomy: of the eye.
        lesions: of the eye.
        maps: its vessels, drawn in this view.
        device: the camera.
        exposure: the circumstances.
        view: the framing.
        rng: random numbers of texture and noise.

    Returns:
        (size, size, 3) uint8, channels in OpenCV's order blue, green, red.
    """
    size = view.size
    coarse = _smooth(anatomy, device, exposure, view, rng)
    image = np.empty((3, size, size), np.float32)
    for channel in range(3):
        cv2.resize(coarse[channel], (size, size), dst=image[channel], interpolation=cv2.INTER_CUBIC)
    image *= _texture(anatomy, view, rng)
    _add_disc(image, anatomy, device, view, rng)
    artery, vein = _soften_vessels(maps, max(0.3, device.blur * 1e-3 * size))
    blood = None
    if any(lesions.counts().values()):
        blood, exudate, wool = lesion_maps(lesions, view, rng)
        _blend(image, 0.85 * exudate, EXUDATE_COLOUR)
    for channel in range(3):
        depth = ARTERY_TAKES[channel] * artery
        depth += VEIN_TAKES[channel] * vein
        if blood is not None:
            depth += BLOOD_TAKES[channel] * blood
        image[channel] *= cv2.exp(-depth)
    if blood is not None:  # cotton-wool spots swell in the layer of the vessels and hide them
        _blend(image, 0.72 * wool, WOOL_COLOUR)
    return _expose(image, device, exposure, view, rng)


def _noise(cells: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Give smooth noise of unit variance at its cells, enlarged to (size, size) float32."""
    return cv2.resize(rng.standard_normal((cells, cells), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)


def _smooth(anatomy: Anatomy, device: Device, exposure: Exposure, view: View, rng: np.random.Generator) -> np.ndarray:
    """Give the fundus without detail, (3, COARSE, COARSE) float32, red, green, blue: pigment, macula and light."""
    axis = (np.arange(COARSE, dtype=np.float32) + 0.5) * (view.size / COARSE) - 0.5
    px, py = np.meshgrid(axis, axis)
    x, y = view.place(px, py)
    u, v = (px - view.size / 2) / (view.size / 2), (py - view.size / 2) / (view.size / 2)
    colour = np.array(device.fundus, np.float32) * np.array([1 + exposure.warmth, 1.0, 1 - 1.5 * exposure.warmth], np.float32)
    # A darker fundus loses most in green and blue.
    colour *= np.exp(np.array([-0.05, -0.10, -0.12], np.float32) * np.float32(anatomy.pigment))
    light = 1 - exposure.unevenness * np.clip((u - exposure.light[0]) ** 2 + (v - exposure.light[1]) ** 2, 0, 1.6)
    rim = np.sqrt(u * u + v * v)
    light *= 1 - device.vignette * np.clip((rim - 0.45) / 0.55, 0, 1.1) ** 2
    mottled = 0.055 * _noise(5, COARSE, rng) + 0.035 * _noise(11, COARSE, rng)
    image = (light * (1 + mottled))[..., None] * colour
    red_shift = 0.035 * _noise(6, COARSE, rng)
    image[..., 1] *= 1 - red_shift
    image[..., 2] *= 1 - red_shift + 0.03 * _noise(4, COARSE, rng)
    near = (x - anatomy.fovea[0]) ** 2 + (y - anatomy.fovea[1]) ** 2
    macula = 0.20 * np.exp(-near / (2 * 0.19**2)) + 0.26 * np.exp(-near / (2 * 0.062**2))
    image *= 1 - macula[..., None] * np.array([0.70, 1.0, 1.05], np.float32)
    # Nerve fibres make the retina around the disc paler, most above and below.
    dx, dy = x - anatomy.disc[0], y - anatomy.disc[1]
    beside = np.exp(-np.sqrt((dx / 1.1) ** 2 + dy**2) / 0.24)
    image += beside[..., None] * light[..., None] * np.array([30, 34, 22], np.float32)
    if anatomy.sheen > 0.02:
        ring = np.exp(-((np.sqrt(near) - 0.34) ** 2) / (2 * 0.10**2)) * np.clip(0.5 + 0.6 * _noise(9, COARSE, rng), 0, 2)
        image += (anatomy.sheen * ring)[..., None] * np.array([13, 16, 14], np.float32)
    leak = np.clip(device.rim[3] * exposure.glare * np.clip((rim - 0.62) / 0.38, 0, 1.1) ** 2, 0, 0.75)
    leak = leak * np.clip(0.75 + 0.4 * _noise(3, COARSE, rng), 0.1, 1.3)
    image += leak[..., None] * (np.array(device.rim[:3], np.float32) - image * 0.8)
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)


@cache
def _grain(size: int) -> np.ndarray:
    """Give the grain of pigment from which photographs of a size take a cut, (3/2 size, 3/2 size) float32."""
    rng = np.random.Generator(np.random.Philox(size))
    side = size * 3 // 2
    grain = 0.022 * _noise(72, side, rng) + 0.018 * _noise(144, side, rng)
    finest = min(side, 600)
    return grain + 0.018 * cv2.resize(rng.standard_normal((finest, finest), np.float32), (side, side), interpolation=cv2.INTER_LINEAR)


@cache
def _sensor_noise(size: int) -> np.ndarray:
    """Give the noise of unit variance from which photographs of a size take a cut, (3/2 size, 3/2 size) float32."""
    side = size * 3 // 2
    return np.random.Generator(np.random.Philox(size + 1)).standard_normal((side, side), np.float32)


def _cut_from(bank: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    top, left = rng.integers(0, len(bank) - size + 1, 2)
    cut = bank[top : top + size, left : left + size]
    return cut[::-1] if rng.random() < 0.5 else cut


def _texture(anatomy: Anatomy, view: View, rng: np.random.Generator) -> np.ndarray:
    """Give the fine structure of the fundus as a factor, (size, size) float32: choroid and grain."""
    size = view.size
    # Choroidal vessels: the crests of a smooth noise, broad, pale streaks between darker pigment.
    half = size // 2
    crest = np.abs(cv2.resize(rng.standard_normal((20, 30), np.float32), (half, half), interpolation=cv2.INTER_CUBIC))
    np.minimum(crest, 1.3, out=crest)
    crest *= np.clip(0.6 + 0.5 * _noise(6, half, rng), 0, 1.5)
    crest *= np.float32(-0.09 * anatomy.choroid)
    crest += np.float32(1 + 0.05 * anatomy.choroid)
    return cv2.resize(crest, (size, size), interpolation=cv2.INTER_LINEAR) + _cut_from(_grain(size), size, rng)


def _soften_vessels(maps: VesselMaps, blur: float) -> tuple[np.ndarray, np.ndarray]:
    artery = cv2.GaussianBlur(maps.artery_depth, (0, 0), blur)
    vein = cv2.GaussianBlur(maps.vein_depth, (0, 0), blur)
    # Where they cross, light passes both, but blood saturates.
    return np.asarray(artery * (1 - 0.6 * vein), np.float32), vein


def _blend(image: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    """Lay a colour, (3,) or (3, h, w), over the image, (3, h, w), in place, with (h, w) float32 weights."""
    for channel in range(3):
        image[channel] += alpha * (colour[channel] - image[channel])


def _add_disc(image: np.ndarray, anatomy: Anatomy, device: Device, view: View, rng: np.random.Generator) -> None:
    """Lay the optic disc, its cup and the crescent beside it over the fundus, in place."""
    reach = 1.7 * max(anatomy.disc_axes)
    x0, y0 = view.pixels(np.array(anatomy.disc)) - reach * view.scale
    left, top = max(int(x0), 0), max(int(y0), 0)
    right, bottom = min(int(x0 + 2 * reach * view.scale) + 2, view.size), min(int(y0 + 2 * reach * view.scale) + 2, view.size)
    if right - left < 2 or bottom - top < 2:
        return
    px, py = np.meshgrid(np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32))
    x, y = (v.astype(np.float32) for v in view.place(px, py))
    dx, dy = (
        (x - np.float32(anatomy.disc[0])) / np.float32(anatomy.disc_axes[0]),
        (y - np.float32(anatomy.disc[1])) / np.float32(anatomy.disc_axes[1]),
    )
    patch = image[:, top:bottom, left:right]
    # The camera's rendering of colour holds for the disc too.
    tone = np.array(device.fundus, np.float32) / np.array([178, 98, 52], np.float32)
    level = np.float32(np.clip(patch[0].mean() / (170.0 * tone[0]), 0.80, 1.15)) * tone ** np.array([0.8, 0.6, 0.6], np.float32)
    phase = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    turn = np.arctan2(dy, dx)
    wobble = np.float32(0.025) * np.sin(2 * turn + phase[0]) + np.float32(0.02) * np.sin(3 * turn + phase[1])
    distance = np.sqrt(dx * dx + dy * dy) + wobble
    # The crescent lies temporally, where the pigment layer ends before the disc begins.
    beside = np.sqrt((dx + np.float32(0.16)) ** 2 + dy * dy) + wobble
    _blend(patch, np.float32(0.40 * anatomy.atrophy) * _sigmoid((1.12 - beside) / 0.08), level * np.array([222, 170, 112], np.float32))
    _blend(patch, np.float32(0.22) * np.exp(-(((distance - 1.12) / 0.09) ** 2)), patch * np.float32(0.78))
    # The temporal rim is paler than the nasal one, and both darken outwards.
    rim = (level * RIM_COLOUR)[:, None, None] * (1 - np.array([0.03, 0.09, 0.10], np.float32)[:, None, None] * (dx + distance))
    _blend(patch, np.float32(0.88) * _sigmoid((1 - distance) / 0.11), rim)
    hollow = np.sqrt((dx + np.float32(0.12)) ** 2 + dy * dy) + 2 * wobble
    _blend(patch, np.float32(0.90) * _sigmoid((anatomy.cup_ratio - hollow) / 0.20), level * CUP_COLOUR)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(-3.0 * value, -30, 30, dtype=np.float32)))


def _expose(image: np.ndarray, device: Device, exposure: Exposure, view: View, rng: np.random.Generator) -> np.ndarray:
    """Veil, blur, add noise, cut to the field of view.

    Planes red, green, blue float32 in, (size, size, 3) blue, green, red uint8 out.
    """
    size = view.size
    blur = float(np.hypot(np.hypot(0.45 * device.blur, 7.0 * exposure.haze), exposure.defocus)) * 1e-3 * size
    noise = _cut_from(_sensor_noise(size), size, rng) * np.float32(device.noise)
    field = field_of_view(size, view.flat)
    picture = np.empty((size, size, 3), np.uint8)
    for channel, veil in enumerate(VEIL):
        plane = cv2.GaussianBlur(image[channel], (0, 0), blur) if blur > 0.35 else image[channel]
        plane *= np.float32((1 - exposure.haze) * exposure.brightness)
        plane += noise
        plane += np.float32(exposure.haze * veil * exposure.brightness)
        plane *= field
        np.clip(plane, 0, len(SHOULDER) - 1, out=plane)
        picture[..., 2 - channel] = SHOULDER[plane.astype(np.uint16)]
    return picture
