"""Image file -> :class:`ImageHeader`, or a :class:`Rejection` by the first rule of :mod:`fvpipe.dicom.rules` it breaks."""

from __future__ import annotations

from pathlib import Path

from fvpipe.dicom.attributes import has_overlay_in_pixels
from fvpipe.dicom.elements import RejectedFile, silenced, text
from fvpipe.dicom.image_header import ImageHeader, PixelHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.raster.headers import open_image
from fvpipe.dicom.reader import OpenedDicom, open_file, stream
from fvpipe.dicom.rules import DECODING_RULES, RULES, check_rules
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.dicom.rules.identifiers import identity
from fvpipe.dicom.rules.pixels import photometric_interpretation, pixel_data, pixel_layout, pixel_padding, rescale
from fvpipe.dicom.rules.record import image_record
from fvpipe.dicom.rules.views import laterality
from fvpipe.dicom.value_mapping import ValueMapping, read_voi_lut, read_window
from fvpipe.reasons import Rejection
from fvpipe.types import NOTHING_STATED, Edge, Laterality, Orientation, StatedImage


def read_header(root: Path, path: str, policy: HeaderPolicy, stated: StatedImage = NOTHING_STATED) -> ImageHeader | Rejection:
    """Read the header of ``root / path`` from disk, without reading the pixels.

    Parameters
    ----------
    root : Path
        The input folder.
    path : str
        POSIX path relative to it.
    policy : HeaderPolicy
        How headers of the data set are read.
    stated : StatedImage
        What label table and path say of the image.

    Returns
    -------
    ImageHeader or Rejection
        Never raises for a bad file, whatever its bytes.
    """
    try:
        with open_file(root / path) as file:
            opened = open_image(file, policy.formats, inverted=policy.inverted)
            return _image_header(RuleContext(opened, policy, path, stated))
    except RejectedFile as rejected:
        return Rejection(path, rejected.reason, rejected.detail)
    except OSError as error:
        return Rejection.unreadable(path, error)


def read_breast(
    root: Path, path: str, policy: HeaderPolicy, stated: StatedImage = NOTHING_STATED
) -> tuple[tuple[str, str, Laterality], str, str] | None:
    """Read of which breast an image is, whatever rejects it: (patient, study, side), UID, Modality.

    Parameters are those of :func:`read_header`. None where its header, label table and path do not say so.

    Raises
    ------
    OSError
        The file cannot be read, this time.
    """
    try:
        with open_file(root / path) as file, silenced():
            context = RuleContext(open_image(file, policy.formats, inverted=policy.inverted), policy, path, stated)
            instance = policy.identifier("instance", text(context.dataset, "SOPInstanceUID"))
            return (*identity(context), laterality(context)), instance, text(context.dataset, "Modality")
    except RejectedFile:
        return None


def parse_header(
    data: bytes | memoryview, path: str, policy: HeaderPolicy, stated: StatedImage = NOTHING_STATED
) -> ImageHeader:
    """Parse the header in a file's bytes; `path` is that of the record, and `stated` as for :func:`read_header`.

    Raises
    ------
    RejectedFile
        The file breaks a rule.
    """
    opened = open_image(stream(data), policy.formats, inverted=policy.inverted)
    return _image_header(RuleContext(opened, policy, path, stated))


def pixel_header(opened: OpenedDicom, laterality: Laterality, orientation: Orientation = Orientation.NOT_GIVEN) -> PixelHeader:
    """Parse the values that decoding needs, whether or not the file is an accepted mammogram.

    Parameters
    ----------
    opened : OpenedDicom
        The file.
    laterality : Laterality
        The side of the breast, for the chest wall.
    orientation : Orientation
        How the stored pixels lie.

    Raises
    ------
    RejectedFile
        The file breaks a rule of :data:`fvpipe.dicom.rules.DECODING_RULES`.
    """
    context = RuleContext(opened, HeaderPolicy())
    with silenced():
        check_rules(context, DECODING_RULES)
        return _pixel_header(context, laterality, orientation)


def _image_header(context: RuleContext) -> ImageHeader:
    with silenced():
        check_rules(context, RULES)
        record, date = context.fact(image_record)
        found = _pixel_header(context, record.laterality, record.orientation)
    return ImageHeader(
        found.layout, found.location, found.mapping, found.chest_wall, found.orientation, found.overlay_in_pixels, record, date
    )  # fmt: skip


def _pixel_header(context: RuleContext, laterality: Laterality, orientation: Orientation) -> PixelHeader:
    """Combine the facts of :data:`fvpipe.dicom.rules.DECODING_RULES`, all of which passed."""
    dataset = context.dataset
    mapping = ValueMapping(
        modality=context.fact(rescale),
        window=read_window(dataset),
        voi_lut=read_voi_lut(dataset),
        inverted=context.fact(photometric_interpretation) == "MONOCHROME1",
        padding=context.fact(pixel_padding),
    )
    return PixelHeader(
        layout=pixel_layout(context),
        location=context.fact(pixel_data),
        mapping=mapping,
        chest_wall=Edge.of(laterality),
        orientation=orientation,
        overlay_in_pixels=has_overlay_in_pixels(dataset),
    )
