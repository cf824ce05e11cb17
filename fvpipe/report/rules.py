"""Every rule of :mod:`fvpipe.dicom.header`, each asked by itself, so that a rejected file shows all that is wrong with it.

The rules stand in :mod:`fvpipe.dicom.header` and nowhere else. Here each is asked of a header in which everything that
it is not about is as it should be: then the first broken rule does not hide the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from fvpipe.dicom.decoders import DECODERS
from fvpipe.dicom.elements import RejectedFile, items, number, silenced, text, texts
from fvpipe.dicom.header import (
    IMPLANT_DISPLACED,
    HeaderPolicy,
    check_film,
    check_kind,
    chest_wall_edge,
    read_header,
    read_identity,
    read_laterality,
    read_view,
)
from fvpipe.dicom.layout import PixelLayout, check_pixel_data, pixel_layout
from fvpipe.dicom.reader import HEADER_INFLATE_LIMIT, OpenedDicom, open_dicom
from fvpipe.dicom.value_table import check_rescale
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import ImageRecord, Laterality


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says.

    Attributes
    ----------
    rule : str
    found : str
        What it looked at, without anything of a patient's identity; why it was not asked, where it was not.
    reason : Reason or None
        None where it passed or was not asked.
    asked : bool
    """

    rule: str
    found: str
    reason: Reason | None = None
    asked: bool = True

    @property
    def word(self) -> str:
        """``passed``, ``rejected`` or ``not asked``."""
        return "rejected" if self.reason else "passed" if self.asked else "not asked"


class NotAsked(Exception):
    """A rule that needs what another rule rejected, or that this data set does not have."""


@dataclass(slots=True)
class Asked:
    """A file while its rules are asked; what one finds, a later one may need."""

    opened: OpenedDicom
    policy: HeaderPolicy
    layout: PixelLayout | None = None
    laterality: Laterality | None = None

    @property
    def header(self) -> Dataset:
        """Everything before Pixel Data."""
        return self.opened.header


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the header: its name, the function of :mod:`fvpipe.dicom.header` that holds it, and how it is asked alone."""

    name: str
    function: str
    ask: Callable[[Asked], str]


@dataclass(frozen=True, slots=True)
class HeaderVerdicts:
    """All rules of a file's opening and header, in their order.

    `asked` is None where the file could not be opened, `record` where it is rejected.
    """

    verdicts: tuple[Verdict, ...]
    asked: Asked | None = None
    record: ImageRecord | None = None

    @property
    def why_not_decoded(self) -> str:
        """Why the pixels cannot be looked at; empty where they can."""
        needed = {"frames", "size", "photometric interpretation", "bits", "rescale", "pixel data"}
        rejected = [v.rule for v in self.verdicts if v.reason and v.rule in needed]
        return "the file could not be opened" if self.asked is None else f"rejected before: {rejected[0]}" if rejected else ""


def ask_header(path: Path, policy: HeaderPolicy) -> HeaderVerdicts:
    """Ask all rules that come before the pixels.

    Parameters
    ----------
    path : Path
    policy : HeaderPolicy

    Returns
    -------
    HeaderVerdicts
        Never raises for a bad file.
    """
    said = read_header(path.parent, path.name, policy)  # the verdict that counts
    rejection = said if isinstance(said, Rejection) else None
    try:
        if rejection and rejection.reason in (Reason.NOT_A_FILE, Reason.FILE_UNREADABLE):
            return HeaderVerdicts(tuple(_unopened(rejection)))
        opened = open_dicom(BytesIO(path.read_bytes()), HEADER_INFLATE_LIMIT)
    except OSError as error:
        return HeaderVerdicts(tuple(_unopened(Rejection.unreadable("", error))))
    except RejectedFile as rejected:
        return HeaderVerdicts(tuple(_unopened(rejection or Rejection("", rejected.reason, rejected.detail))))
    asked = Asked(opened, policy)
    verdicts = [Verdict(name, "as it should be") for name, _ in OPENING]
    verdicts[3] = Verdict("transfer syntax", opened.transfer_syntax_uid)
    with silenced():
        verdicts += [_ask(rule, asked) for rule in RULES]
    if rejection and not any(verdict.reason for verdict in verdicts):  # by a rule that stands in no list here
        verdicts.append(Verdict("header", rejection.detail, rejection.reason))
    return HeaderVerdicts(tuple(verdicts), asked, None if isinstance(said, Rejection) else said)


OPENING: tuple[tuple[str, Callable[[Rejection], bool]], ...] = (
    ("file", lambda r: r.reason in (Reason.NOT_A_FILE, Reason.FILE_UNREADABLE)),
    ("DICM marker", lambda r: r.reason is Reason.NOT_DICOM),
    ("file meta information", lambda r: r.reason is Reason.HEADER_UNREADABLE and r.detail.startswith("file meta")),
    ("transfer syntax", lambda r: r.reason is Reason.TRANSFER_SYNTAX_UNSUPPORTED),
    ("data set", lambda r: True),
)
"""The steps of opening a file, and which rejections are theirs."""


def _unopened(rejection: Rejection) -> list[Verdict]:
    """Of the steps in which a file is opened, those before the rejection passed, and nothing after it can be asked."""
    at = next(i for i, (_, is_it) in enumerate(OPENING) if is_it(rejection))
    passed = [Verdict(name, "as it should be") for name, _ in OPENING[:at]]
    others = [*(name for name, _ in OPENING[at + 1 :]), *(rule.name for rule in RULES)]
    rejected = Verdict(OPENING[at][0], rejection.detail, rejection.reason)
    return [*passed, rejected, *(Verdict(name, "the file could not be opened", asked=False) for name in others)]


def _ask(rule: Rule, asked: Asked) -> Verdict:
    try:
        return Verdict(rule.name, rule.ask(asked))
    except RejectedFile as rejected:
        return Verdict(rule.name, rejected.detail, rejected.reason)
    except NotAsked as why:
        return Verdict(rule.name, str(why), asked=False)


# --- how each is asked alone ------------------------------------------------------------------------------------------


def _with(header: Dataset, **others: Any) -> Dataset:
    """The header with other elements set, or left out where they are None."""
    changed: Dataset = header[:]
    for keyword, value in others.items():
        if keyword in changed:
            delattr(changed, keyword)
        if value is not None:
            setattr(changed, keyword, value)
    return changed


def _sop_class(asked: Asked) -> str:
    check_kind(_with(asked.header, Modality=None, NumberOfFrames=None), asked.policy)
    return text(asked.header, "SOPClassUID") or "absent, which is allowed"


def _modality(asked: Asked) -> str:
    check_kind(_with(asked.header, SOPClassUID=None, NumberOfFrames=None), asked.policy)
    return text(asked.header, "Modality").upper() or "absent, which is allowed"


def _frames(asked: Asked) -> str:
    check_kind(_with(asked.header, SOPClassUID=None, Modality=None), asked.policy)
    return "1"


def _film(asked: Asked) -> str:
    check_film(asked.header, asked.policy)
    return "no mask or cut-out of a lesion"


_SIZE: dict[str, Any] = {"Rows": 512, "Columns": 512}
_PHOTOMETRIC: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1}
_BITS: dict[str, Any] = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}


def _layout(asked: Asked, **others: Any) -> PixelLayout:
    return pixel_layout(replace(asked.opened, header=_with(asked.header, **others)))


def _size(asked: Asked) -> str:
    layout = _layout(asked, **_PHOTOMETRIC, **_BITS)
    return f"{layout.rows} rows, {layout.columns} columns"


def _photometric(asked: Asked) -> str:
    return _layout(asked, **_SIZE, **_BITS).photometric_interpretation


def _bits(asked: Asked) -> str:
    layout = _layout(asked, **_SIZE, **_PHOTOMETRIC)
    sign = "signed" if layout.signed else "unsigned"
    return f"{layout.bits_stored} stored of {layout.bits_allocated} allocated, high bit {layout.high_bit}, {sign}"


def _rescale(asked: Asked) -> str:
    check_rescale(asked.header)
    if items(asked.header, "ModalityLUTSequence"):
        return "a Modality LUT, which wins over slope and intercept"
    slope, intercept = (number(asked.header, f"Rescale{name}", x) for name, x in (("Slope", 1.0), ("Intercept", 0.0)))
    return f"slope {slope:g}, intercept {intercept:g}"


def _view(asked: Asked) -> str:
    codes = DicomSequence([_with(item, ViewModifierCodeSequence=None) for item in items(asked.header, "ViewCodeSequence")])
    others = {"ViewModifierCodeSequence": None, "EstimatedRadiographicMagnificationFactor": None}
    return read_view(_with(asked.header, ViewCodeSequence=codes or None, **others), asked.policy)[0].value


def _modifiers(asked: Asked) -> str:
    _standard_view_is_told(asked)
    codes = DicomSequence([_with(item, CodeValue=None) for item in items(asked.header, "ViewCodeSequence")])
    others = {"ViewPosition": "CC", "EstimatedRadiographicMagnificationFactor": None}
    _, modifiers = read_view(_with(asked.header, ViewCodeSequence=codes or None, **others), asked.policy)
    return "implant displaced" if modifiers & IMPLANT_DISPLACED else "none that changes the view"


def _magnification(asked: Asked) -> str:
    _standard_view_is_told(asked)
    others = {"ViewCodeSequence": None, "ViewModifierCodeSequence": None, "ViewPosition": "CC"}
    read_view(_with(asked.header, **others), asked.policy)
    factor = number(asked.header, "EstimatedRadiographicMagnificationFactor", 0.0)
    return f"{factor:g} times" if factor else "not given"


def _standard_view_is_told(asked: Asked) -> None:
    if asked.policy.view_in_patient_orientation:
        raise NotAsked("this data set gives a view by its name alone")


def _laterality(asked: Asked) -> str:
    asked.laterality = read_laterality(_with(asked.header, PatientOrientation=None), asked.policy)
    return asked.laterality.value


def _orientation(asked: Asked) -> str:
    if asked.laterality is None:
        raise NotAsked("rejected before: laterality")
    if asked.policy.view_in_patient_orientation:
        raise NotAsked("it holds the view in this data set")
    read_laterality(asked.header, asked.policy)
    edge = chest_wall_edge(asked.header)
    return f"chest wall on the {edge.value}" if edge else "says nothing of the chest wall"


def _pixel_data(asked: Asked) -> str:
    try:
        asked.layout = pixel_layout(asked.opened)
    except RejectedFile:
        raise NotAsked("rejected before: size, photometric interpretation or bits") from None
    check_pixel_data(asked.opened, asked.layout)
    if asked.opened.value_length is None:
        return f"encapsulated, {asked.opened.bytes_left} bytes with what follows"
    return f"native, {asked.opened.value_length} bytes for {asked.layout.native_bytes}"


def _identity(asked: Asked) -> str:
    read_identity(asked.header, asked.policy)
    return "given (never shown)"


RULES = (
    Rule("SOP class", "check_kind", _sop_class),
    Rule("modality", "check_kind", _modality),
    Rule("frames", "check_kind", _frames),
    Rule("region of interest", "check_film", _film),
    Rule("size", "pixel_layout", _size),
    Rule("photometric interpretation", "pixel_layout", _photometric),
    Rule("bits", "pixel_layout", _bits),
    Rule("rescale", "check_rescale", _rescale),
    Rule("view", "read_view", _view),
    Rule("view modifiers", "read_view", _modifiers),
    Rule("magnification", "read_view", _magnification),
    Rule("laterality", "read_laterality", _laterality),
    Rule("patient orientation", "read_laterality", _orientation),
    Rule("pixel data", "check_pixel_data", _pixel_data),
    Rule("identity", "read_identity", _identity),
)
"""In the order of :func:`fvpipe.dicom.header.image_record`."""


# --- what the header says of its values, which rejects nothing by itself ------------------------------------------------


def value_facts(asked: Asked, voi: str) -> dict[str, str]:
    """Decoder, rescale, window, photometric interpretation and padding, in words."""
    header, syntax = asked.header, asked.opened.transfer_syntax_uid
    decoder = DECODERS.get(syntax)
    facts = {
        "decoder": decoder.identity if decoder else "none needed",
        "lossy": "yes" if decoder and decoder.lossy else "no",
        "rescale": _fact(lambda: _rescale(asked)),
        "window": _fact(lambda: _window(header)),
        "VOI LUT": _fact(lambda: f"{len(items(header, 'VOILUTSequence'))} table(s)"),
        "applied by the pipeline": {
            "none": "neither window nor VOI LUT",
            "window": "the first window",
            "lut": "the first VOI LUT",
        }[voi],
        "padding": _fact(lambda: _padding(header)),
        "presentation LUT shape": _fact(lambda: _shape(header)),
    }
    if asked.layout:
        turned = asked.layout.photometric_interpretation == "MONOCHROME1"
        facts["turned over"] = "once, over the declared range" if turned else "no"
    return facts


def _fact(say: Callable[[], str]) -> str:
    try:
        return say()
    except RejectedFile as rejected:
        return f"not usable: {rejected.detail}"


def _window(header: Dataset) -> str:
    centers, widths = texts(header, "WindowCenter"), texts(header, "WindowWidth")
    if not centers and not widths:
        return "none"
    function = text(header, "VOILUTFunction").upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        function = "unknown function"
    try:
        first = f"center {float(centers[0]):g}, width {float(widths[0]):g}, {function}"
    except (ValueError, IndexError):
        return f"{len(centers)} center(s) and {len(widths)} width(s) that are no numbers or no pairs"
    return first + (f"; {len(centers)} centers and {len(widths)} widths" if len(centers) > 1 or len(widths) > 1 else "")


def _padding(header: Dataset) -> str:
    value, limit = (texts(header, f"PixelPadding{name}") for name in ("Value", "RangeLimit"))
    try:
        return f"{int(value[0])}" + (f" to {int(limit[0])}" if limit else "") + ", as stored" if value else "none"
    except ValueError:
        return "no number that a pixel could have"


def _shape(header: Dataset) -> str:
    shape = text(header, "PresentationLUTShape").upper()
    return shape if shape in ("IDENTITY", "INVERSE", "LIN OD") else "another word" if shape else "none"
