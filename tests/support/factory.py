"""Makes mammograms as DICOM files, right and wrong, together with their truth."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from fvpipe.dicom.decoding.transfer_syntaxes import ENCAPSULATED, NATIVE
from fvpipe.dicom.elements import silenced
from fvpipe.simulation.drawing import Drawing, anatomy, draw, stored_pixels
from fvpipe.types import Laterality, View

LEFT, RIGHT = Laterality.LEFT, Laterality.RIGHT
CC, MLO = View.CC, View.MLO
VIEW_CODES = {CC: "399162004", MLO: "399368009"}


@dataclass(frozen=True)
class Made:
    """Stored pixels and the drawing that they came from."""

    pixels: NDArray[Any]
    drawing: Drawing
    bits: int


def breast(
    seed: int = 0,
    view: View = CC,
    side: Laterality = LEFT,
    shape: tuple[int, int] = (320, 256),
    bits: int = 12,
    lesion: bool = False,
    **pixels: Any,
) -> Made:
    """A drawn view as stored integers; `pixels` are those of `stored_pixels`."""
    rng = np.random.default_rng([seed, side is RIGHT, view is MLO])
    drawing = draw(rng, shape, view, side, anatomy(np.random.default_rng([seed, side is RIGHT]), lesion))
    return Made(stored_pixels(rng, drawing, bits, **pixels), drawing, bits)


def dataset(pixels: NDArray[Any], bits: int, **tags: Any) -> Dataset:
    """A plain left CC for presentation. A tag of None is left out; the others replace or add."""
    ds = Dataset()
    view = tags.pop("view", CC)
    defaults: dict[str, Any] = {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "SOPInstanceUID": f"2.25.{zlib.crc32(repr(sorted(map(str, tags.items()))).encode()) + 10**12}",
        "StudyInstanceUID": "2.25.1",
        "SeriesInstanceUID": "2.25.2",
        "Modality": "MG",
        "PatientID": "P1",
        "ViewPosition": view.value,
        "ImageLaterality": "L",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 1 if pixels.dtype.kind == "i" else 0,
    }
    for keyword, value in (defaults | tags).items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


def item(**tags: Any) -> Dataset:
    """A sequence item."""
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


def coded(value: str, modifiers: tuple[str, ...] = ()) -> Sequence:
    """A View Code Sequence."""
    code = item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning="x")
    code.ViewModifierCodeSequence = Sequence(
        [item(CodeValue=m, CodingSchemeDesignator="SCT", CodeMeaning="x") for m in modifiers]
    )
    return Sequence([code])


def rejection_note(instance: str, title: str = "113001") -> Dataset:
    """A Key Object document about one image, by default one that rejects it for quality."""
    series = item(ReferencedSOPSequence=Sequence([item(ReferencedSOPInstanceUID=instance)]))
    return item(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59",
        Modality="KO",
        ConceptNameCodeSequence=coded(title),
        CurrentRequestedProcedureEvidenceSequence=Sequence([item(ReferencedSeriesSequence=Sequence([series]))]),
    )


def table(entries: list[int] | bytes, first: int = 0, bits: int = 16, said: int | None = None) -> Sequence:
    """A Modality LUT or VOI LUT Sequence, as US or, from bytes, OW; `said` is the length that its descriptor speaks of."""
    ds = Dataset()
    ds.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) if said is None else said, first, bits])
    ds.add_new("LUTData", "OW" if isinstance(entries, bytes) else "US", entries)
    return Sequence([ds])


def file_bytes(
    ds: Dataset, pixels: NDArray[Any] | bytes | None, syntax: str = ExplicitVRLittleEndian, **meta_tags: Any
) -> bytes:
    """The bytes of a file: `pixels` as an array to be encoded, as an encoded frame, or None for no Pixel Data."""
    with silenced(), disable_value_validation():
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\0\1"
        meta.MediaStorageSOPClassUID = UID("1.2.3.4")
        meta.MediaStorageSOPInstanceUID = UID("2.25.9")
        meta.TransferSyntaxUID = UID(syntax)
        for keyword, value in meta_tags.items():
            setattr(meta, keyword, value)
        file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        file.update(ds)
        if pixels is not None:
            if syntax in NATIVE or isinstance(pixels, bytes):
                data = pixels if isinstance(pixels, bytes) else native(pixels, syntax)
            else:
                data = encode(pixels, int(ds.BitsStored), syntax)
            if syntax in ENCAPSULATED:
                file.PixelData = encapsulate([data])
                file["PixelData"].is_undefined_length = True
                file["PixelData"].VR = "OB"
            else:
                file.PixelData = data + b"\0" * (len(data) % 2)
                file["PixelData"].VR = "OW"
        out = io.BytesIO()
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        pydicom.dcmwrite(out, file, implicit_vr=implicit, little_endian=little)
        return out.getvalue()


def native(pixels: NDArray[Any], syntax: str) -> bytes:
    """Uncompressed bytes; 8-bit pixels in OW are swapped in pairs on big endian."""
    if syntax != ExplicitVRBigEndian:
        return pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    if pixels.dtype.itemsize == 1:
        flat = np.append(pixels.ravel(), np.zeros(pixels.size % 2, pixels.dtype))
        return flat.reshape(-1, 2)[:, ::-1].tobytes()
    return pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()


def encode(pixels: NDArray[Any], bits: int, syntax: str) -> bytes:
    """One encoded frame."""
    import imagecodecs

    if syntax == RLELossless:
        from pydicom.pixels.encoders.base import get_encoder

        return get_encoder(syntax).encode(
            pixels, encoding_plugin="pydicom", rows=pixels.shape[0], columns=pixels.shape[1], samples_per_pixel=1,
            number_of_frames=1, bits_allocated=8 * pixels.dtype.itemsize, bits_stored=bits,
            pixel_representation=int(pixels.dtype.kind == "i"), photometric_interpretation="MONOCHROME2",
        )  # fmt: skip
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=bits))
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return bytes(imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=bits))
    if syntax == JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(pixels))
    if syntax == JPEGLSNearLossless:
        return bytes(imagecodecs.jpegls_encode(pixels, level=2))
    if syntax == JPEG2000Lossless:
        return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True, bitspersample=bits))
    if syntax == JPEG2000:
        return bytes(imagecodecs.jpeg2k_encode(pixels, level=60, codecformat="j2k", bitspersample=bits))
    if syntax in (HTJ2KLossless, HTJ2KLosslessRPCL):
        return bytes(imagecodecs.htj2k_encode(pixels))
    if syntax == HTJ2K:
        return bytes(imagecodecs.htj2k_encode(pixels, reversible=False))
    raise AssertionError(syntax)


def write(path: Path, data: bytes) -> Path:
    """Write `data`, making folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def mammogram(path: Path, made: Made | None = None, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Made:
    """Write one file; returns what was drawn."""
    made = made or breast()
    write(path, file_bytes(dataset(made.pixels, made.bits, **tags), made.pixels, syntax))
    return made


def patient(
    folder: Path, patient_id: str, sides: str = "LR", seed: int = 0, syntax: str = ExplicitVRLittleEndian, **tags: Any
) -> dict[str, Made]:
    """Both views of each side of `sides`, under `folder`; returns what was drawn by file name."""
    drawn = {}
    for side in sides:
        for view in (CC, MLO):
            name = f"{patient_id}_{side}_{view}.dcm"
            made = breast(seed, view, Laterality(side))
            uid = f"2.25.{zlib.crc32(f'{patient_id}{side}{view}'.encode()) + 1}"
            mammogram(
                folder / name, made, syntax, PatientID=patient_id, ImageLaterality=side, view=view, SOPInstanceUID=uid, **tags
            )
            drawn[name] = made
    return drawn


def deflated(ds: Dataset, pixels: NDArray[Any]) -> bytes:
    """The same file in Deflated Explicit VR Little Endian."""
    return file_bytes(ds, pixels, DeflatedExplicitVRLittleEndian)


def outcomes(folder: Path, files: dict[str, bytes], megabytes: int = 100) -> dict[str, list[str]]:
    """What the header and the pixels of each file are rejected for, asked in a process that may grow by so much."""
    for name, data in files.items():
        write(folder / name, data)
    done = subprocess.run(
        [sys.executable, "-c", _BOUNDED, str(megabytes * 2**20), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


_BOUNDED = """
import json, resource, sys
from pathlib import Path
import imagecodecs._jpeg2k, imagecodecs._jpeg8
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.header import pixel_header, read_header
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.reader import open_dicom, stream
from fvpipe.reasons import Rejection
from fvpipe.types import Laterality

def pixels(file):
    try:
        data = file.read_bytes()
        return str(decode_image(data, pixel_header(open_dicom(stream(data)), Laterality.LEFT)).shape)
    except RejectedFile as rejected:
        return rejected.reason.value

folder, page = Path(sys.argv[2]), resource.getpagesize()
now = int(Path("/proc/self/statm").read_text().split()[0]) * page
resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[1]), now + int(sys.argv[1])))
found = {}
for file in sorted(folder.iterdir()):
    header = read_header(folder, file.name, HeaderPolicy())
    found[file.name] = [header.reason.value if isinstance(header, Rejection) else "read", pixels(file)]
print(json.dumps(found))
"""
