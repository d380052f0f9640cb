"""DICOM pixel data as image files: JPEGs as they are, everything else as PNG without loss."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pydicom import Dataset

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's remarks about values that break the standard to itself: archives are full of them."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def extract_part(folder: str, items: list[tuple[str, int, str]], to: str) -> dict[str, Any]:
    """Write photographs.

    Args:
        folder: of the DICOM files.
        items: (file, relative to the folder; frame from 0; name to write), those of one file next to each other.
        to: folder to write into.

    Returns:
        ``images``: how many were written; ``faults``: for each other one, its file and why.
    """
    import pydicom

    faults: list[str] = []
    opened: tuple[str, Dataset | None] = ("", None)
    for file, frame, name in items:
        try:
            with quiet():
                if opened[0] != file:
                    opened = (file, pydicom.dcmread(os.path.join(folder, file)))
                data = photograph(opened[1], frame, as_jpeg=name.endswith(".jpg"))  # type: ignore[arg-type]
        except OSError as error:
            if error.errno is not None:  # the disk's fault, not the file's
                raise
            faults.append(f"{file} ({' '.join(str(error).split())})")
        except Exception as error:  # whatever damaged pixel data makes a decoder raise
            faults.append(f"{file} ({' '.join(str(error).split())[:200] or type(error).__name__})")
        else:
            # Two machines may write one photograph at once: whole either way.
            temporary = Path(to, f".{name}.{os.getpid()}.tmp")
            temporary.write_bytes(data)
            os.replace(temporary, Path(to, name))
    return {"images": len(items) - len(faults), "faults": faults}


def photograph(header: Dataset, frame: int, *, as_jpeg: bool) -> bytes:
    """Give one frame as the contents of an image file.

    Args:
        header: a data set with its pixel data.
        frame: which, from 0.
        as_jpeg: its JPEG bitstream byte for byte; otherwise a PNG:
            colours as 8 or 16 bits of RGB, grey values of 8 bits as they are stored, deeper ones through rescaling and the
            first window where the file has one (8 bits, what a viewer shows), otherwise shifted up to 16 bits, which
            loses nothing. MONOCHROME1 is inverted.

    Raises:
        ValueError, RuntimeError, NotImplementedError or what else a decoder raises: where it can't be had.
    """
    if as_jpeg:
        return _bitstream(header, frame)
    from pydicom.pixels import apply_color_lut, pixel_array

    colours, syntax = str(header.PhotometricInterpretation), header.file_meta.TransferSyntaxUID
    if syntax in _LOSSLESS_JPEG and header.BitsAllocated == 8 and colours in ("RGB", "MONOCHROME1", "MONOCHROME2"):
        with Image.open(io.BytesIO(_bitstream(header, frame))) as image:  # which pydicom leaves to packages of other licences
            values = np.asarray(image)
        return _png(values if values.ndim == 3 else _grey(values, header, inverted=colours == "MONOCHROME1"))
    if colours == "RGB" and syntax == JPEG_BASELINE and b"JFIF" in (data := _bitstream(header, frame))[:24]:
        with Image.open(io.BytesIO(data)) as image:  # JFIF holds YCbCr, whatever the header says of it
            return _png(np.asarray(image.convert("RGB")))
    values = pixel_array(header, index=frame)  # YBR comes as RGB
    if colours == "PALETTE COLOR":
        values = apply_color_lut(values, header)
        if values.dtype != np.uint8:
            values = (values >> 8).astype(np.uint8)
    elif values.ndim == 2:
        values = _grey(values, header, inverted=colours == "MONOCHROME1")
    return _png(values)


def _bitstream(header: Dataset, frame: int) -> bytes:
    from pydicom.encaps import get_frame

    count = int(header.get("NumberOfFrames") or 1)
    data = get_frame(header.PixelData, frame, number_of_frames=count)
    end = data.rfind(b"\xff\xd9")
    if data[:2] != b"\xff\xd8" or end < 0:
        raise ValueError("not a JPEG from its start to its end")
    return data[: end + 2]  # the standard pads to an even length


def _grey(values: np.ndarray, header: Dataset, *, inverted: bool) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi

    stored, signed = int(header.BitsStored), bool(header.get("PixelRepresentation", 0))
    if stored > 8 and "VOILUTSequence" in header:
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        looked_up = apply_voi(np.rint(apply_modality_lut(values, header)).astype(np.int32), header)
        grey = np.rint(looked_up / (2.0**bits - 1) * 255).astype(np.uint8)
    elif stored > 8 and "WindowCenter" in header and "WindowWidth" in header:
        grey = np.rint(_window(np.asarray(apply_modality_lut(values, header), dtype=np.float64), header) * 255).astype(np.uint8)
    else:
        depth = 8 if stored <= 8 else 16
        if stored > depth:
            raise ValueError(f"{stored} bits a pixel; 16 are the most that an image file holds")
        from_zero = values.astype(np.int64) + (1 << (stored - 1) if signed else 0)
        grey = (from_zero << (depth - stored)).astype(np.uint8 if depth == 8 else np.uint16)
    return np.iinfo(grey.dtype).max - grey if inverted else grey


def _window(values: np.ndarray, header: Dataset) -> np.ndarray:
    """Apply the first window (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3): black is 0, white is 1."""
    centre, width = (float(v[0]) if getattr(v, "__len__", None) else float(v) for v in (header.WindowCenter, header.WindowWidth))
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if width < (1 if function == "LINEAR" else 1e-12):
        raise ValueError(f"a window of width {width:g}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return np.where(values <= centre - width / 2, 0, np.clip((values - centre) / max(width, 1e-12) + 0.5, 0, 1))


def _png(values: np.ndarray) -> bytes:
    import cv2

    if values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels of type {values.dtype} have no place in an image file")
    if values.ndim == 3:
        values = np.ascontiguousarray(values[..., 2::-1])
    done, data = cv2.imencode(".png", values)
    if not done:
        raise ValueError("cannot be written as PNG")
    return data.tobytes()
