"""What fvpipe makes of one DICOM file and why, and what is in a shard folder."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.datasets.adapter import get_adapter
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.pixels import decode_image
from fvpipe.execution.isolation import Crash, run_alone
from fvpipe.imaging.canvas import frame_level
from fvpipe.imaging.segmentation import GATES, SegmentationTrace, ThresholdAttempt, segment, trace_segmentation
from fvpipe.imaging.view_agreement import HEADER_FLAGS
from fvpipe.io.atomic import write_atomic
from fvpipe.reasons import Flag, Rejection
from fvpipe.report.drawing import draw_histogram, draw_segmentation, encode, side_by_side
from fvpipe.report.rules import HeaderVerdicts, Verdict, ask_header, value_facts
from fvpipe.shards.reader import open_shards
from fvpipe.types import DecodedImage, ImageRecord, Laterality, Segmentation

PIXEL_RULES = ("decoded pixels", "window and VOI LUT")


@dataclass(frozen=True, slots=True)
class PixelTask:
    """What a fresh process is to look at: a decoder may end it."""

    path: str
    laterality: Laterality
    pipeline: Pipeline
    with_png: bool


@dataclass(frozen=True, slots=True)
class PixelAnswer:
    """What it saw, as text and numbers; `facts` is empty where the pixels were rejected."""

    verdicts: tuple[Verdict, ...]
    facts: Mapping[str, Any]
    png: bytes = b""


def inspect_dicom(
    path: Path, adapter_name: str, pipeline_name: str, png: Path | None, timeout: float = 120.0
) -> dict[str, Any]:
    """Every decision on one file, without anything of a patient's identity.

    Parameters
    ----------
    path : Path
    adapter_name, pipeline_name : str
        How its header is read; whose window and segmentation are shown.
    png : Path or None
        Where to draw it.
    timeout : float
        Seconds that the pixels may take, in a process of their own.

    Returns
    -------
    dict
        ``rules`` in the order in which they are asked; ``reason`` and ``detail`` of the first that rejects the file.

    Raises
    ------
    ParameterError
        No such adapter or pipeline.
    StorageError
        `png` cannot be written.
    """
    _, pipeline = load_pipeline(pipeline_name)
    policy = get_adapter(adapter_name).policy
    header = ask_header(path, policy)
    verdicts, facts = [*header.verdicts], dict[str, Any]()
    answer = _pixels(path, header, pipeline, timeout, with_png=png is not None)
    verdicts += answer.verdicts
    if header.record is not None:
        facts["header"] = _header_facts(header.record)
    if header.asked is not None:
        facts["values"] = value_facts(header.asked, pipeline.voi)
    facts |= answer.facts
    if png is not None and answer.png:
        write_atomic(png, answer.png, durable=False)
        facts["image"] = os.fspath(png)
    first = next((verdict for verdict in verdicts if verdict.reason), None)
    found: dict[str, Any] = {"rejected": first is not None}
    if first is not None and first.reason is not None:
        found |= {"reason": first.reason.value, "meaning": first.reason.meaning, "detail": first.found}
    return found | {"rules": [_row(verdict) for verdict in verdicts]} | facts


def _header_facts(record: ImageRecord) -> dict[str, Any]:
    """What rejects nothing, and a user should know."""
    spacing = (record.row_spacing, record.column_spacing)
    return {
        "manufacturer": record.manufacturer or "not given",
        "spacing in mm": "not given" if None in spacing else list(spacing),
        "flagged by the header": [name for name in HEADER_FLAGS.values() if getattr(record, name)],
        "implant displaced": "yes" if record.implant_displaced else "no",
    }


def _row(verdict: Verdict) -> dict[str, str]:
    reason = {"reason": verdict.reason.value} if verdict.reason else {}
    return {"rule": verdict.rule, "verdict": verdict.word, **reason, "found": verdict.found}


def _pixels(path: Path, header: HeaderVerdicts, pipeline: Pipeline, timeout: float, *, with_png: bool) -> PixelAnswer:
    """The pixels' rules and the segmentation, from a process that may die of them."""
    if header.asked is None or header.why_not_decoded:
        return PixelAnswer(tuple(Verdict(rule, header.why_not_decoded, asked=False) for rule in PIXEL_RULES), {})
    task = PixelTask(os.path.abspath(path), header.asked.laterality or Laterality.LEFT, pipeline, with_png)
    answer = run_alone(look_at_pixels, task, timeout)
    if isinstance(answer, Crash):
        rejection = answer.rejection("")
        return PixelAnswer(
            (Verdict(PIXEL_RULES[0], rejection.detail, rejection.reason), Verdict(PIXEL_RULES[1], "no pixels", asked=False)), {}
        )
    return answer


def look_at_pixels(tasks: list[PixelTask]) -> list[PixelAnswer]:
    """In a fresh process: decode, segment and draw."""
    return [_look(task) for task in tasks]


def _look(task: PixelTask) -> PixelAnswer:
    rule, voi_rule = PIXEL_RULES
    try:
        data = Path(task.path).read_bytes()
        image = decode_image(data, task.laterality)  # whole: what is wrong with it shows whatever the pipeline
    except (RejectedFile, OSError) as error:
        rejected = error if isinstance(error, RejectedFile) else Rejection.unreadable("", error)
        return PixelAnswer((Verdict(rule, rejected.detail, rejected.reason), Verdict(voi_rule, "no pixels", asked=False)), {})
    stored = (int(image.stored.min()), int(image.stored.max()))
    verdicts = [Verdict(rule, f"{image.shape[0]} x {image.shape[1]}, stored as {stored[0]} to {stored[1]}")]
    if task.pipeline.voi == "none":
        verdicts.append(Verdict(voi_rule, "this pipeline applies neither", asked=False))
    else:
        try:
            image = decode_image(data, task.laterality, task.pipeline.voi)
            verdicts.append(Verdict(voi_rule, "absent" if Flag.VOI_ABSENT in image.flags else "as it should be"))
        except RejectedFile as rejected:
            verdicts.append(Verdict(voi_rule, rejected.detail, rejected.reason))
            return PixelAnswer(tuple(verdicts), {})
    level = frame_level(image.source_shape, task.pipeline)
    if level:
        image = decode_image(data, task.laterality, task.pipeline.voi, level=level)
    found, seen = segment(image, task.pipeline.segment), trace_segmentation(image, task.pipeline.segment)
    png = encode(side_by_side([draw_segmentation(image, found), draw_histogram(seen)]), ".png") if task.with_png else b""
    return PixelAnswer(tuple(verdicts), _pixel_facts(image, found, seen), png)


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
            "threshold": None if math.isnan(found.threshold) else found.threshold,
            **({} if seen is None or math.isnan(seen.overlap) else {"overlap of both methods": round(seen.overlap, 4)}),
            "area in pixels": None if math.isnan(found.area) else found.area,
            "mean inside": None if math.isnan(found.mean) else found.mean,
            "breast box": list(found.tight_box.as_tuple()),
            "crop box": list(found.box.as_tuple()),
            "flags": flag_names(found.flags | image.flags),
        },
    }


def flag_names(flags: Flag) -> list[str]:
    """The names of the flags of one view."""
    return [str(flag.name).lower().removeprefix("cc_") for flag in flags]


def attempt_facts(attempt: ThresholdAttempt) -> dict[str, Any]:
    """One threshold that was tried, with each gate's measured value and allowed range."""
    return {
        "method": attempt.method,
        "threshold": None if math.isnan(attempt.threshold) else attempt.threshold,
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
    """What a shard folder holds.

    Raises
    ------
    ShardError
        It is damaged, or no shard folder.
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
        "flags": receipt.flags,
        "rejections": receipt.rejections,
        "settings": dict(line.split(": ", 1) for line in receipt.pipeline_yaml.splitlines() if ": " in line),
    }


def file_text(found: Mapping[str, Any]) -> str:
    """What :func:`inspect_dicom` found, for a terminal."""
    lines = []
    if found["rejected"]:
        lines.append(f"rejected: {found['reason']}: {found['detail']}")
    lines += ["rules, in the order in which they are asked"]
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
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _verdict(passes: bool) -> str:
    return "passes" if passes else "fails"


def to_text(found: Mapping[str, Any]) -> str:
    """Aligned lines for a terminal."""
    lines = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(str(part) for part in value) or "none"
        lines.append(f"{key:28}{'none' if value is None else value}")
    return "\n".join(lines)
