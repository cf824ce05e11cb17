"""Connected components and morphological cleaning of masks, by OpenCV and by SimpleITK."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.segmentation.threshold import BINS
from fvpipe.imaging.segmentation.thumbnail import MAX_MARGIN, Mask

OPENING_RADIUS = 1 / 160  # of the longer side
MIN_BESIDE = 0.25  # of the mask: smaller areas beside it are labels, plates and borders
MIN_CUT_OFF = 0.02  # of the mask, in a part that a band cuts off
BAND = 0.04  # of the longer side, the thickest such band
ALONG_BAND = (0.8, 0.2)  # of the lines of the part, and of those of the mask, across which both lie


def label_components(binary: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Label 4-connected components.

    Parameters
    ----------
    binary : uint8 array, shape (rows, columns)
        Nonzero inside.

    Returns
    -------
    labels : int32 array, shape (rows, columns)
        0 outside, 1..n inside.
    areas : int64 array, shape (n + 1,)
        Pixels of each label.
    """
    _, found = cv2.connectedComponents(binary, connectivity=4)
    labels = np.asarray(found, np.int32)
    return labels, np.bincount(labels.ravel())


def clean_opencv(binary: Mask, radius: int, border: int) -> Mask:
    """Clean a thresholded image: open, keep one component, restore what opening removed from it, fill its holes.

    Parameters
    ----------
    binary : uint8 array, shape (rows, columns)
        255 above the threshold, 0 elsewhere.
    radius : int
        Radius of the opening in pixels.
    border : int
        Width in pixels of the empty border of `binary`, whose left edge is that of the chest wall.

    Returns
    -------
    mask : uint8 array, shape (rows, columns)
        255 on the breast; all 0 if nothing is left after opening.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    opened = cv2.morphologyEx(binary, cv2.MORPH_OPEN, kernel)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)  # a tenth of the time of labels
    if not contours:
        return np.zeros_like(binary)
    areas, starts = (np.array([of(contour) for contour in contours]) for of in (cv2.contourArea, _start))
    chosen = _select_component(areas, starts <= border + round(MAX_MARGIN * binary.shape[1]))
    component = cv2.drawContours(np.zeros_like(binary), contours, chosen, 255, cv2.FILLED)
    # Restores the nipple, which is thinner than the opening.
    return fill_largest(np.minimum(np.asarray(cv2.dilate(component, kernel), np.uint8), binary))


def fill_largest(binary: Mask) -> Mask:
    """Largest component of a mask, without its holes; all 0 if there is none."""
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(binary)
    if contours:
        cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 255, cv2.FILLED)
    return filled


def area_beside(binary: Mask, mask: Mask, radius: int) -> float:
    """Area of the largest part of a thresholded image beyond a mask, in areas of the mask; 0 where all of them are small.

    The parts are opened, with `radius` in pixels: noise is none.
    """
    area = cv2.countNonZero(mask)
    rest = cv2.subtract(binary, mask)
    if not area or cv2.countNonZero(rest) < MIN_BESIDE * area:  # nearly always: parts need not be told apart
        return 0.0
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    areas = label_components(np.asarray(cv2.morphologyEx(rest, cv2.MORPH_OPEN, kernel), np.uint8))[1][1:]
    return int(areas.max(initial=0)) / area


def area_cut_off(binary: Mask, mask: Mask, radius: int, border: int) -> float:
    """Area of the largest part that a dark band cuts off a mask, in areas of the mask; 0 where there is none.

    Such a band is of dead rows or columns, or a line across a film. The part lies along the band, of which it has a fair
    length, nearly all of it across from the mask: a fold of skin recedes from it, and a label is short. Above and below, it
    begins at the chest wall. `radius` and `border` are those of :func:`clean_opencv`.
    """
    area, rest = cv2.countNonZero(mask), cv2.subtract(binary, mask)
    if not area or cv2.countNonZero(rest) < MIN_CUT_OFF * area:  # mostly
        return 0.0
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    labels, areas = label_components(np.asarray(cv2.morphologyEx(rest, cv2.MORPH_OPEN, kernel), np.uint8))
    reach = 2 * (round(BAND * max(mask.shape)) + radius) + 1
    found = 0
    for label in (np.flatnonzero(areas[1:] >= MIN_CUT_OFF * area) + 1).tolist():
        part = labels == label
        for axis, size in enumerate([(reach, 1), (1, reach)]):
            across = np.count_nonzero((part & (cv2.dilate(mask, np.ones(size, np.uint8)) > 0)).any(axis=axis))
            lines, whole = (np.count_nonzero(plane.any(axis=axis)) for plane in (part, mask))
            begins = axis == 1 or part[:, : border + 2 * radius].any()
            if begins and across >= max(ALONG_BAND[0] * lines, ALONG_BAND[1] * whole):
                found = max(found, int(areas[label]))
    return found / area


def clean_simpleitk(binary: Mask, radius: int, border: int) -> Mask:
    """Do the same as :func:`clean_opencv` with SimpleITK filters, as a reference to test against."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.GetImageFromArray(binary)
    kernel = (sitk.sitkBall, [radius, radius])
    opened = sitk.BinaryMorphologicalOpening(image, kernel[1], kernel[0], 0, 255)
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(opened == 255)).astype(np.int64)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    if len(areas) < 2:
        return np.zeros_like(binary)
    near = np.zeros(len(areas), bool)
    near[labels[:, : border + round(MAX_MARGIN * binary.shape[1]) + 1]] = True
    label = _select_component(areas, near)
    component = np.where(labels == label, 255, 0).astype(np.uint8)
    grown = sitk.BinaryDilate(sitk.GetImageFromArray(component), kernel[1], kernel[0], 0, 255)
    grown = sitk.And(grown, image)
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(grown == 255, True)) == 1
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(largest)).astype(np.uint8) * np.uint8(255)


def otsu_simpleitk(bins: NDArray[np.uint8]) -> int:
    """Otsu's threshold of a uint8 image by SimpleITK."""
    import SimpleITK as sitk

    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(BINS)
    otsu.SetNumberOfThreads(1)
    otsu.Execute(sitk.GetImageFromArray(bins))
    return int(otsu.GetThreshold())


def _start(contour: NDArray[Any]) -> int:
    return cv2.boundingRect(contour)[0]


def _select_component(areas: NDArray[Any], near_wall: NDArray[np.bool_]) -> int:
    """Index of the largest component that begins near the chest wall, or of one more than 4 times as large."""
    largest, on_wall = int(np.argmax(areas)), int(np.argmax(np.where(near_wall, areas, 0)))
    return on_wall if areas[on_wall] * 4 >= areas[largest] else largest
