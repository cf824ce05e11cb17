"""The rules that decide whether a file is accepted by its header, as one list: :data:`RULES`.

Each rule has a check, a function of the opened file and its data set's policy that returns a typed fact or raises
:class:`RejectedFile`. Reading (:func:`check_rules`) stops at the first rule that rejects; `fvpipe inspect`
(:func:`evaluate_rules`) evaluates all of them. Nothing is guessed: a file that breaks a rule is named, counted and left out.

To add a rule, write its check in the module of its topic and add a line to :data:`RULES`. Its place there decides which
reason is reported for a file that breaks several.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fvpipe.dicom.decoding.layout import PixelLocation
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.rules.base import Rule, RuleContext, RuleResult
from fvpipe.dicom.rules.identifiers import identity
from fvpipe.dicom.rules.image_kinds import frames, image_kind, modality, region_of_interest, sop_class
from fvpipe.dicom.rules.pixels import (
    StoredBits,
    bits,
    file_size,
    photometric_interpretation,
    pixel_data,
    pixel_padding,
    rescale,
    size,
)
from fvpipe.dicom.rules.record import image_record
from fvpipe.dicom.rules.views import (
    IMPLANT_DISPLACED,
    laterality,
    magnification,
    partial_view,
    patient_orientation,
    view,
    view_modifiers,
)
from fvpipe.dicom.value_mapping import InvalidValue, LookupTable, PixelPadding, Rescale
from fvpipe.types import Orientation


def describe_bits(found: StoredBits) -> str:
    """Describe the stored bits for `fvpipe inspect`."""
    sign = "signed" if found.signed else "unsigned"
    return f"{found.stored} stored of {found.allocated} allocated, high bit {found.high}, {sign}"


def describe_rescale(found: Rescale | LookupTable) -> str:
    """Describe the Modality LUT or rescale."""
    if isinstance(found, LookupTable):
        return "a Modality LUT, which takes precedence over slope and intercept"
    return f"slope {found.slope:g}, intercept {found.intercept:g}"


def describe_orientation(found: Orientation) -> str:
    """Describe how the pixels lie."""
    if found is Orientation.NOT_GIVEN:
        return "not given: taken as upright"
    if found is Orientation.UNKNOWN:
        return "not given, and the field of view was turned or flipped: taken as upright, and flagged"
    return found.value if found is Orientation.UPRIGHT else f"{found.value.replace('_', ' ')}: put upright"


def describe_location(found: PixelLocation) -> str:
    """Describe where Pixel Data lies."""
    form = "encapsulated" if found.length is None else f"native, {found.length} bytes"
    return f"{form}, from byte {found.offset}{' of the inflated data set' if found.deflated_at is not None else ''}"


def describe_padding(found: PixelPadding | InvalidValue | None) -> str:
    """Describe the padding that the header writes."""
    if found is None:
        return "none"
    if isinstance(found, InvalidValue):
        return f"not usable: {found.detail}"
    return f"{found.first}{f' to {found.last}' if found.last != found.first else ''}, as written"


def view_is_a_name(policy: HeaderPolicy) -> str:
    """Why modifiers and magnification do not apply."""
    return "this data set gives a view by its name alone" if policy.view_in_patient_orientation else ""


def orientation_is_the_view(policy: HeaderPolicy) -> str:
    """Why Patient Orientation does not apply."""
    return "it holds the view in this data set" if policy.view_in_patient_orientation else ""


LAYOUT = (size, photometric_interpretation, bits)
"""Checks whose facts :func:`fvpipe.dicom.rules.pixels.pixel_layout` combines."""

RULES: tuple[Rule[Any], ...] = (
    Rule("SOP class", sop_class, lambda uid: uid or "absent, which is allowed"),
    Rule("modality", modality, lambda term: term or "absent, which is allowed"),
    Rule("frames", frames, str),
    Rule("file size", file_size, lambda size: f"{size} bytes"),
    Rule("region of interest", region_of_interest, lambda _: "no mask or cut-out of a lesion"),
    Rule("image kind", image_kind, str),
    Rule("size", size, lambda shape: f"{shape[0]} rows, {shape[1]} columns"),
    Rule("photometric interpretation", photometric_interpretation, str),
    Rule("bits", bits, describe_bits),
    Rule("rescale", rescale, describe_rescale),
    Rule("view", view, str),
    Rule(
        "view modifiers",
        view_modifiers,
        lambda codes: "implant displaced" if codes & IMPLANT_DISPLACED else "none that changes the view",
        skip=view_is_a_name,
    ),
    Rule("partial view", partial_view, lambda _: "the whole breast", skip=view_is_a_name),
    Rule("magnification", magnification, lambda factor: f"{factor:g} times", skip=view_is_a_name),
    Rule("laterality", laterality, str),
    Rule(
        "patient orientation",
        patient_orientation,
        describe_orientation,
        needs=(view, laterality),
        skip=orientation_is_the_view,
    ),
    Rule("pixel data", pixel_data, describe_location, needs=LAYOUT),
    Rule("identity", identity, lambda _: "given (never shown)"),
    Rule("pixel padding", pixel_padding, describe_padding),
    Rule("other elements", image_record, lambda _: "readable", needs=(image_kind, *LAYOUT, view, laterality, identity)),
)
"""In the order in which a file is checked."""

DECODING_RULES = tuple(rule for rule in RULES if rule.check in (file_size, *LAYOUT, rescale, pixel_data, pixel_padding))
"""Rules whose facts decoding needs."""


def check_rules(context: RuleContext, rules: Iterable[Rule[Any]]) -> None:
    """Check rules in order and keep their facts.

    Raises
    ------
    RejectedFile
        By the first rule that the file breaks.
    """
    for rule in rules:
        if not rule.skip(context.policy):
            context.facts[rule.check] = rule.check(context)


def evaluate_rules(context: RuleContext) -> tuple[RuleResult, ...]:
    """Evaluate every rule of :data:`RULES`, also after one that rejects the file."""
    return tuple(_evaluate(rule, context) for rule in RULES)


def _evaluate(rule: Rule[Any], context: RuleContext) -> RuleResult:
    skipped = rule.skip(context.policy)
    missing = [other.name for other in RULES if other.check in rule.needs and other.check not in context.facts]
    if skipped or missing:
        return RuleResult(rule.name, skipped or f"needs {', '.join(missing)}", asked=False)
    try:
        check_rules(context, [rule])
    except RejectedFile as rejected:
        return RuleResult(rule.name, rejected.detail, rejected.reason)
    return RuleResult(rule.name, rule.describe(context.fact(rule.check)))
