"""Images of indices: the fast ways against the plain ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fvpipe.imaging import histogram as indices
from fvpipe.imaging.histogram import histogram, looked_up, range_without_padding, stored_range

TYPES = st.sampled_from([np.uint8, np.uint16])
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
PICTURES = st.tuples(TYPES, SHAPES).flatmap(lambda form: hnp.arrays(*form))


@given(PICTURES, st.data())
def test_histogram_is_bincount(image: NDArray[Any], data: st.DataObject) -> None:
    size = 1 << 8 * image.itemsize
    mask = data.draw(hnp.arrays(np.uint8, image.shape, elements=st.sampled_from([0, 1, 255])))
    assert (histogram(image, size) == np.bincount(image.ravel(), minlength=size)).all()
    assert (histogram(image, size, mask) == np.bincount(image[mask > 0], minlength=size)).all()
    window = image[1:, : image.shape[1] // 2 + 1]  # rows lie apart
    if window.size:
        assert (histogram(window, size) == np.bincount(window.ravel(), minlength=size)).all()


def test_histogram_counts_more_than_a_float32_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((2050, 8200), 7, np.uint8)  # 16,810,000 pixels; a float32 counts to 16,777,216
    assert histogram(image, 8).tolist() == [0] * 7 + [image.size]
    monkeypatch.setattr(indices, "EXACT", 1)  # fewer than a row
    assert histogram(image[:3], 8)[7] == 3 * 8200


@given(PICTURES, TYPES)
def test_looked_up_is_indexing(image: NDArray[Any], entries: type) -> None:
    table = np.random.default_rng(0).integers(0, 250, 1 << 8 * image.itemsize).astype(entries)
    found = looked_up(table, image)
    assert found.dtype == entries and (found == table[image]).all()


@given(PICTURES, st.data())
def test_real_ends_are_those_of_what_is_no_padding(image: NDArray[Any], data: st.DataObject) -> None:
    padding = np.zeros(1 << 8 * image.itemsize, bool)
    first = data.draw(st.sampled_from([0, int(image.min()), int(image.max())]))
    padding[first : first + data.draw(st.integers(0, 300))] = True
    real = image[~padding[image]]
    found = range_without_padding(image, padding)
    assert found is None or found == (real.min(), real.max())
    assert stored_range(image) == (image.min(), image.max())
    if not padding[image].any():
        assert found is not None


def test_a_band_of_several_paddings_hides_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strip of a range of padding, as scanners leave at a film's top, needs no counting."""
    monkeypatch.setattr(indices, "BAND", 8)
    image = np.array([[0, 1, 0, 1, 0, 1, 0, 1], [0, 5, 6, 7, 9, 8, 1, 0]], np.uint8)
    padding = np.zeros(256, np.bool_)
    padding[:2] = True
    assert range_without_padding(image, padding) == (5, 9)
