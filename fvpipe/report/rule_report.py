"""Results of all header rules on one file, and its value mapping in words, for `fvpipe inspect`.

The rules themselves are :data:`fvpipe.dicom.rules.RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from fvpipe.config.formats import RASTER
from fvpipe.dicom.decoding.decoders import find_decoder
from fvpipe.dicom.elements import RejectedFile, silenced, text, texts
from fvpipe.dicom.header import pixel_header
from fvpipe.dicom.image_header import PixelHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.raster.headers import open_image
from fvpipe.dicom.reader import OpenedDicom, OpeningStep, UnopenedFile, open_file
from fvpipe.dicom.rules import DECODING_RULES, RULES, describe_padding, describe_rescale, evaluate_rules
from fvpipe.dicom.rules.base import RuleContext, RuleResult
from fvpipe.dicom.rules.record import image_record
from fvpipe.dicom.rules.views import laterality, patient_orientation
from fvpipe.dicom.value_mapping import InvalidValue, read_modality, read_padding, read_voi_lut, read_window
from fvpipe.dicom.value_table import padding_range
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import NOTHING_STATED, ImageRecord, Laterality, Orientation, StatedImage

IMAGE_FILE = "image file"  # the step in which one that is not DICOM is opened
NEEDED_FOR_PIXELS = {"frames", *(rule.name for rule in DECODING_RULES)}
SHAPES = ("IDENTITY", "INVERSE", "LIN OD")  # of Presentation LUT Shape; other text could be anything


@dataclass(frozen=True, slots=True)
class HeaderReport:
    """Results of all rules on one file's header, in the order of reading."""

    results: tuple[RuleResult, ...]  # of every opening step and every rule
    opened: OpenedDicom | None = None  # None where the file could not be opened
    record: ImageRecord | None = None  # None where the file is rejected
    pixels: PixelHeader | None = None  # None where the pixels cannot be decoded
    why_not_decoded: str = "the file could not be opened"  # empty where they can


def report_header(path: Path, policy: HeaderPolicy, stated: StatedImage = NOTHING_STATED) -> HeaderReport:
    """Evaluate all rules that come before the pixels. Never raises for a bad file."""
    try:
        with open_file(path) as file:
            opened = open_image(file, policy.formats, inverted=policy.inverted)
            return _report(RuleContext(opened, policy, path.name, stated))
    except UnopenedFile as rejected:
        return HeaderReport(_unopened(rejected.step, rejected.reason, rejected.detail))
    except RejectedFile as rejected:
        return HeaderReport(_unopened(IMAGE_FILE, rejected.reason, rejected.detail, [OpeningStep.FILE, IMAGE_FILE]))
    except OSError as error:
        unreadable = Rejection.unreadable("", error)
        return HeaderReport(_unopened(OpeningStep.FILE, unreadable.reason, unreadable.detail))


def _report(context: RuleContext) -> HeaderReport:
    opened = context.opened
    steps = [RuleResult(step, "as expected") for step in OpeningStep]
    steps[list(OpeningStep).index(OpeningStep.TRANSFER_SYNTAX)] = RuleResult("transfer syntax", opened.transfer_syntax_uid)
    if opened.transfer_syntax_uid in RASTER:
        steps = [steps[0], RuleResult(IMAGE_FILE, f"a {opened.transfer_syntax_uid.upper()} file")]
    with silenced():
        results = (*steps, *evaluate_rules(context))
    record = context.fact(image_record)[0] if not any(result.reason for result in results) else None
    rejecting = [result.rule for result in results if result.reason and result.rule in NEEDED_FOR_PIXELS]
    if rejecting:
        return HeaderReport(results, opened, record, None, f"rejected before: {rejecting[0]}")
    try:
        side, orientation = context.facts.get(laterality, Laterality.LEFT), context.facts.get(patient_orientation)
        pixels = pixel_header(opened, side, orientation or Orientation.NOT_GIVEN)
    except RejectedFile as rejected:
        return HeaderReport(results, opened, record, None, rejected.detail)
    return HeaderReport(results, opened, record, pixels, "")


def _unopened(failed: str, reason: Reason, detail: str, steps: Sequence[str] = tuple(OpeningStep)) -> tuple[RuleResult, ...]:
    """Steps before the failed one passed; nothing after it can be asked."""
    at = steps.index(failed)
    passed = [RuleResult(step, "as expected") for step in steps[:at]]
    others = [*steps[at + 1 :], *(rule.name for rule in RULES)]
    not_asked = [RuleResult(name, "the file could not be opened", asked=False) for name in others]
    return (*passed, RuleResult(failed, detail, reason), *not_asked)


# --- the value mapping, which rejects nothing by itself -----------------------------------------------------------------


def value_facts(opened: OpenedDicom, pixels: PixelHeader | None, voi: str) -> dict[str, str]:
    """Describe decoder, rescale, window, VOI LUT, padding and polarity."""
    dataset = opened.dataset
    decoder = find_decoder(opened.transfer_syntax_uid)
    facts = {
        "decoder": decoder.identity if decoder else "none needed",
        "lossy": "yes" if decoder and decoder.lossy else "no",
        "rescale": _fact(lambda: describe_rescale(read_modality(dataset))),
        "window": _fact(lambda: _window(dataset)),
        "VOI LUT": _fact(lambda: _voi_lut(dataset)),
        "applied by the pipeline": {
            "none": "neither window nor VOI LUT",
            "window": "the first window",
            "lut": "the first VOI LUT",
            "auto": "the first of window and VOI LUT that is valid and leaves a range of values",
        }[voi],
        "padding": _fact(lambda: describe_padding(read_padding(dataset))),
        "presentation LUT shape": _fact(lambda: _shape(dataset)),
    }
    if pixels:
        facts["padding"] = _padding(pixels)
        facts["turned over"] = "once, over the declared range" if pixels.mapping.inverted else "no"
    return facts


def _fact(describe: Callable[[], str]) -> str:
    try:
        return describe()
    except RejectedFile as rejected:
        return f"not usable: {rejected.detail}"


def _window(dataset: Dataset) -> str:
    window = read_window(dataset)
    if window is None:
        return "none"
    if isinstance(window, InvalidValue):
        return f"not usable: {window.detail}"
    count = len(texts(dataset, "WindowCenter"))
    more = f"; the first of {count}" if count > 1 else ""
    return f"center {window.center:g}, width {window.width:g}, {window.function}{more}"


def _voi_lut(dataset: Dataset) -> str:
    table = read_voi_lut(dataset)
    if isinstance(table, InvalidValue):
        return f"not usable: {table.detail}"
    return f"{len(dataset.VOILUTSequence)} table(s)" if table else "0 table(s)"


def _padding(pixels: PixelHeader) -> str:
    """Describe the stored values that are padding, beside what the header writes."""
    written, found = describe_padding(pixels.mapping.padding), padding_range(pixels.layout, pixels.mapping.padding)
    if found is None:
        return written if pixels.mapping.padding is None else f"{written}; ignored: no stored value would be padding, or all"
    return f"stored values {found[0]} to {found[1]} ({written})"


def _shape(dataset: Dataset) -> str:
    shape = text(dataset, "PresentationLUTShape").upper()
    return shape if shape in SHAPES else "another word" if shape else "none"
