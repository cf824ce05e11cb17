"""Connected components, opening and closing of masks, by OpenCV and by SimpleITK."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.histogram import histogram
from fvpipe.imaging.threshold import BINS
from fvpipe.imaging.thumbnail import Mask
from fvpipe.types import Edge

OPENING = 1 / 160  # radius as a share of the longer side


def components(binary: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels of what hangs together by its sides, and the pixels of each; 0 is the background."""
    count, found = cv2.connectedComponents(binary, connectivity=4)
    labels = np.asarray(found, np.int32)
    if count == 2:
        area = cv2.countNonZero(binary)
        return labels, np.array([labels.size - area, area])
    return labels, histogram(labels.astype(np.uint16), count) if count <= 1 << 16 else np.bincount(labels.ravel())


def clean_opencv(binary: Mask, radius: int, border: int, chest_wall: Edge) -> Mask:
    """Open, take the component on the chest wall, give it back what opening rounded off, fill its holes."""
    left, top, width, height = cv2.boundingRect(binary)
    mask = np.zeros_like(binary)
    # Nothing comes of the empty frame around; a margin of the radius keeps the edges as they would be.
    around = tuple(slice(max(at - radius, 0), at + size + radius) for at, size in ((top, height), (left, width)))
    part = np.ascontiguousarray(binary[around])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    opened = cv2.morphologyEx(part, cv2.MORPH_OPEN, kernel)
    labels, areas = components(np.asarray(opened, np.uint8))
    if len(areas) < 2:
        return mask
    column = (border if chest_wall is Edge.LEFT else binary.shape[1] - 1 - border) - around[1].start
    chosen = _choose(labels, areas, column)
    component = cv2.inRange(labels, chosen, chosen)
    component = np.minimum(cv2.dilate(component, kernel), part)  # the nipple is thinner than the opening
    contours, _ = cv2.findContours(component, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    offset = (around[1].start, around[0].start)
    cv2.drawContours(mask, [max(contours, key=cv2.contourArea)], -1, 255, cv2.FILLED, offset=offset)
    return mask


def clean_simpleitk(binary: Mask, radius: int, border: int, chest_wall: Edge) -> Mask:
    """The same chain by SimpleITK's filters: the reference that the fast engine is checked against."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.GetImageFromArray(binary)
    kernel = (sitk.sitkBall, [radius, radius])
    opened = sitk.BinaryMorphologicalOpening(image, kernel[1], kernel[0], 0, 255)
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(opened == 255)).astype(np.int64)
    areas = np.bincount(labels.ravel())
    if len(areas) < 2:
        return np.zeros_like(binary)
    column = border if chest_wall is Edge.LEFT else binary.shape[1] - 1 - border
    component = np.where(labels == _choose(labels, areas, column), 255, 0).astype(np.uint8)
    grown = sitk.BinaryDilate(sitk.GetImageFromArray(component), kernel[1], kernel[0], 0, 255)
    grown = sitk.And(grown, image)
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(grown == 255, True)) == 1
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(largest)).astype(np.uint8) * np.uint8(255)


def otsu_simpleitk(interior: NDArray[np.uint8]) -> int:
    """Otsu's threshold of a uint8 thumbnail by SimpleITK's filter."""
    import SimpleITK as sitk

    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(BINS)
    otsu.SetNumberOfThreads(1)
    otsu.Execute(sitk.GetImageFromArray(interior))
    return int(otsu.GetThreshold())


def _choose(labels: NDArray[Any], areas: NDArray[np.int64], column: int) -> int:
    """The largest component on the chest wall's `column`; one anywhere else only if it dwarfs all of those."""
    areas = areas.copy()
    areas[0] = 0
    largest = int(np.argmax(areas))
    touching = np.zeros(len(areas), bool)
    if 0 <= column < labels.shape[1]:
        touching[labels[:, column]] = True
    touching[0] = False
    on_wall = int(np.argmax(np.where(touching, areas, 0)))
    return on_wall if touching[on_wall] and areas[on_wall] * 4 >= areas[largest] else largest
