"""Train one model: the paper's recipe, the same weights for the same seed and device, whatever kills it on the way.

Every random draw of an epoch comes from generators seeded by (seed, epoch), so that a checkpoint at the end of each epoch
is all that going on needs. It lies in ``cache/checkpoints``, outside what DVC deletes before a stage runs.
"""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fvpipe.config.loading import digest_of
from fvpipe.config.training import Recipe
from fvpipe.errors import CheckpointError, FvpipeError, TrainingError
from fvpipe.evaluation.metrics import roc_auc, youden_threshold
from fvpipe.evaluation.record import (
    PREDICTIONS,
    RECORD,
    WEIGHTS,
    Counts,
    Epoch,
    Record,
    Run,
    predictions_table,
    read_trained,
    titled,
)
from fvpipe.evaluation.splits import Part
from fvpipe.io.atomic import write_atomic
from fvpipe.io.locking import lock
from fvpipe.progress import progress
from fvpipe.project.project import Project
from fvpipe.training.data import Cohort, load_cohort
from fvpipe.training.device import Place, be_deterministic, device_name, from_first, own_share, sum_over, wait_for_all
from fvpipe.training.feed import Feed, augment
from fvpipe.training.model import Classifier, build_model, freeze_all_but_head, probability
from fvpipe.training.recipe import class_weight_of, learning_rate, loss_sum, sample_order, seed_of

Say = Callable[[str], None]
PREDICT_BATCH = 64


def train_run(project: Project, run: Run, recipe: Recipe, place: Place, say: Say, fresh: bool = False) -> Record:
    """Train one model and leave it in ``cache/models``.

    Parameters
    ----------
    project : Project
    run : Run
    recipe : Recipe
    place : Place
    say : callable
        Told of an epoch, and of a run that is taken up again.
    fresh : bool
        Ignore a checkpoint.

    Returns
    -------
    Record

    Raises
    ------
    CheckpointError
        The checkpoint that is there belongs to another configuration, or the first weights cannot be had.
    TrainingError
        A loss that is no number; the last good checkpoint is kept.
    InputError, LeakError, ShardError
        From :func:`fvpipe.training.data.load_cohort`.
    """
    cohort = load_cohort(project, run.pipeline, run.split)
    checkpoint = project.folder / "cache" / "checkpoints" / f"{run.path}.pt"
    alone: AbstractContextManager[None] = lock(checkpoint.with_suffix(".lock"), say) if place.rank == 0 else nullcontext()
    with alone:
        training = Training(cohort, run, recipe, place)
        finished = None if fresh else _finished(project.folder / "cache" / "models" / run.path, training)
        if finished is not None:
            say(f"{run}: nothing that decides its weights has changed since it was trained")
            return finished
        if not fresh:
            training.resume(checkpoint, say)
        wait_for_all(place)  # the first process will write the checkpoint, and remove it: all have read it by now
        training.fit(checkpoint, say)
        record = _record(project, training)
        if place.rank == 0:
            _write(project.folder / "cache" / "models" / run.path, training, record)
            checkpoint.unlink(missing_ok=True)
    return record


class Training:
    """The state of one training, from epoch to epoch.

    Parameters
    ----------
    cohort : Cohort
    run : Run
    recipe : Recipe
    place : Place
    """

    def __init__(self, cohort: Cohort, run: Run, recipe: Recipe, place: Place) -> None:
        self.cohort, self.run, self.recipe, self.place = cohort, run, recipe, place
        self.made = any(shards.receipt.simulated for shards in cohort.shards)
        be_deterministic(recipe.deterministic)
        cuda = place.device.type == "cuda"
        self.memory_format = torch.channels_last  # quicker on either device
        model, self.weights = build_model(run.model, recipe, cohort.image_shape, run.seed)
        if recipe.fine_tune == "head":
            freeze_all_but_head(model.net)
        self.model: Classifier = model.to(device=place.device).to(memory_format=self.memory_format)
        if cuda and place.world > 1:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(
            trained, recipe.lr, recipe.betas, recipe.eps, recipe.weight_decay, fused=True if cuda else None
        )
        step: nn.Module = self.model
        if place.world > 1:
            ids = [place.device.index] if cuda else None
            step = nn.parallel.DistributedDataParallel(self.model, device_ids=ids, gradient_as_bucket_view=True)
        self.step: Any = torch.compile(step, mode=recipe.compile) if recipe.compile != "none" else step
        feed = partial(Feed, cohort, device=place.device, memory_format=self.memory_format)
        self.feed, self.validation = feed(cohort.indices(Part.TRAIN)), feed(cohort.indices(Part.VALIDATION))
        self.class_weight = class_weight_of(self.feed.labels, recipe).to(place.device)
        self.epochs: list[Epoch] = []
        self.best_epoch = -1
        self.best: dict[str, Tensor] = {}

    # --- epochs ---

    def fit(self, checkpoint: Path, say: Say) -> None:
        """Go on until the schedule ends or validation gets no better; then the best weights are in the model."""
        begun = len(self.epochs)
        with progress(str(self.run), self.recipe.epochs - begun, "epochs") as advance:
            while len(self.epochs) < self.recipe.epochs and not self._stops():
                epoch = self._try_epoch()
                self.epochs.append(epoch)
                if self.best_epoch < 0 or epoch.validation_auc > self.epochs[self.best_epoch].validation_auc:
                    self.best_epoch, self.best = len(self.epochs) - 1, _copy(self.model.net.state_dict())
                if self.place.rank == 0:
                    self._save(checkpoint)
                    say(
                        f"{titled(self.run, self.made)}: epoch {len(self.epochs)}, loss {epoch.loss:.4f}, validation AUC "
                        f"{epoch.validation_auc:.3f}"
                    )
                advance(1)
        self.model.net.load_state_dict(self.best)

    def _stops(self) -> bool:
        done = len(self.epochs)
        waited = done - 1 - self.best_epoch
        return from_first(done >= self.recipe.min_epochs and waited >= self.recipe.patience, self.place)

    def _try_epoch(self) -> Epoch:
        try:
            return self._epoch(len(self.epochs))
        except torch.OutOfMemoryError:
            what, advice = "the device has not enough memory", f"a smaller train.batch than {self.recipe.batch}"
        except RuntimeError as error:
            if "does not have a deterministic implementation" not in str(error):
                raise
            what, advice = str(error).split(",")[0], "train.deterministic: false"
        raise TrainingError(
            f"{self.run}: {what}; the checkpoint of epoch {len(self.epochs)} is kept. Try {advice}, and --fresh"
        )

    def _epoch(self, epoch: int) -> Epoch:
        lr = learning_rate(self.recipe, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        generator = torch.Generator().manual_seed(seed_of(self.run.seed, "order", epoch))
        changes = torch.Generator().manual_seed(seed_of(self.run.seed, "augment", epoch))
        torch.manual_seed(seed_of(self.run.seed, f"dropout {self.place.rank}", epoch))
        self.model.train()
        order = sample_order(self.feed.cohort.labels[self.feed.indices], self.recipe, generator)
        whole = order.split(self.recipe.batch)
        chunks = [own_share(chunk, self.place) for chunk in whole]
        total = torch.zeros((), device=self.place.device)
        for (images, labels), chunk, batch in zip(self.feed.batches([c for c, _ in chunks]), chunks, whole, strict=True):
            total += self.take_step(augment(images, self.recipe.augment, changes), labels, len(batch), counted=chunk[1])
        loss = sum_over(total, self.place).item() / len(order)
        truth, score, validation_loss = self.validate()
        if not math.isfinite(loss + validation_loss) or not np.isfinite(score).all():
            raise TrainingError(
                f"{self.run}: epoch {epoch + 1} ended with a loss of {loss} (validation {validation_loss}), or outputs that "
                f"are no numbers; the checkpoint of epoch {epoch} is kept. Try --fresh with a smaller train.lr, or in fp32"
            )
        area = roc_auc(truth, score)
        assert area is not None  # `load_cohort` saw both classes
        return Epoch(lr=lr, loss=loss, validation_loss=validation_loss, validation_auc=area)

    def take_step(self, images: Tensor, labels: Tensor, batch: int, counted: bool = True) -> Tensor:
        """One step of Adam; returns the summed loss of these images, on the device, without waiting for it.

        Parameters
        ----------
        batch : int
            Images of the whole batch, on all processes.
        counted : bool
            False: these images only keep this process in step with the others.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            logits = self.step(images)
        loss: Any = loss_sum(logits, labels, self.class_weight) * float(counted)
        (loss * self.place.world / batch).backward()  # DistributedDataParallel takes the mean over processes
        self.optimizer.step()
        return loss.detach()  # type: ignore[no-any-return]

    def autocast(self) -> AbstractContextManager[Any]:
        """Of the recipe's precision."""
        return torch.autocast(self.place.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def validate(self) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
        """Labels, probabilities and mean loss of the validation part."""
        logits = predict_logits(self.model, self.validation)
        labels = self.validation.labels
        loss = loss_sum(logits, labels, self.class_weight).item() / len(labels)
        return labels.cpu().numpy(), probability(logits).double().cpu().numpy(), loss

    # --- checkpoints ---

    def configuration(self) -> dict[str, Any]:
        """Whatever decides the weights, by name."""
        return {
            "pipeline": self.run.pipeline, "split": self.run.split, "model": self.run.model, "seed": self.run.seed,
            **{f"train.{name}": value for name, value in self.recipe.model_dump(mode="json").items()},
            "split and shards": self.cohort.content, "first weights": self.weights, "processes": self.place.world,
            "device": device_name(self.place.device), "torch": torch.__version__,
            "code": _code_digest(),
            "threads": torch.get_num_threads() if self.place.device.type == "cpu" else 0,  # sums are split among them
        }  # fmt: skip

    def _save(self, path: Path) -> None:
        state = {
            "configuration": json.dumps(self.configuration()),
            "epochs": json.dumps([epoch.model_dump() for epoch in self.epochs]),
            "best_epoch": self.best_epoch,
            "net": self.model.net.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
        }
        file = io.BytesIO()
        torch.save(state, file)
        write_atomic(path, file.getvalue())

    def resume(self, path: Path, say: Say) -> None:
        """Take up a checkpoint, where there is one of this very configuration.

        Raises
        ------
        CheckpointError
        """
        if not path.is_file():
            return
        advice = f"remove it ({path}) or train with --fresh"
        try:
            state = torch.load(path, self.place.device, weights_only=True)
            if not isinstance(state, dict):
                raise TypeError
            found, epochs = dict(json.loads(state["configuration"])), json.loads(state["epochs"])
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(
                f"{path}: cannot be read as a checkpoint, or holds more than numbers ({type(error).__name__}); {advice}"
            ) from None
        expected = json.loads(json.dumps(self.configuration()))
        differing = [name for name in expected if found.get(name) != expected[name]]
        if differing:
            shown = ", ".join(f"{name} was {_short(found.get(name))} and is {_short(expected[name])}" for name in differing[:4])
            raise CheckpointError(f"the unfinished training of {self.run} had another configuration: {shown}; {advice}")
        self.model.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epochs = [Epoch(**epoch) for epoch in epochs]
        self.best_epoch, self.best = state["best_epoch"], state["best"]
        say(f"{self.run}: goes on after epoch {len(self.epochs)}")


@torch.inference_mode()
def predict_logits(model: Classifier, feed: Feed) -> Tensor:
    """(n, outputs), in single precision, whatever the training used."""
    model.eval()
    places = torch.arange(len(feed)).split(PREDICT_BATCH) if len(feed) else ()
    found = [model(images).float() for images, _ in feed.batches(list(places))]
    return torch.cat(found) if found else torch.zeros(0, 2, device=feed.device)


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


# --- what is left -----------------------------------------------------------------------------------------------------


def _record(project: Project, training: Training) -> Record:
    cohort, run = training.cohort, training.run
    receipts = [shards.receipt for shards in cohort.shards]
    truth, score, _ = training.validate()
    threshold = youden_threshold(truth, score)
    assert threshold is not None  # `load_cohort` saw both classes
    counts = {
        part.value: Counts(benign=int((cohort.labels[i] == 0).sum()), malignant=int((cohort.labels[i] == 1).sum()))
        for part in Part
        for i in [cohort.indices(part)]
    }
    return Record(
        run=run,
        setting=project.params.split_of(run.split).setting,
        datasets=tuple(receipt.dataset for receipt in receipts),
        adapters={receipt.dataset: project.params.datasets[receipt.dataset].adapter for receipt in receipts},
        licenses={receipt.dataset: receipt.license for receipt in receipts},
        made=training.made,
        pipeline_yaml=receipts[0].pipeline_yaml,
        pipeline_digest=receipts[0].pipeline_digest,
        preprocessing_version=receipts[0].preprocessing_version,
        image_shape=cohort.image_shape,
        parts=counts,
        dropped=cohort.dropped,
        recipe=training.recipe,
        weights=training.weights,
        parameters=sum(parameter.numel() for parameter in training.model.parameters()),
        epochs=tuple(training.epochs),
        best_epoch=training.best_epoch,
        threshold=threshold,
        device=device_name(training.place.device),
        torch=str(torch.__version__),
        configuration=digest_of(training.configuration()),
    )


def _finished(folder: Path, training: Training) -> Record | None:
    """The record of a training that this one would only repeat (a data set elsewhere in the project changed, say)."""
    try:
        found = read_trained(folder)
    except FvpipeError:
        return None
    same = found.record.configuration == digest_of(training.configuration()) and (folder / WEIGHTS).is_file()
    return found.record if same and len(found.predictions) == len(training.cohort.breasts) else None


def _code_digest() -> str:
    """Of the modules that decide the weights, as they stand."""
    names = ("data", "device", "model", "recipe", "train")
    return digest_of([Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in names])


def _write(folder: Path, training: Training, record: Record) -> None:
    """Weights, predictions and, last, the record."""
    from safetensors.torch import save

    cohort = training.cohort
    predictions = list(cohort.breasts)
    for part in (Part.VALIDATION, Part.TEST):
        indices = cohort.indices(part)
        feed = Feed(cohort, indices, training.place.device, training.memory_format)
        scores = probability(predict_logits(training.model, feed)).double().cpu().tolist()
        for i, score in zip(indices, scores, strict=True):
            predictions[i] = replace(predictions[i], probability=score)
    state = {name: value.cpu().contiguous() for name, value in sorted(training.model.net.state_dict().items())}
    (folder / RECORD).unlink(missing_ok=True)
    write_atomic(folder / WEIGHTS, save(state, {"fvpipe": record.to_json()}))
    write_atomic(folder / PREDICTIONS, predictions_table(predictions))
    write_atomic(folder / RECORD, record.to_json().encode())
