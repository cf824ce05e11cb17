"""Every decision on one DICOM file, and the content of a shard folder, for `fvpipe inspect`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvpipe.config.loading import parse_yaml
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.image_header import PixelHeader
from fvpipe.dicom.rules.base import RuleResult
from fvpipe.execution.isolation import Crash, run_alone
from fvpipe.imaging.canvas import frame_level
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.normalize import is_constant
from fvpipe.imaging.segmentation.crop_verdict import LIMITS
from fvpipe.imaging.segmentation.outline import GATES
from fvpipe.imaging.segmentation.segment import Segmentation, SegmentationTrace, trace_segmentation
from fvpipe.imaging.segmentation.threshold_attempts import ThresholdAttempt
from fvpipe.imaging.view_agreement import HEADER_FLAGS, constant_flags
from fvpipe.indexing.single_files import Reading, contradicted
from fvpipe.io.atomic import write_atomic
from fvpipe.printable import escaped
from fvpipe.reasons import Flag, Rejection
from fvpipe.report.drawing import draw_histogram, draw_segmentation, encode, side_by_side
from fvpipe.report.rule_report import HeaderReport, report_header, value_facts
from fvpipe.shards.reader import open_shards
from fvpipe.types import ImageRecord

PIXEL_RULES = ("decoded pixels", "window and VOI LUT")


@dataclass(frozen=True, slots=True)
class PixelTask:
    """An image to decode in a fresh process, which the decoder may crash."""

    path: str  # absolute
    header: PixelHeader
    pipeline: Pipeline
    with_png: bool  # draw it, too


@dataclass(frozen=True, slots=True)
class PixelReport:
    """Results of the pixel rules, and facts as text and numbers; `facts` is empty where the pixels were rejected."""

    results: tuple[RuleResult, ...]
    facts: Mapping[str, Any]
    png: bytes = b""


def inspect_dicom(path: Path, reading: Reading, pipeline_name: str, png: Path | None, timeout: float) -> dict[str, Any]:
    """Every decision on one file, without anything of a patient's identity.

    Parameters
    ----------
    reading : Reading
        How its header is read.
    pipeline_name : str
        Pipeline whose window and segmentation are shown.
    png : Path or None
        Draw the image to this file.
    timeout : float
        Seconds that decoding and segmentation may take, in a process of their own.

    Returns
    -------
    dict
        ``rules`` in the order of reading; ``reason`` and ``detail`` of the first that rejects the file.

    Raises
    ------
    ParameterError
        No such pipeline.
    StorageError
        `png` cannot be written.
    """
    _, pipeline = load_pipeline(pipeline_name)
    header, facts = report_header(path, reading.policy, reading.stated), dict[str, Any]()
    pixels = _pixels(path, header, pipeline, timeout, with_png=png is not None)
    of_table = [reading.rejection] if reading.rejection is not None else []
    if header.record is not None:
        of_table += contradicted([header.record], {header.record.path: reading})
    rows = (RuleResult("label table and path", each.detail, each.reason) for each in of_table)
    results = (*rows, *header.results, *pixels.results)
    if header.record is not None:
        facts["header"] = _header_facts(header.record)
    if header.opened is not None:
        facts["values"] = value_facts(header.opened, header.pixels, pipeline.voi)
    facts |= pixels.facts
    if png is not None and pixels.png:
        write_atomic(png, pixels.png, durable=False)
        facts["image"] = os.fspath(png)
    first = next((result for result in results if result.reason), None)
    found: dict[str, Any] = {"rejected": first is not None}
    if first is not None and first.reason is not None:
        found |= {"reason": first.reason.value, "meaning": first.reason.meaning, "detail": first.found}
    return found | {"rules": [_row(result) for result in results]} | facts


def _header_facts(record: ImageRecord) -> dict[str, Any]:
    """Describe header values that reject nothing and that a user should know."""
    spacing = (record.row_spacing, record.column_spacing)
    return {
        "manufacturer": record.manufacturer or "not given",
        "spacing in mm": "not given" if None in spacing else list(spacing),
        "flagged by the header": [name for name in HEADER_FLAGS.values() if getattr(record, name)],
        "implant displaced": "yes" if record.implant_displaced else "no",
    }


def _row(result: RuleResult) -> dict[str, str]:
    reason = {"reason": result.reason.value} if result.reason else {}
    return {"rule": result.rule, "verdict": result.verdict, **reason, "found": result.found}


def _pixels(path: Path, header: HeaderReport, pipeline: Pipeline, timeout: float, *, with_png: bool) -> PixelReport:
    """Evaluate the pixel rules and the segmentation in a process that the decoder may crash."""
    if header.pixels is None:
        return PixelReport(tuple(RuleResult(rule, header.why_not_decoded, asked=False) for rule in PIXEL_RULES), {})
    task = PixelTask(os.path.abspath(path), header.pixels, pipeline, with_png)
    answer = run_alone(report_pixels, task, timeout)
    return _rejected_pixels(answer.rejection("")) if isinstance(answer, Crash) else answer


def _rejected_pixels(rejected: Rejection | RejectedFile) -> PixelReport:
    rule, voi_rule = PIXEL_RULES
    results = (RuleResult(rule, rejected.detail, rejected.reason), RuleResult(voi_rule, "no pixels", asked=False))
    return PixelReport(results, {})


def report_pixels(tasks: list[PixelTask]) -> list[PixelReport]:
    """In a fresh process: decode, segment and draw."""
    return [_report_pixels(task) for task in tasks]


def _report_pixels(task: PixelTask) -> PixelReport:
    rule, voi_rule = PIXEL_RULES
    try:
        data = Path(task.path).read_bytes()
        image = decode_image(data, task.header)  # whole, so that all damage shows whatever the pipeline
    except RejectedFile as rejected:
        return _rejected_pixels(rejected)
    except OSError as error:
        return _rejected_pixels(Rejection.unreadable("", error))
    stored = (int(image.stored.min()), int(image.stored.max()))
    results = [RuleResult(rule, f"{image.shape[0]} x {image.shape[1]}, stored as {stored[0]} to {stored[1]}")]
    voi = task.pipeline.voi
    if voi == "none":
        results.append(RuleResult(voi_rule, "this pipeline applies neither", asked=False))
    else:
        try:
            image = decode_image(data, task.header, voi)
            results.append(RuleResult(voi_rule, "absent" if Flag.VOI_ABSENT in image.flags else "as expected"))
        except RejectedFile as rejected:
            return PixelReport((*results, RuleResult(voi_rule, rejected.detail, rejected.reason)), {})
    level = frame_level(image.source_shape, task.pipeline)
    if level:
        image = decode_image(data, task.header, voi, level=level)
    found, seen = trace_segmentation(image, task.pipeline.segment)
    png = encode(side_by_side([draw_segmentation(image, found), draw_histogram(image, seen)]), ".png") if task.with_png else b""
    return PixelReport(tuple(results), _pixel_facts(image, found, seen), png)


def _pixel_facts(image: DecodedImage, found: Segmentation, seen: SegmentationTrace | None) -> dict[str, Any]:
    return {
        "image facts": {
            "rows, columns": list(image.source_shape),
            **({"decoded at 1 pixel of": f"{image.scale} x {image.scale}"} if image.scale > 1 else {}),
            "stored values": [int(image.stored.min()), int(image.stored.max())],
            "values": [float(image.values[image.stored].min()), float(image.values[image.stored].max())],
            "chest wall expected": image.chest_wall.value,
            "source digest": image.source_digest,
            "pixel digest": image.pixel_digest,
        },
        "attempts": [attempt_facts(attempt) for attempt in seen.attempts] if seen else [],
        "segmentation": {
            "method": found.method,
            "verdict": found.verdict.value,
            **{name: round(found.gates[name], 4) for name in LIMITS if name in found.gates},
            "threshold": None if math.isnan(found.threshold) else found.threshold,
            **({} if seen is None or math.isnan(seen.overlap) else {"overlap of both methods": round(seen.overlap, 4)}),
            "area in pixels": None if math.isnan(found.area) else found.area,
            "mean inside": None if math.isnan(found.mean) else found.mean,
            "breast box": list(found.tight_box.as_tuple()),
            "crop box": list(found.box.as_tuple()),
            "flags": view_flag_codes(constant_flags(found.flags | image.flags, [is_constant(image)])),
        },
    }


def view_flag_codes(flags: Flag) -> list[str]:
    """Return the codes of the flags of one image, which are those of a CC."""
    return [flag.code.removeprefix("cc_") for flag in flags]


def attempt_facts(attempt: ThresholdAttempt) -> dict[str, Any]:
    """Describe one threshold that was tried: each quality gate's measured value and allowed range."""
    return {
        "method": attempt.method,
        "threshold": None if math.isnan(attempt.threshold) else attempt.threshold,
        "background": "uneven" if attempt.background.fit is not None else "one level",
        "passes": attempt.passes,
        "gates": {
            name: {
                "measured": round(value, 4),
                "allowed": list(GATES[name]),
                "passes": GATES[name][0] <= value <= GATES[name][1],
            }
            for name, value in attempt.gates.items()
        },
    }


def inspect_shards(folder: Path) -> dict[str, Any]:
    """Describe the content of a shard folder.

    Raises
    ------
    ShardError
        The folder is damaged, or is not a shard folder.
    """
    opened = open_shards(folder)
    receipt = opened.receipt
    return {
        "folder": os.fspath(folder),
        "data set": receipt.dataset + (" (simulated data)" if receipt.simulated else ""),
        "license": receipt.license,
        "pipeline": receipt.pipeline,
        "pipeline digest": receipt.pipeline_digest,
        "preprocessing version": receipt.preprocessing_version,
        "samples": receipt.samples,
        "patients": len(set(opened.patient_ids.tolist())),
        "image": {
            "shape": list(opened.image_shape),
            "files": len(receipt.shards),
            "bytes": sum(e.bytes for e in receipt.shards),
        },
        "labels": receipt.labels,
        **({"known targets": {form.name: form.known for form in receipt.targets}} if receipt.targets else {}),
        "flags": receipt.flags,
        "rejections": receipt.rejections,
        "settings": parse_yaml(receipt.pipeline_yaml, f"{folder}: pipeline_yaml"),
    }


def file_text(found: Mapping[str, Any]) -> str:
    """Format the result of :func:`inspect_dicom` for a terminal."""
    lines = []
    if found["rejected"]:
        lines.append(f"rejected: {found['reason']}: {found['detail']}")
    lines += ["rules, in the order of reading"]
    for row in found["rules"]:
        reason = f"{row['reason']}: " if "reason" in row else ""
        lines.append(f"  {row['verdict']:10}{row['rule']:28}{reason}{row['found']}")
    for title in ("header", "values", "image facts"):
        if title in found:
            lines += [title, *(f"  {line}" for line in to_text(found[title]).splitlines())]
    for attempt in found.get("attempts", []):
        lines.append(f"{attempt['method']}: threshold {_number(attempt['threshold'])}, {_verdict(attempt['passes'])}")
        for name, gate in attempt["gates"].items():
            low, high = gate["allowed"]
            lines.append(f"  {_verdict(gate['passes']):8}{name:15}{gate['measured']:<9g}allowed {low:g} to {high:g}")
        if not attempt["gates"]:
            lines.append("  nothing lies above it")
    if "segmentation" in found:
        lines += ["segmentation", *(f"  {line}" for line in to_text(found["segmentation"]).splitlines())]
    if "image" in found:
        lines.append(f"image -> {found['image']}")
    return "\n".join(map(escaped, lines))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _verdict(passes: bool) -> str:
    return "passes" if passes else "fails"


def to_text(found: Mapping[str, Any]) -> str:
    """Format as aligned lines for a terminal."""
    lines = []
    for key, value in found.items():
        if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
            lines += [escaped(key), *(f"  {line}" for line in to_text(_by_whole_names(value)).splitlines())]
            continue
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(str(part) for part in value) or "none"
        lines.append(escaped(f"{key:28}{'none' if value is None else value}"))
    return "\n".join(lines)


def _by_whole_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by names as `segment.method`: those of different topics have names in common."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, Mapping) else {key: value}
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in found.items()}
