"""Cameras: what a device does to the colour, the light and the outline of a photograph. The names are invented."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A fundus camera.

    Attributes:
        name: as in the manifest.
        variants: other spellings of it that operators use.
        fundus: colour of an average fundus as the camera shows it, red, green, blue, 0 to 255.
        rim: colour that leaks in at the edge of the field, and how strongly (0 to 1).
        vignette: loss of light at the edge, 0 to 1.
        flat: half height of the field where it is cut above and below, in radii; 1 where it is round.
        magnification: against a 45 degree field.
        blur: optical blur, in thousandths of the image's width.
        noise: standard deviation of the sensor's noise, in grey levels.
    """

    name: str
    variants: tuple[str, ...]
    fundus: tuple[float, float, float]
    rim: tuple[float, float, float, float]
    vignette: float
    flat: float
    magnification: float
    blur: float
    noise: float


DEVICES = {
    device.name: device
    for device in (
        Device(
            "Aurion NM-45", ("AURION NM-45", "Aurion NM45", "aurion nm-45 "),
            (196, 96, 46), (150, 120, 60, 0.10), 0.38, 1.0, 1.0, 1.4, 1.2,
        ),
        Device(
            "Kestrel RX-2", ("Kestrel RX2", "KESTREL RX-2", "Kestrel  RX 2"),
            (178, 106, 62), (140, 158, 108, 0.36), 0.24, 1.0, 1.02, 1.8, 1.5,
        ),
        Device(
            "Lumora 3D-1", ("Lumora 3D1", "LUMORA 3D-1", "Lumora-3D-1"),
            (160, 84, 34), (95, 50, 10, 0.30), 0.40, 0.90, 1.04, 2.0, 1.8,
        ),
        Device(
            "Optavue F200", ("OptaVue F200", "Optavue F-200", "optavue f200"),
            (206, 142, 108), (190, 150, 130, 0.22), 0.20, 1.0, 0.98, 1.6, 1.2,
        ),
        Device(
            "Visiona C8", ("VISIONA C8", "Visiona C-8", "visiona  c8"),
            (148, 76, 40), (110, 120, 90, 0.25), 0.45, 1.0, 1.0, 1.7, 2.0,
        ),
    )
}  # fmt: skip
