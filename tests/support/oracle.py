"""A literal, slow reading of the paper, that shares no code with the fast path.

"The CC and MLO images are concatenated ... normalized to a pixel intensity range of [0, 1] using min-max normalization
and resized to 256 x 256 pixels using bilinear interpolation." Pixels come from pydicom with decoders of other libraries,
everything is a full-size float64 array, and the resize is torch's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1, RLELossless

from fvpipe.dicom.elements import silenced

Plane = NDArray[np.float64]
PLUGINS = {RLELossless: "pydicom", JPEG2000Lossless: "pylibjpeg", JPEG2000: "pylibjpeg"}


def stored(path: Path) -> tuple[NDArray[Any], pydicom.Dataset]:
    """Stored values by a decoder that fvpipe does not use."""
    with silenced():
        ds = pydicom.dcmread(path)
        syntax = ds.file_meta.TransferSyntaxUID
        if syntax in (JPEGLossless, JPEGLosslessSV1):
            import imagecodecs  # another decoder than the one that fvpipe uses: jpegsof3, not libjpeg-turbo

            return np.asarray(imagecodecs.jpegsof3_decode(get_frame(ds.PixelData, 0, number_of_frames=1))), ds
        return pixel_array(ds, raw=True, decoding_plugin=PLUGINS.get(syntax, "")), ds


def view(path: Path, voi: bool = False) -> tuple[Plane, NDArray[np.bool_]]:
    """Values larger for brighter tissue, and which pixels are padding."""
    raw, ds = stored(path)
    values = np.asarray(apply_modality_lut(raw, ds), np.float64)
    low, high = _declared_range(ds)
    if voi:
        values = np.asarray(apply_voi_lut(values, ds, prefer_lut=False), np.float64)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        values = high + low - values
    padding = raw == ds.PixelPaddingValue if "PixelPaddingValue" in ds else np.zeros(raw.shape, bool)
    return values, padding


def _declared_range(ds: pydicom.Dataset) -> tuple[float, float]:
    signed = ds.PixelRepresentation == 1
    low, high = (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1) if signed else (0, 2**ds.BitsStored - 1)
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def crop(values: tuple[Plane, NDArray[np.bool_]], box: Any) -> tuple[Plane, NDArray[np.bool_]]:
    """Cut both arrays."""
    top, bottom, left, right = (int(n) for n in box)
    return values[0][top:bottom, left:right], values[1][top:bottom, left:right]


def fused(
    cc: tuple[Plane, NDArray[np.bool_]], mlo: tuple[Plane, NDArray[np.bool_]], size: tuple[int, int] = (256, 256)
) -> Plane:
    """Concatenate side by side, normalise, resize."""
    fill = min(values[~padding].min() for values, padding in (cc, mlo))
    views = [np.where(padding, fill, values) for values, padding in (cc, mlo)]
    height = max(v.shape[0] for v in views)
    padded = [np.pad(v, ((0, height - v.shape[0]), (0, 0)), constant_values=fill) for v in views]
    image = np.concatenate(padded, axis=1)
    return resized((image - image.min()) / (image.max() - image.min()), size)


def resized(image: Plane, size: tuple[int, int]) -> Plane:
    """Bilinear without antialiasing: torch's default."""
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=False)[0, 0].numpy()


def area(image: Plane, size: tuple[int, int]) -> Plane:
    """Each output pixel the mean over what it covers, pixel by pixel and part by part; bilinear where that is less than one."""
    tall = np.stack([(image[first : first + len(w)] * w[:, None]).sum(axis=0) for first, w in _shares(image.shape[0], size[0])])
    across = _shares(image.shape[1], size[1])
    return np.stack([(tall[:, first : first + len(w)] * w).sum(axis=1) for first, w in across], axis=1)


def _shares(source: int, target: int) -> list[tuple[int, Plane]]:
    """For each output pixel, the first source pixel that it covers and the share of each."""
    step = source / target
    shares = []
    for i in range(target):
        if step < 1:
            centre = min(max((i + 0.5) * step - 0.5, 0), source - 1)
            first = int(centre)
            towards = centre - first
            shares.append((first, np.array([1 - towards, towards] if first + 1 < source else [1.0])))
            continue
        start, stop = i * step, min((i + 1) * step, source)
        first, last = int(start), min(int(np.ceil(stop)), source)
        edges = np.arange(first, last + 1, dtype=np.float64)
        covered = np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, None)
        shares.append((first, covered / covered.sum()))
    return shares


def spread_out(stored: NDArray[Any], scale: int, shape: tuple[int, int]) -> NDArray[Any]:
    """An image of reduced resolution on a lattice of half source pixels: pixel i covers `scale` of them around i * scale."""
    rows, columns = (
        np.minimum((np.arange(2 * source) + scale - 1) // (2 * scale), n - 1)
        for source, n in zip(shape, stored.shape, strict=True)
    )
    return stored[rows[:, None], columns[None, :]]


def equal_area(image: Plane, rows: Plane, columns: Plane, widths: Plane) -> Plane:
    """Each output pixel the mean over its cell, pixel by pixel and part by part; the chest wall on the left.

    `rows` are edges in rows of the image, `columns` shares of the width, `widths` that of each row of the image. A cell smaller
    than a pixel is as large as one, in the same place but for the edges of the breast.
    """
    out = np.zeros((len(rows) - 1, len(columns) - 1))
    for i in range(len(rows) - 1):
        top, bottom = _at_least_one(rows[i], rows[i + 1], image.shape[0])
        for j in range(len(columns) - 1):
            total = area = 0.0
            for r in range(int(top), min(int(np.ceil(bottom)), image.shape[0])):
                high = min(bottom, r + 1) - max(top, r)
                left, right = _at_least_one(columns[j] * widths[r], columns[j + 1] * widths[r], widths[r])
                for c in range(int(left), min(int(np.ceil(right)), image.shape[1])):
                    part = high * (min(right, c + 1) - max(left, c))
                    total, area = total + part * image[r, c], area + part
            out[i, j] = total / area
    return out


def _at_least_one(start: float, stop: float, length: float) -> tuple[float, float]:
    if stop - start >= 1:
        return start, stop
    first = min(max((start + stop) / 2 - 0.5, 0), length - 1)
    return first, first + 1
