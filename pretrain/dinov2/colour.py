"""Changes of colour for whole batches of crops, on a CPU or a GPU: what torchvision does to one picture at a time.

What is to be done is drawn with the crop, from the sample's own random numbers, and travels with it as a row of numbers;
doing it needs no chance and no loop over pictures. The values stay float32 from the first change to the last, where
torchvision rounds a uint8 picture after each.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.recipe import Colour

# A crop's row. Factors of brightness, contrast and saturation (1: as it is); shift of the hue in turns (0: as it is); the
# place of the jitter's order in ORDERS; whether it becomes grey (1) or not (0); standard deviation of the blur in pixels
# (0: none); the value from which it is inverted (256: never).
COLUMNS = ("brightness", "contrast", "saturation", "hue", "order", "grey", "sigma", "threshold")
UNCHANGED = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 256.0)

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
ORDERS = tuple(itertools.permutations(range(4)))
_SIGMA = (0.1, 2.0)  # pixels
_RADIUS = 4  # the official recipe's kernel of 9 pixels, on global and local crops alike
_GREY = (0.2989, 0.587, 0.114)  # torchvision's, of ITU-R BT.601
_AT_ONCE = 500_000  # numbers of a part on a CPU, so that it stays in the cache
_AT_ONCE_ON_GPU = 50_000_000  # likewise, so that what is held between the changes is about a gigabyte


@lru_cache
def _before_and_after(device: torch.device) -> tuple[Tensor, Tensor]:
    """Give for each order the changes before and after the hue's, filled up to three with -1: int64 [24, 3] each.

    Kept for each device: to copy them there every time would make the GPU finish all it has begun.
    """
    sides = [(order[: order.index(_HUE)], order[order.index(_HUE) + 1 :]) for order in ORDERS]
    before, after = ([[*side, -1, -1, -1][:3] for side in half] for half in zip(*sides, strict=True))
    return torch.tensor(before, device=device), torch.tensor(after, device=device)


def draw_colour(colour: Colour, kinds: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw what is done to the crops of one photograph, as torchvision's ColorJitter, RandomGrayscale, GaussianBlur and
    RandomSolarize draw it.

    Args:
        colour: the recipe's section.
        kinds: int64 [C], of each crop: 0 first global, 1 second global, 2 local.
        rng: source of the draws; the same count of numbers is taken whatever happens.

    Returns:
        float32 [C, 8], columns as in `COLUMNS`.
    """
    crops = len(kinds)
    draws = rng.random((crops, 10))
    strength = np.array(colour.jitter)
    middle = np.array([1.0, 1.0, 1.0, 0.0])
    low, high = middle - strength, middle + strength
    rows = np.tile(np.array(UNCHANGED, dtype=np.float32), (crops, 1))
    jittered = draws[:, 0] < colour.jitter_probability
    rows[jittered, :4] = (low + draws[:, 1:5] * (high - low))[jittered]
    rows[jittered, 4] = (draws[:, 5] * len(ORDERS)).astype(np.int64)[jittered]
    rows[:, 5] = draws[:, 6] < colour.grey
    blurred = draws[:, 7] < np.array(colour.blur)[kinds]
    rows[blurred, 6] = (_SIGMA[0] + draws[:, 8] * (_SIGMA[1] - _SIGMA[0]))[blurred]
    rows[draws[:, 9] < np.array(colour.solarise)[kinds], 7] = colour.solarise_threshold
    return rows


@torch.no_grad()
def normalised(crops: Tensor, parameters: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Change the colours of crops and normalise them: jitter, grey, blur, solarise, then channel statistics.

    The same as torchvision's operations one after another on float pictures, to a hundredth of a grey level. On uint8
    pictures torchvision cuts off the fraction after each operation: one operation differs by less than two grey levels,
    all of them together by one on average and by up to six.

    Args:
        crops: uint8 [M, 3, h, w], RGB; sides of at least 5 pixels.
        parameters: float32 [M, 8], from `draw_colour`, on the same device.
        mean: float32 [3], of the channels, of values from 0 to 1, on the same device.
        std: likewise, the standard deviations.

    Returns:
        float32 [M, 3, h, w].
    """
    result = torch.empty(crops.shape, dtype=torch.float32, device=crops.device)
    numbers = _AT_ONCE if crops.device.type == "cpu" else _AT_ONCE_ON_GPU
    at_once = max(1, numbers // max(1, crops.shape[1:].numel()))
    scale, shift = 1 / (255 * std), -mean / std
    for start in range(0, len(crops), at_once):
        part = slice(start, start + at_once)
        changed = _change(crops[part].float(), parameters[part])
        torch.addcmul(shift.view(1, 3, 1, 1), changed, scale.view(1, 3, 1, 1), out=result[part])
    return result


def _change(images: Tensor, parameters: Tensor) -> Tensor:
    """Change float32 [M, 3, h, w] with values from 0 to 255, in place where that can be."""
    order = parameters[:, 4].long()
    before, after = (changes[order] for changes in _before_and_after(images.device))
    for changes in before.unbind(1):
        _blend(images, *_blends(changes, parameters))
    _shift_hue(images, parameters[:, _HUE])
    for changes in after.unbind(1):
        _blend(images, *_blends(changes, parameters))
    grey = parameters[:, 5]
    _blend(images, 1 - grey, grey, torch.zeros_like(grey))
    images = _blur(images, parameters[:, 6])
    threshold = parameters[:, 7].view(-1, 1, 1, 1) - 0.001  # what rounding errors took from a whole number
    return torch.where(images >= threshold, 255 - images, images)


def _blends(changes: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give the shares of the picture, of its grey version and of that one's mean that a change mixes; -1 changes nothing.

    Brightness mixes a picture with black, contrast with the mean of its grey version, saturation with its grey version.
    """
    factor = torch.where(changes >= 0, parameters.gather(1, changes.clamp(min=0).unsqueeze(1))[:, 0], 1.0)
    rest = 1 - factor
    return factor, rest * (changes == _SATURATION), rest * (changes == _CONTRAST)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2])


def _blend(images: Tensor, picture: Tensor, grey: Tensor, mean: Tensor) -> None:
    other = _grey(images)
    mixed = other * grey.view(-1, 1, 1) + (other.mean((1, 2)) * mean).view(-1, 1, 1)
    images.mul_(picture.view(-1, 1, 1, 1)).add_(mixed.unsqueeze(1)).clamp_(0, 255)


def _shift_hue(images: Tensor, turns: Tensor) -> None:
    """Turn the hue and keep saturation and value (HSV).

    The largest and the smallest of the three channels stay what they are; each channel lies between them by how
    far the hue is from its colour, in sixths of a turn.
    """
    red, green, blue = images.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    spread = high - torch.minimum(torch.minimum(red, green), blue)
    divisor = spread.clamp(min=1e-6)
    is_red, is_green = high == red, high == green
    sixths = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green)).div_(divisor)
    sixths += torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0))
    sixths += 6 * turns.view(-1, 1, 1)
    for channel, turn in ((red, 5.0), (green, 3.0), (blue, 1.0)):
        place = sixths + turn
        place.sub_(torch.floor(place / 6), alpha=6)  # the remainder, faster than by its name
        channel.copy_(place.sub_(2).abs_().neg_().add_(2).clamp_(0, 1).mul_(spread).neg_().add_(high))


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur with a Gaussian of 9 x 9 pixels, the edges mirrored; sigma 0 leaves a picture as it is."""
    if images.device.type == "cpu":  # on a GPU, asking which are to be blurred would cost more than blurring all
        chosen = sigma.nonzero()[:, 0]
        if len(chosen):
            images[chosen] = _convolve(images[chosen], sigma[chosen])
        return images
    return _convolve(images, sigma)


def _convolve(images: Tensor, sigma: Tensor) -> Tensor:
    distance = torch.arange(_RADIUS + 1, device=images.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3).unsqueeze(1)) ** 2)
    weights /= weights.sum(1, keepdim=True) * 2 - weights[:, :1]
    for dim in (3, 2):  # rows, then columns: the Gaussian is a product of the two
        size = images.shape[dim]
        padded = torch.nn.functional.pad(images, (_RADIUS, _RADIUS, 0, 0) if dim == 3 else (0, 0, _RADIUS, _RADIUS), mode="reflect")
        images = images * weights[:, 0].view(-1, 1, 1, 1)
        for step in range(1, _RADIUS + 1):
            both = padded.narrow(dim, _RADIUS - step, size) + padded.narrow(dim, _RADIUS + step, size)
            images.addcmul_(both, weights[:, step].view(-1, 1, 1, 1))
    return images
