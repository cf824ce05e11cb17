"""Step 1a: a DICOM file's header -> :class:`ImageRecord`, or a :class:`Rejection` that says which rule it breaks.

The rules are the functions between :func:`read_header` and :func:`open_dicom`, in the order in which they are asked;
each raises :class:`Refused` with its reason code. Nothing is guessed: a file that breaks a rule is named, counted and
left out. Source of the tags and codes: DICOM PS3.3 C.8.11 (mammography), PS3.16 CID 4014 and 4015.
"""

from __future__ import annotations

import logging
import math
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from io import BufferedReader, BytesIO, FileIO, RawIOBase
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pydicom.config
from blake3 import blake3
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Edge, ImageRecord, Laterality, View

MIN_SIDE, MAX_SIDE, MAX_PIXELS = 16, 16384, 2**27
HEADER_INFLATE_LIMIT = 8 * 2**20  # bytes of a deflated data set that `index` looks at: headers are far smaller
INFLATE_HEADROOM = 2**24  # bytes that a deflated data set may have beside its pixels

# SOP classes (0008,0016)
FOR_PRESENTATION, FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# Transfer syntaxes
IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED_LE, EXPLICIT_BE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, DEFLATED_LE, EXPLICIT_BE})
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_LS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS, HTJ2K_RPCL, HTJ2K = "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"
ENCAPSULATED = frozenset({
    RLE, JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG_LS_NEAR, JPEG_2000_LOSSLESS,
    JPEG_2000, HTJ2K_LOSSLESS, HTJ2K_RPCL, HTJ2K,
})  # fmt: skip

# Views: code values of SNOMED CT and of the older SRT / SNM3, CID 4014
VIEW_CODES = {"399162004": View.CC, "R-10242": View.CC, "399368009": View.MLO, "R-10226": View.MLO}
# View modifiers, CID 4015: only these leave a view a standard one
IMPLANT_DISPLACED = frozenset({"399209000", "R-102D5"})
HARMLESS_MODIFIERS = frozenset({"442581004", "R-40AB3"})  # nipple in profile
STANDARD_MAGNIFICATION = (0.9, 1.2)

OVERLAY_GROUPS = frozenset(range(0x6000, 0x6020, 2))  # Overlay Data is (60xx,3000)
PIXEL_DATA = 0x7FE00010


class Refused(Exception):
    """A rule was broken. Never leaves the reader: it becomes a :class:`Rejection`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class HeaderPolicy:
    """How one data set's headers are to be read: where its adapter departs from the standard.

    Attributes
    ----------
    secondary_capture : bool
        Accept the SOP class Secondary Capture (digitised film).
    for_processing : bool
        Accept mammograms for processing: raw, as the detector gave them. Each is flagged.
    view_in_patient_orientation : bool
        Patient Orientation holds the name of the view (CBIS-DDSM).
    patient_from : {"patient_id", "study"}
        The element that tells patients apart; VinDr-Mammo publishes none but the study.
    patient_pattern : str
        Regular expression whose first group is the patient inside that element; empty: all of it.
    region_pattern : str
        Regular expression of that element in files that are no films but masks or cut-outs of lesions on them; empty: none.
    keep_studies_apart : bool
        Pair views only within a study.
    identifier_key : bytes
        32 bytes that key the digests that replace identifiers; empty: identifiers are published pseudonyms, kept.
    """

    secondary_capture: bool = False
    for_processing: bool = False
    view_in_patient_orientation: bool = False
    patient_from: Literal["patient_id", "study"] = "patient_id"
    patient_pattern: str = ""
    region_pattern: str = ""
    keep_studies_apart: bool = True
    identifier_key: bytes = field(default=b"", repr=False)  # never in a log

    def identifier(self, kind: str, value: str) -> str:
        """`value` as it may be written: itself, or its keyed digest (128 bits) where identifiers are hashed."""
        if not self.identifier_key or not value:
            return value
        return blake3(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), key=self.identifier_key).hexdigest(length=16)


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How the bytes of Pixel Data are to be read, checked before any of them is."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric_interpretation: str

    @property
    def native_bytes(self) -> int:
        """Bytes of the uncompressed picture."""
        return self.rows * self.columns * (self.bits_allocated // 8)


def read_header(root: Path, path: str, policy: HeaderPolicy) -> ImageRecord | Rejection:
    """Read the header of ``root / path``.

    Parameters
    ----------
    root : Path
        The input folder.
    path : str
        POSIX path relative to it.
    policy : HeaderPolicy

    Returns
    -------
    ImageRecord or Rejection
        Never raises for a bad file, whatever its bytes.
    """
    try:
        # Without following a FIFO into a hang: the kind of file is asked first.
        status = os.stat(root / path)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(Reason.NOT_A_FILE, "no regular file")
        with _Bounded(FileIO(root / path), status.st_size) as file:
            opened = open_dicom(file, HEADER_INFLATE_LIMIT)
            with silenced():
                return image_record(path, opened, policy)
    except Refused as refused:
        return Rejection(path, refused.reason, refused.detail)
    except OSError as error:
        return Rejection.unreadable(path, error)


def record_of(data: bytes | memoryview, path: str, policy: HeaderPolicy) -> ImageRecord | None:
    """What the header in a file's bytes says; None where a rule refuses it."""
    try:
        with silenced():
            return image_record(path, open_dicom(stream(data), HEADER_INFLATE_LIMIT), policy)
    except Refused:
        return None


class _Bounded(BufferedReader):
    """A file that is never asked for more than it has: Python reserves what an element claims, and that may be 4 GB."""

    def __init__(self, file: FileIO, size: int) -> None:
        super().__init__(file)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._size if size is None or size < 0 else min(size, self._size))


class _Memory(RawIOBase):
    """Bytes in memory as a file: nothing is copied but what is read."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        start, end = self._at, len(self._data)
        if size is not None and 0 <= size < end - start:
            end = start + size
        self._at = max(start, end)
        return bytes(self._data[start:end])

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = max(offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence], 0)
        return self._at


def stream(data: bytes | memoryview) -> BinaryIO:
    """A file's bytes as :func:`open_dicom` takes them."""
    return cast(BinaryIO, _Memory(data))


def image_record(path: str, opened: OpenedDicom, policy: HeaderPolicy) -> ImageRecord:
    """Ask every rule of the header, in order; the first that is broken raises :class:`Refused`."""
    header = opened.header
    check_kind(header, policy)
    check_film(header, policy)
    layout = pixel_layout(opened)
    check_rescale(header)
    view, modifiers = read_view(header, policy)
    laterality = read_laterality(header, policy)
    check_pixel_data(opened, layout)
    patient, study = read_identity(header, policy)
    row_spacing, column_spacing = _spacing(header)
    return ImageRecord(
        path=path,
        patient_id=patient,
        study=study,
        sop_instance_uid=policy.identifier("instance", text(header, "SOPInstanceUID")),
        laterality=laterality,
        view=view,
        rows=layout.rows,
        columns=layout.columns,
        bits_stored=layout.bits_stored,
        photometric_interpretation=layout.photometric_interpretation,
        transfer_syntax_uid=layout.transfer_syntax_uid,
        row_spacing=row_spacing,
        column_spacing=column_spacing,
        manufacturer=_printable(text(header, "Manufacturer"))[:64],
        patient_age=_age(header),
        chest_wall=chest_wall_edge(header),
        implant=text(header, "BreastImplantPresent").upper() == "YES",
        implant_displaced=bool(modifiers & IMPLANT_DISPLACED),
        synthetic=_is_synthetic(header),
        overlay=_has_overlay(header),
        shutter=bool(texts(header, "ShutterShape")),
        for_processing=text(header, "SOPClassUID") == FOR_PROCESSING or _intent(header) == "FOR PROCESSING",
    )


# --- the rules --------------------------------------------------------------------------------------------------------


def check_kind(header: Dataset, policy: HeaderPolicy) -> None:
    """A single-frame 2D mammogram for presentation. An absent SOP class or Modality is allowed: VinDr-Mammo has none."""
    sop_class = text(header, "SOPClassUID")
    allowed = {"", FOR_PRESENTATION} | ({SECONDARY_CAPTURE} if policy.secondary_capture else set())
    if sop_class == FOR_PROCESSING and not policy.for_processing:
        raise Refused(Reason.SOP_CLASS_REFUSED, "a mammogram for processing; the data set's `for_processing: true` accepts it")
    if sop_class not in allowed | {FOR_PROCESSING}:
        raise Refused(Reason.SOP_CLASS_REFUSED, f"SOPClassUID is {_uid(sop_class)}; expected {FOR_PRESENTATION}")
    modality = text(header, "Modality").upper()
    if modality not in ("", "MG"):
        raise Refused(Reason.MODALITY_REFUSED, f"Modality is {_term(modality)}; expected MG")
    frames = integer(header, "NumberOfFrames", 1)
    if frames != 1:
        raise Refused(Reason.MULTI_FRAME, f"NumberOfFrames is {frames}; expected 1")


def check_film(header: Dataset, policy: HeaderPolicy) -> None:
    """No lesion's mask or cut-out, where the data set has such files beside its films."""
    if policy.region_pattern and re.search(policy.region_pattern, text(header, _PATIENT[policy.patient_from])):
        raise Refused(Reason.REGION_OF_INTEREST, "a mask or a cut-out, and no film")


_PATIENT = {"patient_id": "PatientID", "study": "StudyInstanceUID"}


def pixel_layout(opened: OpenedDicom) -> PixelLayout:
    """Everything that decides how pixels are decoded; bounds hold before a single byte of them is touched."""
    header = opened.header
    syntax = opened.transfer_syntax_uid
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    if not (MIN_SIDE <= rows <= MAX_SIDE and MIN_SIDE <= columns <= MAX_SIDE and rows * columns <= MAX_PIXELS):
        limits = f"{MIN_SIDE}..{MAX_SIDE} each and at most {MAX_PIXELS} pixels"
        raise Refused(Reason.SIZE_OUT_OF_RANGE, f"Rows x Columns is {rows} x {columns}; expected {limits}")
    photometric = text(header, "PhotometricInterpretation").upper()
    if not photometric:
        raise Refused(Reason.HEADER_INCOMPLETE, "PhotometricInterpretation is absent or empty")
    samples = integer(header, "SamplesPerPixel", 1)
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        found = f"{_term(photometric)} with {samples} sample(s) a pixel"
        raise Refused(Reason.COLOUR, f"PhotometricInterpretation is {found}; expected MONOCHROME1 or MONOCHROME2")
    allocated = integer(header, "BitsAllocated")
    stored = integer(header, "BitsStored")
    high = integer(header, "HighBit", stored - 1)
    representation = integer(header, "PixelRepresentation", 0)
    sound = allocated in (8, 16) and 1 <= stored <= allocated and stored - 1 <= high < allocated
    if not sound or representation not in (0, 1):
        found = f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}, PixelRepresentation {representation}"
        raise Refused(Reason.BITS_UNSUPPORTED, f"{found}; expected 8 or 16 bits that hold the stored ones")
    return PixelLayout(syntax, rows, columns, allocated, stored, high, representation == 1, photometric)


def check_rescale(header: Dataset) -> None:
    """Slope and intercept are finite and the slope is not 0; a Modality LUT, which wins over them, is whole."""
    tables = items(header, "ModalityLUTSequence")
    if tables:
        lookup_table(tables[0], "Modality LUT")
        return
    slope, intercept = number(header, "RescaleSlope", 1.0), number(header, "RescaleIntercept", 0.0)
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        found = f"slope {slope:g}, intercept {intercept:g}"
        raise Refused(Reason.RESCALE_INVALID, f"{found}; expected finite numbers and a slope other than 0")


@dataclass(frozen=True, slots=True)
class LookupTable:
    """An item of a Modality LUT or VOI LUT Sequence (PS3.3 C.11.1.1).

    Attributes
    ----------
    first : int
        The value that the first entry stands for; smaller values have it too, larger ones than the last the last.
    bits : int
        Of an entry.
    entries : sequence of int
    """

    first: int
    bits: int
    entries: Sequence[int]


def lookup_table(item: Dataset, name: str) -> LookupTable:
    """Read a table whose descriptor agrees with its data; `name` is what messages call it."""
    try:
        count, first, bits = (int(part) for part in item.LUTDescriptor)
        count = count or 65536
        entries = item.LUTData
        if isinstance(entries, bytes):  # OW: words, or bytes padded to an even number
            order = "<" if item.original_encoding[1] else ">"
            single = bits <= 8 and len(entries) == count + count % 2
            entries = list(entries[:count]) if single else struct.unpack(f"{order}{len(entries) // 2}H", entries)
        found = len(entries)
    except Exception as error:
        raise_transient(error)
        raise Refused(Reason.LUT_INVALID, f"{name} without a readable descriptor and data") from None
    if found != count or not 1 <= bits <= 16:
        raise Refused(Reason.LUT_INVALID, f"{name} of {found} entries and {bits} bits; its descriptor says {count}")
    return LookupTable(first, bits, entries)


def read_view(header: Dataset, policy: HeaderPolicy) -> tuple[View, frozenset[str]]:
    """CC or MLO by View Code Sequence first, then View Position, and the code values of the view's modifiers."""
    if policy.view_in_patient_orientation:
        name = text(header, "PatientOrientation").upper()
        if name not in ("CC", "MLO"):
            raise Refused(Reason.VIEW_MISSING, f"PatientOrientation is {_term(name)}; expected CC or MLO here")
        return View(name), frozenset()
    item = next(iter(items(header, "ViewCodeSequence")), Dataset())
    code, position = text(item, "CodeValue"), text(header, "ViewPosition").upper()
    coded = VIEW_CODES.get(code)
    positioned = View(position) if position in ("CC", "MLO") else None
    if code and position and coded is not positioned:
        raise Refused(Reason.VIEW_CONFLICT, f"view code is {_code(code)}, ViewPosition is {_term(position)}")
    if not code and not position:
        raise Refused(Reason.VIEW_MISSING, "neither ViewCodeSequence nor ViewPosition is given")
    view = coded or positioned
    if view is None:
        raise Refused(Reason.VIEW_NOT_PAIRABLE, f"the view is {_code(code) if code else _term(position)}; expected CC or MLO")
    found = [*items(item, "ViewModifierCodeSequence"), *items(header, "ViewModifierCodeSequence")]
    modifiers = frozenset(text(modifier, "CodeValue") for modifier in found)
    unusual = sorted(modifiers - IMPLANT_DISPLACED - HARMLESS_MODIFIERS)
    if unusual:
        raise Refused(Reason.VIEW_MODIFIED, f"view modifier {_code(unusual[0])}; expected none but implant displaced")
    factor = number(header, "EstimatedRadiographicMagnificationFactor", 1.0)
    low, high = STANDARD_MAGNIFICATION
    if not low <= factor <= high:
        raise Refused(Reason.VIEW_MODIFIED, f"magnified {factor:g} times; expected {low} to {high}")
    return view, modifiers


def read_laterality(header: Dataset, policy: HeaderPolicy) -> Laterality:
    """L or R, the same in every element that gives a side, and not contradicted by Patient Orientation."""
    keywords = ("ImageLaterality", "Laterality", "FrameLaterality")
    given = {keyword: text(header, keyword).upper() for keyword in keywords}
    given = {keyword: side for keyword, side in given.items() if side}
    if not given or not set(given.values()) <= {"L", "R"}:
        found = ", ".join(f"{keyword} {_term(side)}" for keyword, side in given.items()) or "none given"
        raise Refused(Reason.LATERALITY_MISSING, f"laterality: {found}; expected L or R")
    if len(set(given.values())) > 1:
        found = ", ".join(f"{keyword} {side}" for keyword, side in given.items())
        raise Refused(Reason.LATERALITY_CONFLICT, found)
    laterality = Laterality(next(iter(given.values())))
    orientation = [] if policy.view_in_patient_orientation else texts(header, "PatientOrientation")
    # Hung as the standard says, a left breast has rows towards A and columns towards R (or F and R), a right one
    # towards P and L. One of the two may be mirrored; both opposite means that it is the other breast.
    other = {Laterality.LEFT: ("P", "L"), Laterality.RIGHT: ("A", "R")}[laterality]
    if len(orientation) == 2 and orientation[0].startswith(other[0]) and other[1] in orientation[1]:
        raise Refused(Reason.LATERALITY_CONFLICT, f"laterality {laterality}, PatientOrientation of the other breast")
    return laterality


def check_pixel_data(opened: OpenedDicom, layout: PixelLayout) -> None:
    """Pixel Data is there, in the form of the transfer syntax, and long enough as far as a header can tell."""
    if opened.value_offset is None:
        raise Refused(Reason.PIXEL_DATA_MISSING, "the file ends before Pixel Data (7FE0,0010)")
    encapsulated = opened.value_length is None
    if encapsulated != (layout.transfer_syntax_uid in ENCAPSULATED):
        form = "encapsulated" if encapsulated else "native"
        raise Refused(
            Reason.DECODE_FAILED, f"Pixel Data is {form}, which its transfer syntax {layout.transfer_syntax_uid} is not"
        )
    if opened.value_length is None:
        _check_fragments(opened)
        return
    if not opened.complete and opened.value_length > layout.native_bytes + INFLATE_HEADROOM:
        raise Refused(
            Reason.DEFLATED_TOO_LARGE, f"Pixel Data inflates to {opened.value_length} bytes for {layout.native_bytes}"
        )
    there = min(opened.value_length, opened.bytes_left) if opened.complete else opened.value_length
    if there < layout.native_bytes:
        expected = f"{layout.rows} x {layout.columns} x {layout.bits_allocated // 8} = {layout.native_bytes}"
        raise Refused(Reason.PIXELS_TRUNCATED, f"Pixel Data has {there} bytes; expected {expected}")


def _check_fragments(opened: OpenedDicom) -> None:
    """Every fragment of an encapsulated picture is whole (PS3.5 A.4): a cut file is found without decoding it."""
    assert opened.value_offset is not None
    at, end = opened.value_offset, opened.value_offset + opened.bytes_left
    fragments = -1  # the first item is the offset table
    while at + 8 <= end:
        opened.body.seek(at)
        group, element, length = struct.unpack("<HHI", opened.body.read(8))
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            raise Refused(Reason.PIXELS_TRUNCATED, f"no item where fragment {max(fragments, 0)} of Pixel Data should start")
        if at + 8 + length > end:
            there = f"{end - at - 8} of {length} bytes"
            raise Refused(Reason.PIXELS_TRUNCATED, f"fragment {max(fragments, 0)} of Pixel Data ends after {there}")
        fragments += 1
        at += 8 + length
    if fragments < 1:
        raise Refused(Reason.PIXELS_TRUNCATED, "Pixel Data ends before its first fragment")


def read_identity(header: Dataset, policy: HeaderPolicy) -> tuple[str, str]:
    """Patient and study to group by, hashed where the data set hashes identifiers."""
    keyword = _PATIENT[policy.patient_from]
    value = text(header, keyword)
    if not value:
        raise Refused(Reason.IDENTIFIER_MISSING, f"{keyword} is absent or empty")
    if policy.patient_pattern:
        match = re.search(policy.patient_pattern, value)
        if not match:
            raise Refused(Reason.IDENTIFIER_INVALID, f"{keyword} of {len(value)} characters is not of this data set's form")
        value = match.group(1)
    # U+FFFD stands for bytes that its character set does not have: two patients could become one.
    if len(value) > 64 or not value.isprintable() or "\ufffd" in value:
        found = f"{keyword} has {len(value)} characters, or some that are no text"
        raise Refused(Reason.IDENTIFIER_INVALID, f"{found}; expected at most 64, all printable")
    patient = policy.identifier("patient", value)
    if not policy.keep_studies_apart or policy.patient_from == "study":
        return patient, ""
    study = text(header, "StudyInstanceUID")
    if not study:
        raise Refused(Reason.IDENTIFIER_MISSING, "StudyInstanceUID is absent or empty")
    # A study's UID is long and may tell a site: its digest serves as well, and keeps breast ids short.
    return patient, (policy.identifier("study", study) if policy.identifier_key else blake3(study.encode()).hexdigest())[:12]


# --- facts that refuse nothing ----------------------------------------------------------------------------------------


def chest_wall_edge(header: Dataset) -> Edge | None:
    """The edge on which Patient Orientation puts the chest wall: rows that run to the anterior start at it."""
    orientation = texts(header, "PatientOrientation")
    towards = orientation[0][:1] if len(orientation) == 2 else ""
    return {"A": Edge.LEFT, "P": Edge.RIGHT}.get(towards)


def overlay_in_pixels(header: Dataset) -> bool:
    """Whether bits of the stored pixels that are no value's are an overlay's (retired; PS3.3-2004 C.9.2)."""
    planes = [group << 16 for group in OVERLAY_GROUPS]
    return any(plane | 0x0100 in header and plane | 0x3000 not in header for plane in planes)


def _has_overlay(header: Dataset) -> bool:
    tags = header.keys()  # of the elements as they lie there: none is parsed for it
    return any(tag >> 16 in OVERLAY_GROUPS and tag & 0xFFFF == 0x3000 for tag in tags)


def acquisition_date(header: Dataset) -> str:
    """The day of the exposure, to be compared within the reader and never to leave it; empty where it is not given."""
    with silenced():
        return text(header, "AcquisitionDate") or text(header, "ContentDate")


def _intent(header: Dataset) -> str:
    return text(header, "PresentationIntentType").upper()


def _is_synthetic(header: Dataset) -> bool:
    """A 2D picture computed from tomosynthesis: vendors say so in Image Type or Series Description, in these words."""
    words = " ".join([*texts(header, "ImageType"), text(header, "SeriesDescription")]).upper()
    return any(mark in words for mark in ("GENERATED_2D", "C-VIEW", "V-PREVIEW", "S-VIEW", "INSIGHT 2D", "SYNTH"))


def _spacing(header: Dataset) -> tuple[float | None, float | None]:
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        try:
            row, column = (float(part) for part in texts(header, keyword))
        except ValueError:  # no numbers, or not two of them
            continue
        if math.isfinite(row) and math.isfinite(column) and row > 0 and column > 0:
            return row, column
    return None, None


def _age(header: Dataset) -> str:
    age = text(header, "PatientAge").upper()
    if not re.fullmatch(r"\d{3}Y", age):
        return ""
    return "90+" if int(age[:3]) >= 90 else age


# --- opening a file ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class OpenedDicom:
    """A DICOM file up to its Pixel Data.

    Attributes
    ----------
    header : Dataset
        Everything before Pixel Data, without the file meta information (whose SOP class VinDr-Mammo fills with 1.2.3.4).
    body : BinaryIO
        What `value_offset` counts in: the file, or its inflated data set.
    value_offset : int or None
        Where Pixel Data's value starts; None where the file ends before it.
    value_length : int or None
        Bytes; None for encapsulated (undefined) length.
    bytes_left : int
        From `value_offset` to the end of `body`.
    words : bool
        Pixel Data has the value representation OW: on big endian, 8-bit pixels are swapped in pairs.
    complete : bool
        False where a deflated data set was inflated only as far as the header needs.
    """

    header: Dataset
    transfer_syntax_uid: str
    body: BinaryIO
    value_offset: int | None = None
    value_length: int | None = None
    bytes_left: int = 0
    complete: bool = True
    words: bool = False


def open_dicom(file: BinaryIO, inflate_limit: int) -> OpenedDicom:
    """Parse a DICOM file up to Pixel Data, reading none of the pixels.

    Parameters
    ----------
    file : BinaryIO
        Positioned at the start.
    inflate_limit : int
        Bytes at most that a deflated data set may grow to; what lies beyond is not looked at.

    Raises
    ------
    Refused
        Not DICOM, a broken header, or a transfer syntax that no decoder here reads.
    """
    if file.read(132)[128:] != b"DICM":
        raise Refused(Reason.NOT_DICOM, "no DICM marker at byte 128")
    with silenced():
        try:
            meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
            syntax = text(meta, "TransferSyntaxUID")
        except Exception as error:
            raise_transient(error)
            raise Refused(Reason.HEADER_UNREADABLE, f"file meta information ({type(error).__name__})") from None
        if syntax not in NATIVE | ENCAPSULATED:
            raise Refused(Reason.TRANSFER_SYNTAX_UNSUPPORTED, f"transfer syntax is {_uid(syntax)}")
        body, complete = (_inflate(file, inflate_limit)) if syntax == DEFLATED_LE else (file, True)
        little, implicit = syntax != EXPLICIT_BE, syntax == IMPLICIT_LE
        try:
            header = read_dataset(body, implicit, little, stop_when=lambda tag, vr, length: tag >= PIXEL_DATA)
        except Exception as error:
            raise_transient(error)
            raise Refused(Reason.HEADER_UNREADABLE, f"data set ({type(error).__name__})") from None
    if header.original_encoding[0] is not implicit:  # pydicom looks and adapts, but where would Pixel Data start?
        raise Refused(Reason.HEADER_UNREADABLE, f"the data set's encoding is not that of its transfer syntax {syntax}")
    opened = OpenedDicom(header, syntax, body, complete=complete)
    _find_pixel_data(opened, implicit, "<" if little else ">")
    if opened.value_offset is None and not complete:
        raise Refused(Reason.DEFLATED_TOO_LARGE, f"no Pixel Data in the first {inflate_limit} bytes of the inflated data set")
    return opened


def raise_transient(error: Exception) -> None:
    """Raise again what says nothing of the file, and so must not be remembered as a refusal of it."""
    if isinstance(error, MemoryError | ImportError) or (isinstance(error, OSError) and error.errno):
        raise error


def _inflate(file: BinaryIO, limit: int) -> tuple[BinaryIO, bool]:
    """Inflate at most `limit` bytes: 285 kB can hold 617 MB."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(file.read(), limit)
    except zlib.error:
        raise Refused(Reason.HEADER_UNREADABLE, "the deflated data set does not inflate") from None
    return BytesIO(data), inflater.eof or len(data) < limit  # a stream that was cut has no more to give


def _find_pixel_data(opened: OpenedDicom, implicit: bool, order: str) -> None:
    body = opened.body
    start = body.tell()
    head = body.read(12)
    end = body.seek(0, os.SEEK_END)
    if len(head) < 8 or struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        return
    if implicit:
        size, length = 8, struct.unpack(order + "I", head[4:8])[0]
    elif head[4:6] in (b"OB", b"OW", b"UN") and len(head) == 12:
        size, length = 12, struct.unpack(order + "I", head[8:12])[0]
    else:
        raise Refused(Reason.HEADER_UNREADABLE, "Pixel Data is neither OB nor OW")
    opened.words = not implicit and head[4:6] == b"OW"
    opened.value_offset = start + size
    opened.value_length = None if length == 0xFFFFFFFF else length
    opened.bytes_left = max(end - opened.value_offset, 0)


# --- element values, without surprises --------------------------------------------------------------------------------


_silence = threading.Lock()
_silent: list[tuple[warnings.catch_warnings[None], int, int]] = []  # what the outermost caller found, for each that is inside


@contextmanager
def silenced() -> Iterator[None]:
    """Keep pydicom quiet: it warns of a wrong value by printing it, and a value may be a name.

    The settings are the process's own: threads may be inside together, and only the last one out puts them back.
    """
    logger, settings = logging.getLogger("pydicom"), pydicom.config.settings
    with _silence:
        if not _silent:
            caught = warnings.catch_warnings()
            caught.__enter__()
            warnings.simplefilter("ignore")
            _silent.append((caught, logger.level, settings.reading_validation_mode))
            logger.setLevel(logging.CRITICAL + 1)
            settings.reading_validation_mode = pydicom.config.IGNORE
        else:
            _silent.append(_silent[0])
    try:
        yield
    finally:
        with _silence:
            caught, level, mode = _silent.pop()
            if not _silent:
                caught.__exit__(None, None, None)
                logger.setLevel(level)
                settings.reading_validation_mode = mode


def texts(header: Dataset, keyword: str) -> list[str]:
    """All values of an element as text; empty where it is absent.

    Raises
    ------
    Refused
        Its bytes cannot be read as its value representation.
    """
    tag = _tag(keyword)
    if tag not in header:  # most are not, in most files: pydicom's own look-up by keyword is ten times dearer
        return []
    try:
        value = header[tag].value
        if value is None:
            return []
        several = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
        return [str(part).strip(" \0") for part in (value if several else [value])]
    except Exception as error:
        raise Refused(Reason.HEADER_UNREADABLE, f"{keyword} cannot be read ({type(error).__name__})") from None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def text(header: Dataset, keyword: str) -> str:
    """The value of an element that has one, or nothing; several are shown as they are, and none of them is preferred."""
    return "\\".join(texts(header, keyword))


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent.

    Raises
    ------
    Refused
        It is no sequence.
    """
    try:
        value = header.get(keyword)
    except Exception as error:
        raise Refused(Reason.HEADER_UNREADABLE, f"{keyword} cannot be read ({type(error).__name__})") from None
    if value and not isinstance(value, DicomSequence):
        raise Refused(Reason.HEADER_UNREADABLE, f"{keyword} is no sequence")
    return list(value or ())


def number(header: Dataset, keyword: str, default: float) -> float:
    """The value as a float; NaN where it is none."""
    value = text(header, keyword)
    try:
        return float(value) if value else default
    except ValueError:
        return math.nan


def integer(header: Dataset, keyword: str, default: int | None = None) -> int:
    """The value as an integer.

    Raises
    ------
    Refused
        It is no integer, or absent without a `default`.
    """
    value = text(header, keyword)
    if not value and default is not None:
        return default
    try:
        return int(value)
    except ValueError:
        found = "no whole number" if value else "absent or empty"
        raise Refused(Reason.HEADER_INCOMPLETE, f"{keyword} is {found}") from None


def _printable(value: str) -> str:
    return "".join(c for c in value if c.isprintable())


_TERMS = frozenset({
    "MG", "CR", "CT", "DOC", "DX", "KO", "MR", "NM", "OT", "PR", "PT", "RF", "SEG", "SR", "US", "XA",
    "CC", "MLO", "AT", "CV", "FB", "ISO", "LM", "LMO", "ML", "RL", "RM", "SIO", "TAN", "XCCL", "XCCM", "L", "R", "B", "U",
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
})  # fmt: skip


def _term(value: str) -> str:
    """A defined term as it may be shown; any other word could be a name, however short."""
    return value if value in _TERMS else _hidden(value)


def _code(value: str) -> str:
    """A code of SNOMED CT or SRT as it may be shown; anything else could be a name."""
    return value if re.fullmatch(r"[0-9]{6,18}|[A-Z][0-9]?-[0-9A-F]{4,5}", value) else _hidden(value)


def _uid(value: str) -> str:
    """A well-known UID as it may be shown; a private one could be an identifier."""
    return value if re.fullmatch(r"1\.2\.840\.10008[0-9.]{0,40}", value) else _hidden(value)


def _hidden(value: str) -> str:
    return f"<{len(value)} characters>" if value else "empty"
