"""Extremes and histograms of images of stored values, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fvpipe.imaging import histogram as module
from fvpipe.imaging.histogram import bands, histogram, run_mask, stored_range

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
IMAGES = st.tuples(st.sampled_from([np.uint8, np.uint16]), SHAPES).flatmap(lambda form: hnp.arrays(*form))


@given(IMAGES, st.data())
def test_histogram_is_bincount(image: NDArray[Any], data: st.DataObject) -> None:
    size = 1 << 8 * image.itemsize
    mask = data.draw(hnp.arrays(np.uint8, image.shape, elements=st.sampled_from([0, 1, 255])))
    assert (histogram(image, size) == np.bincount(image.ravel(), minlength=size)).all()
    assert (histogram(image, size, mask) == np.bincount(image[mask > 0], minlength=size)).all()
    window = image[1:, : image.shape[1] // 2 + 1]  # rows are not contiguous
    if window.size:
        assert (histogram(window, size) == np.bincount(window.ravel(), minlength=size)).all()


def test_histogram_counts_more_than_a_float32_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((2050, 8200), 7, np.uint8)  # 16,810,000 pixels; a float32 counts to 16,777,216
    assert histogram(image, 8).tolist() == [0] * 7 + [image.size]
    monkeypatch.setattr(module, "COUNT_PIXELS", 1)  # fewer than a row
    assert histogram(image[:3], 8)[7] == 3 * 8200


@given(IMAGES, st.data())
def test_range_without_padding(image: NDArray[Any], data: st.DataObject) -> None:
    """Padding anywhere in the range: at both ends of the image, between real values, and in none of its pixels."""
    padding = np.zeros(1 << 8 * image.itemsize, bool)
    first = data.draw(st.sampled_from([0, int(image.min()), int(image.max())]))
    padding[first : first + data.draw(st.integers(1, 300))] = True
    window = image[:, : image.shape[1] // 2 + 1]
    for stored in (image, window):
        mask = run_mask(stored, padding)
        assert mask.dtype == np.uint8
        assert (mask == 255 * padding[stored]).all()
        real = stored[mask == 0]
        assert stored_range(stored) == (stored.min(), stored.max())
        assume(real.size)
        assert stored_range(stored, ~mask) == (real.min(), real.max())


def test_bands_are_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.arange(70, dtype=np.uint16).reshape(7, 10)
    for size, count in ((1, 7), (45, 4), (1 << 19, 1)):
        monkeypatch.setattr(module, "BAND_BYTES", size)
        parts = list(bands(image))
        assert len(parts) == count
        np.testing.assert_array_equal(np.concatenate(parts), image)
