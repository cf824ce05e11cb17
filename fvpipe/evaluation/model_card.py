"""A model card for each (pipeline, split, model): what it was made from, what it scores, and what it is not for."""

from __future__ import annotations

from typing import Any

from fvpipe.evaluation.metrics import FIGURES
from fvpipe.evaluation.record import NOT_A_DEVICE, Record
from fvpipe.evaluation.text import shown


def card(row: dict[str, Any], record: Record) -> str:
    """As Markdown.

    Parameters
    ----------
    row : dict
        From :func:`fvpipe.evaluation.evaluate.row`.
    record : Record
        Of its first seed.
    """
    made = ["> **Simulated data.** Trained and tested on drawn images of no patient: nothing here holds for real ones.", ""]
    sections = (
        [f"# {record.run.pipeline} / {record.run.split} / {record.run.model}", "", f"**{NOT_A_DEVICE}**", ""],
        made if record.made else [],
        _use(record),
        _data(row, record),
        _training(row, record),
        _figures(row),
        _beside(row),
        _subgroups(row),
        _limits(row),
    )
    return "\n".join(line for section in sections for line in section).rstrip() + "\n"


def _use(record: Record) -> list[str]:
    channels, rows, columns = record.image_shape
    return [
        "## What it is for",
        "",
        f"It takes the CC and MLO mammogram of one breast, fused by the pipeline `{record.run.pipeline}` into {channels} x "
        f"{rows} x {columns} values in [0, 1], and gives a number between 0 and 1: more means more like the breasts that its "
        "data sets call malignant. It is for research on preprocessing and generalisation, not for diagnosis, screening or "
        "triage.",
        "",
        f"Pipeline digest `{record.pipeline_digest}`, preprocessing version {record.preprocessing_version}: `fvpipe predict` "
        "rejects any other.",
        "",
    ]


def _data(row: dict[str, Any], record: Record) -> list[str]:
    lines = ["## Data", "", "| data set | licence |", "|---|---|"]
    lines += [f"| {name} | {record.licenses[name]} |" for name in record.datasets]
    lines += [
        "",
        f"Split `{record.run.split}` (setting `{record.setting}`):",
        "",
        "| part | benign | malignant |",
        "|---|---|---|",
    ]
    lines += [f"| {part} | {count.benign} | {count.malignant} |" for part, count in record.parts.items()]
    dropped = ", ".join(f"{count} {reason}" for reason, count in record.dropped.items()) or "none"
    seen = "A patient's other breast may be in training. " if record.setting == "seen" else "No patient is in two parts. "
    return [*lines, "", f"{seen}Breasts without a sample: {dropped}. Test patients: {row['patients']}.", ""]


def _training(row: dict[str, Any], record: Record) -> list[str]:
    recipe = record.recipe
    stops = ", ".join(str(best + 1) for best in row["best_epochs"])
    return [
        "## Training",
        "",
        f"{record.parameters:,} parameters, beginning from: {record.weights}. Adam, learning rate {recipe.lr:g} "
        f"({recipe.schedule}), batch {recipe.batch}, {recipe.min_epochs} to {recipe.epochs} epochs, patience "
        f"{recipe.patience} on validation AUC, imbalance `{recipe.imbalance}`, precision {recipe.precision}, on "
        f"{record.device} with torch {record.torch}. "
        f"Seeds: {', '.join(map(str, row['seeds']))}; best epochs: {stops}.",
        "",
    ]


def _figures(row: dict[str, Any]) -> list[str]:
    lines = [
        "## Test figures",
        "",
        f"{row['breasts']} breasts, {row['malignant']} malignant; malignant is positive, threshold 0.5; 95 % intervals from "
        "resampled patients.",
        "",
        "| figure | value | interval |",
        "|---|---|---|",
    ]
    for name in FIGURES:
        low, high = row["intervals"][name]
        lines.append(f"| {name.replace('_', ' ')} | {shown(row[name])} | {shown(low)} to {shown(high)} |")
    frozen = row["at_frozen_threshold"]
    cuts = ", ".join(shown(threshold) for threshold in frozen["thresholds"])
    benign = row["benign_positive"]
    return [
        *lines,
        "",
        f"TP {row['tp']}, FP {row['fp']}, FN {row['fn']}, TN {row['tn']}"
        + (" (seeds added)." if len(row["seeds"]) > 1 else "."),
        f"At the threshold chosen on validation ({cuts}): recall {shown(frozen['recall']['value'])}, specificity "
        f"{shown(frozen['specificity']['value'])}, F1 {shown(frozen['f1']['value'])}.",
        f"With benign as positive: precision {shown(benign['precision'])}, recall {shown(benign['recall'])}, F1 "
        f"{shown(benign['f1'])}.",
        "",
        "Calibration (predicted and found share of malignant):",
        "",
        "| probability | predictions | mean | malignant |",
        "|---|---|---|---|",
        *(
            f"| {b['from']:.2f} to {b['to']:.2f} | {b['predictions']} | {shown(b['mean_probability'])} | "
            f"{shown(b['share_malignant'])} |"
            for b in row["calibration"]
        ),
        "",
    ]


def _beside(row: dict[str, Any]) -> list[str]:
    lines = ["## Without an image", "", "| shortcut, fitted on the training part | accuracy | F1 | AUC |", "|---|---|---|---|"]
    lines += [
        f"| {floor['shortcut']} | {shown(floor['accuracy'])} | {shown(floor['f1'])} | {shown(floor['auc'])} |"
        for floor in row["floors"]
    ]
    above = row["above_floors"]
    if above:
        verdict = "is above" if above["proved"] else "is **not proved to be above**"
        lines += ["", f"The model {verdict} the best of them, '{above['shortcut']}' (DeLong, 95 %)."]
    return [*lines, ""]


def _subgroups(row: dict[str, Any]) -> list[str]:
    lines = ["## Subgroups", "", "| group | breasts | AUC | recall | specificity |", "|---|---|---|---|---|"]
    for group in row["subgroups"]:
        name = f"{group['by']}: {group['group']}"
        if "suppressed" in group:
            lines.append(f"| {name} | {group['suppressed']} | | | |")
        else:
            cells = " | ".join(
                f"{shown(group[f]['value'])} ({shown(group[f]['low'])} to {shown(group[f]['high'])})"
                for f in ("auc", "recall", "specificity")
            )
            lines.append(f"| {name} | {group['breasts']} | {cells} |")
    return [*lines, ""]


def _limits(row: dict[str, Any]) -> list[str]:
    return [
        "## Limits",
        "",
        "- A data set's label is not a diagnosis: in VinDr-Mammo it is a reading (BI-RADS), in CMMD a biopsy of selected "
        "patients.",
        "- The image is 256 rows and columns by default: microcalcifications are lost in it.",
        "- The probability is calibrated, if at all, to the share of malignant breasts in its own training data.",
        "- Only data sets, ages, densities and machines named above were seen; where a group is small nothing is known of it.",
        *(
            ["- Some patients have one breast in training and the other in test (the paper's setting 1)."]
            if row["setting"] == "seen"
            else []
        ),
        "",
    ]
