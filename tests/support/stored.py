"""Samples and records as the caches hold them."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fvpipe.cache.file_cache import EncodedHeader, FileCache, encode_header
from fvpipe.cache.sample_store import ViewRejection
from fvpipe.config.loading import digest_of
from fvpipe.dicom.header import parse_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.indexing.files.scan import scan_folder
from fvpipe.reasons import Flag, Rejection
from fvpipe.types import Edge, FusedSample, ImageRecord, Laterality, Orientation, SourceFile, View
from tests.support import factory

KEY = digest_of("a sample")


def fused(image: Any = None) -> FusedSample:
    return FusedSample(
        image=np.arange(48, dtype=np.uint16).reshape(8, 6) if image is None else image,
        boxes=np.arange(8, dtype=np.int32).reshape(2, 4),
        source_shape=np.full((2, 2), 3000, np.int32),
        placement=np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4),
        intensity_range=np.array([0, 4095], np.float32),
        breast_area=np.array([70000, np.nan], np.float32),
        breast_mean=np.array([0.3, np.nan], np.float32),
        source_digests=(digest_of(1), digest_of(2)),
        pixel_digests=(digest_of(3), digest_of(4)),
        flags=Flag.IMPLANT | Flag.MLO_TRIANGLE,
    )


def assert_same(found: object, expected: FusedSample | ViewRejection) -> None:
    if isinstance(expected, ViewRejection):
        assert found == expected
        return
    assert isinstance(found, FusedSample)
    for field in fields(FusedSample):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


POLICY = HeaderPolicy(identifier_key=b"k" * 32)


def record(path: str = "a/one.dcm", **changes: Any) -> ImageRecord:
    values: dict[str, Any] = {
        "path": path, "patient_id": "P1", "study": "s", "sop_instance_uid": "1.2.3", "laterality": Laterality.LEFT,
        "view": View.CC, "rows": 4000, "columns": 3000, "bits_stored": 12, "photometric_interpretation": "MONOCHROME2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "row_spacing": 0.07, "column_spacing": None, "manufacturer": "ACME",
        "patient_age": "045Y", "chest_wall": Edge.LEFT, "implant": False, "implant_displaced": False, "synthetic": True,
        "low_energy": False, "orientation": Orientation.UPRIGHT, "overlay": False, "shutter": True, "for_processing": False,
    }  # fmt: skip
    return ImageRecord(**values | changes)


@cache
def any_header() -> ImageHeader:
    made = factory.breast()
    return parse_header(factory.file_bytes(factory.dataset(made.pixels, made.bits), made.pixels), "x.dcm", HeaderPolicy())


def encoded(found: ImageRecord | Rejection) -> EncodedHeader:
    """A header with this record, as the cache stores it."""
    return encode_header(found if isinstance(found, Rejection) else replace(any_header(), record=found))


def remember(file: Path, source: SourceFile, policy: HeaderPolicy = POLICY, root: Path = Path("/in")) -> None:
    with FileCache(file, root, policy) as file_cache:
        file_cache.put_headers([(source, encoded(record(source.path)))])
        file_cache.put_digests([(source, digest_of(1))])


def listed(folder: Path) -> tuple[list[SourceFile], list[Rejection]]:
    """Files and rejections, each sorted."""
    scan = scan_folder(folder)
    assert list(scan.files) == [file.path for file in scan.files.values()]
    return list(scan.files.values()), sorted(scan.rejections, key=lambda rejection: rejection.what)
