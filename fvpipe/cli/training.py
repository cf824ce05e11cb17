"""Commands of the training stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fvpipe.cli.options import FILE, FOLDER, device_option, grid_options, json_option, model_option
from fvpipe.cli.output import echo, say
from fvpipe.errors import InputError

if TYPE_CHECKING:
    from fvpipe.evaluation.training_record import Record
    from fvpipe.training.network.model import Classifier
    from fvpipe.training.predict import BreastPrediction


@click.command()
@grid_options
@click.option("--weights", default=None, help="Initial weights: imagenet, none or a file. [train.weights]")
@device_option
@click.option("--fresh", is_flag=True, help="Train anew: ignore a checkpoint and a finished training.")
@json_option
def train(
    pipelines: tuple[str, ...],
    splits: tuple[str, ...],
    models: tuple[str, ...],
    seeds: tuple[int, ...],
    weights: str | None,
    device: str,
    fresh: bool,
    as_json: bool,
) -> None:
    """Train the models of params.yaml on the shards.

    Trains all runs or those named, into cache/models/. An interrupted training
    continues after its last complete epoch.

    \b
    $ fvpipe train --pipeline cropped --split unseen --model cnn
    cropped/unseen/cnn-seed0 (simulated data): 2 epochs, best 1,
    validation AUC 0.625 -> cache/models/cropped/unseen/cnn-seed0
    """
    from fvpipe.evaluation.training_record import no_runs, runs_of
    from fvpipe.project.project import Project
    from fvpipe.training.device import find_device, leave_process_group
    from fvpipe.training.train import train_run

    project = Project()
    chosen = {"pipeline": pipelines, "split": splits, "model": models}
    runs = runs_of(project.params, chosen, seeds)
    if not runs:
        say(f"{no_runs(project.params)}: nothing to train")
        for name in pipelines or project.params.pipelines:  # DVC fails where an output is missing
            (project.models / name).mkdir(parents=True, exist_ok=True)
    execution = find_device(device)
    results = []
    try:
        for run in runs:
            simulated = any(project.params.datasets[name].simulated for name in project.params.split_of(run.split).datasets)
            recipe = project.params.train.recipe(simulated)
            if weights is not None:
                recipe = recipe.model_copy(update={"weights": weights})
            record = train_run(project, run, recipe, execution, say, fresh)
            if execution.rank:
                continue
            auc = record.epochs[record.best_epoch - 1].validation_auc
            dropped = f", {sum(record.dropped.values())} breasts without a sample" if record.dropped else ""
            results.append({"made": record.simulated, "best_epoch": record.best_epoch, "validation_auc": auc, "run": str(run)})
            if not as_json:
                echo(
                    f"{record.title}: {len(record.epochs)} epochs, best {record.best_epoch}, validation AUC "
                    f"{auc:.3f}{dropped} -> {project.models / run.path}"
                )
    finally:
        leave_process_group()
    if as_json and not execution.rank:
        echo(json.dumps(results, indent=1))


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@model_option
@click.option("--adapter", default=None, help="Header rules. [of the project's data set that holds the file, else table]")
@click.option("--pipeline", default=None, help="Reject a model that was trained with another pipeline.")
@click.option("--id-key", type=FILE, default=None, help="Key file for hashed identifiers. [FVPIPE_ID_KEY]")
@click.option("--gradcam", type=FOLDER, default=None, help="Folder for Grad-CAM images, one PNG per breast.")
@device_option
@json_option
def predict(
    files: tuple[Path, ...],
    folder: Path,
    adapter: str | None,
    pipeline: str | None,
    id_key: Path | None,
    gradcam: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Predict malignancy from the files of a breast.

    Prints a probability for each breast with a CC and an MLO view, or with the one
    that the model was trained on. For research only: not a medical device.

    \b
    $ fvpipe predict --model cache/models/cropped/unseen/cnn-seed0 cc.dcm mlo.dcm
    P_00820_L: 0.436 by cropped/unseen/cnn-seed0 (simulated data):
    benign at the threshold of validation, 0.482
    """
    from fvpipe.evaluation.training_record import NOT_A_DEVICE, parts_of, read_trained
    from fvpipe.training.device import find_device
    from fvpipe.training.predict import load_model
    from fvpipe.training.predict import predict as run_model

    model, record = load_model(folder, find_device(device).device)
    project = Path() if Path("params.yaml").is_file() else _project_of(folder) or Path()
    predictions, rejections = run_model(files, model, record, adapter, id_key, pipeline, project)
    known = read_trained(folder).predictions
    results: list[dict[str, Any]] = []
    for prediction in predictions:
        part, of_patient = parts_of(prediction.dataset, prediction.breast.key, known)
        heat = _draw_heat(model, prediction, gradcam) if gradcam is not None else {}
        results.append(_as_result(prediction, part, record.threshold) | {"patient_parts": of_patient} | heat)
    if as_json:
        rejected = [{"what": r.what, "reason": r.reason.value, "detail": r.detail} for r in rejections]
        found = {
            "model": str(record.run),
            "made": record.simulated,
            "use": NOT_A_DEVICE,
            "breasts": results,
            "rejected": rejected,
        }
        echo(json.dumps(found, indent=1))
    else:
        for result in results:
            _show_result(result, record)
        echo(NOT_A_DEVICE)
    for rejection in rejections:
        say(f"  rejected: {rejection.what}: {rejection.reason.value}: {rejection.detail}")
    if not predictions:
        raise InputError("no breast with the views that the model needs among the files; nothing was predicted")


def _project_of(folder: Path) -> Path | None:
    """The project that holds the folder of a model, where one does."""
    return next((place for place in folder.absolute().parents if (place / "params.yaml").is_file()), None)


def _as_result(prediction: BreastPrediction, part: str | None, threshold: float) -> dict[str, Any]:
    """A prediction as ``--json`` prints it; `part` is that of the model's own split that has this breast."""
    above = prediction.probability >= threshold
    return {
        "breast": prediction.breast.key.breast_id,
        "part": part,
        "probability": prediction.probability,
        "threshold": threshold,
        "above_threshold": above,
        "decision": "malignant" if above else "benign",
        "flags": [flag.code for flag in prediction.sample.flags],
    }


def _draw_heat(model: Classifier, prediction: BreastPrediction, folder: Path) -> dict[str, Any]:
    """Draw where a model looks, and tell its peaks in the views."""
    from fvpipe.training.gradcam import draw, heat_map, peaks

    heat = heat_map(model, prediction.image)
    image = folder / f"{prediction.file_digest[:16]}.png"  # an identifier is not a safe file name
    draw(prediction, heat, image)
    tops = peaks(prediction, heat)
    return {
        "gradcam": str(image),
        "peaks": [{"view": p.view.value, "row": round(p.row), "column": round(p.column), "share": p.share} for p in tops],
        "share_outside_views": round(1 - sum(p.share for p in tops), 3) if tops else None,
    }


def _show_result(result: Mapping[str, Any], record: Record) -> None:
    """Print a prediction for people."""
    alike = f"{result['probability']:.3f}" == f"{record.threshold:.3f}"
    digits = 6 if alike else 3  # so that the decision can be seen
    decision = f"{result['decision']} at the threshold of validation, {record.threshold:.{digits}f}"
    echo(f"{result['breast']}: {result['probability']:.{digits}f} by {record.title}: {decision}")
    if result["part"] in ("train", "validation"):
        echo(f"  this breast is in the model's own {result['part']} part: the number says nothing of new ones")
    elif learnt := [part for part in result["patient_parts"] if part != "test"]:
        echo(f"  other breasts or exams of this patient are in the model's own {' and '.join(learnt)} part")
    for peak in result.get("peaks", ()):
        echo(f"  {peak['view']}: {peak['share']:.1%} of the heat, most at row {peak['row']}, column {peak['column']}")
    if "gradcam" in result:
        rest = result["share_outside_views"]
        echo(f"  {'no heat' if rest is None else f'outside the views: {rest:.1%}'} -> {result['gradcam']}")


@click.command()
@model_option
@click.option("--out", type=FILE, required=True, help="ONNX file to write.")
@click.option("--accept-license", is_flag=True, help="Export also where a data set's license forbids to release models.")
@json_option
def export(folder: Path, out: Path, accept_license: bool, as_json: bool) -> None:
    """Write a model as ONNX, checked against PyTorch.

    The file is kept only where onnxruntime and PyTorch agree to 1e-5. A model
    of data whose license forbids to release models is exported for your own
    use, with --accept-license. The licenses of real data are written beside it.

    \b
    $ fvpipe export --model cache/models/cropped/unseen/cnn-seed0 --out model.onnx
    cropped/unseen/cnn-seed0 (simulated data):
    differs from torch by at most 6e-08 -> model.onnx
    """
    import torch

    from fvpipe.io.atomic import write_atomic
    from fvpipe.training.export import export as write
    from fvpipe.training.licenses import license_text, restricting_licenses
    from fvpipe.training.predict import load_model

    model, record = load_model(folder, torch.device("cpu"))
    restricting = restricting_licenses(record, _project_of(folder))
    if restricting and not accept_license:
        shown = "; ".join(f"{name}: {text}" for name, text in restricting.items())
        raise InputError(f"{record.run}: not exported, {shown}. For your own use, call it again with --accept-license")
    difference = write(model, record, out)
    if text := license_text(record, restricting):
        write_atomic(out.with_name(f"{out.name}.license.txt"), text.encode())
    result = {"model": str(record.run), "made": record.simulated, "largest_difference": difference, "out": str(out)}
    text = f"{record.title}: differs from torch by at most {difference:.0e} -> {out}"
    echo(json.dumps(result, indent=1) if as_json else text)
