"""Train one model by the paper's recipe; the same seed and device give the same weights, interrupted or not.

All random numbers of an epoch come from generators seeded by (seed, purpose, epoch), so that a checkpoint at the end of each
epoch is enough to go on. It lies in ``cache/checkpoints``, outside the folders that DVC deletes before it runs a stage.
"""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from numpy.typing import NDArray
from torch import Tensor, nn

from fvpipe.config.loading import digest_of
from fvpipe.config.training import Recipe
from fvpipe.errors import CheckpointError, FvpipeError, TrainingError
from fvpipe.evaluation.code_digest import code_digest
from fvpipe.evaluation.metrics.binary import roc_auc, youden_threshold
from fvpipe.evaluation.splits.assign import Part
from fvpipe.evaluation.training_record import (
    DIGESTS,
    PREDICTIONS,
    RECORD,
    WEIGHTS,
    ClassCounts,
    Epoch,
    Prediction,
    Record,
    Run,
    TrainedRun,
    digest_line,
    predictions_table,
    read_trained,
    titled,
)
from fvpipe.io.atomic import write_atomic
from fvpipe.io.locking import lock
from fvpipe.progress import progress
from fvpipe.project.project import Project
from fvpipe.regular_files import read_regular
from fvpipe.training.augmentation import augment
from fvpipe.training.batches import DeviceLoader
from fvpipe.training.data import Cohort, load_cohort
from fvpipe.training.device import (
    ExecutionDevice,
    decision_of_first,
    device_name,
    own_share,
    set_deterministic,
    sum_over_processes,
    wait_for_all,
)
from fvpipe.training.licenses import initial_licenses, initial_record, seen_before
from fvpipe.training.network.model import MAX_WEIGHT_BYTES, Classifier, build_model, freeze_all_but_head, probability
from fvpipe.training.recipe import class_weight_of, learning_rate, loss_sum, sample_order, seed_of

Say = Callable[[str], None]
PREDICT_BATCH = 64
DIGEST_BYTES = 32  # BLAKE3, before the bytes of a checkpoint


def train_run(project: Project, run: Run, recipe: Recipe, execution: ExecutionDevice, say: Say, fresh: bool = False) -> Record:
    """Train one model and write it to ``cache/models``, unless an equal training is finished there.

    Parameters
    ----------
    say : callable
        Receives a line for each epoch, and for a training that is resumed or not repeated.
    fresh : bool
        Ignore a checkpoint and a finished training.

    Returns
    -------
    Record
        Of the new or the finished training.

    Raises
    ------
    CheckpointError
        The checkpoint belongs to another configuration, or the initial weights cannot be read.
    TrainingError
        A loss is not finite, or the device cannot run the model; the last good checkpoint is kept.
    InputError, LeakError, ShardError
        From :func:`fvpipe.training.data.load_cohort`.
    """
    cohort = load_cohort(project, run.pipeline, run.split)
    checkpoint = project.checkpoints / f"{run.path}.pt"
    alone: AbstractContextManager[None] = lock(checkpoint.with_suffix(".lock"), say) if execution.rank == 0 else nullcontext()
    with alone:
        training = Training(cohort, run, recipe, execution)
        tested = dict.fromkeys(breast.dataset for breast in cohort.breasts if breast.part == Part.TEST)
        if (seen := seen_before(training.initial, cohort.split_digest, tested)) and execution.rank == 0:
            say(
                f"warning: {run}: its initial weights were trained on {' and '.join(seen)}, too, by another split: breasts "
                "that it is tested on may be among those that they learnt from. Take weights of the same split"
            )
        finished = None if fresh else _finished(project.models / run.path, training, say)
        if finished is not None:
            say(f"{run}: nothing that decides its weights has changed since it was trained")
            return _brought_up_to_date(project, training, finished, say)
        if not fresh:
            training.resume(checkpoint, say)
        wait_for_all(execution)  # before the first process writes or removes the checkpoint
        training.fit(checkpoint, say)
        record = _record(project, training)
        if execution.rank == 0:
            state = {name: value.cpu().contiguous() for name, value in training.model.net.state_dict().items()}
            _write(project.models / run.path, state, _predictions(training), record)
            checkpoint.unlink(missing_ok=True)
    return record


class Training:
    """The state of one training, from epoch to epoch."""

    def __init__(self, cohort: Cohort, run: Run, recipe: Recipe, execution: ExecutionDevice) -> None:
        self.cohort, self.run, self.recipe, self.execution = cohort, run, recipe, execution
        self.simulated = cohort.simulated
        set_deterministic(recipe.deterministic)
        cuda = execution.device.type == "cuda"
        self.memory_format = torch.channels_last  # quicker on either device
        self.initial = initial_record(recipe.weights)
        model, self.weights = build_model(run.model, recipe, cohort.dataset.image_shape, run.seed, cohort.fuse)
        if recipe.fine_tune == "head":
            freeze_all_but_head(model.net)
        self.model: Classifier = model.to(device=execution.device).to(memory_format=self.memory_format)
        if cuda and execution.world_size > 1:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(
            trained, recipe.lr, recipe.betas, recipe.eps, recipe.weight_decay, fused=True if cuda else None
        )
        step: nn.Module = self.model
        if execution.world_size > 1:
            ids = [execution.device.index] if cuda else None
            step = nn.parallel.DistributedDataParallel(self.model, device_ids=ids, gradient_as_bucket_view=True)
        self.step: Any = torch.compile(step, mode=recipe.compile, dynamic=False) if recipe.compile != "none" else step
        self.training_part, self.validation_part = self.loader(Part.TRAIN), self.loader(Part.VALIDATION)
        self.class_weight = class_weight_of(self.training_part.labels, recipe).to(execution.device)
        self.epochs: list[Epoch] = []
        self.best_epoch = -1
        self.best: dict[str, Tensor] = {}

    def loader(self, part: Part) -> DeviceLoader:
        """Images and labels of one part."""
        return DeviceLoader(self.cohort.dataset, self.cohort.indices(part), self.execution.device, self.memory_format)

    # --- epochs ---

    def fit(self, checkpoint: Path, say: Say) -> None:
        """Train until the schedule ends or validation stops improving; then load the best weights into the model."""
        begun = len(self.epochs)
        with progress(str(self.run), self.recipe.epochs - begun, "epochs") as advance:
            while len(self.epochs) < self.recipe.epochs and not self._stops():
                epoch = self._try_epoch()
                self.epochs.append(epoch)
                if self.best_epoch < 0 or epoch.validation_auc > self.epochs[self.best_epoch].validation_auc:
                    self.best_epoch = len(self.epochs) - 1
                    self.best = {name: value.detach().clone() for name, value in self.model.net.state_dict().items()}
                if self.execution.rank == 0:
                    self._save(checkpoint)
                    say(
                        f"{titled(self.run, self.simulated)}: epoch {len(self.epochs)}, loss {epoch.loss:.4f}, validation AUC "
                        f"{epoch.validation_auc:.3f}"
                    )
                advance(1)
        self.model.net.load_state_dict(self.best)

    def _stops(self) -> bool:
        done = len(self.epochs)
        waited = done - 1 - self.best_epoch
        return decision_of_first(done >= self.recipe.min_epochs and waited >= self.recipe.patience, self.execution)

    def _try_epoch(self) -> Epoch:
        try:
            return self._epoch(len(self.epochs))
        except torch.OutOfMemoryError:
            problem, advice = "the device has not enough memory", f"a smaller train.batch than {self.recipe.batch}"
        except RuntimeError as error:
            if "does not have a deterministic implementation" not in str(error):
                raise
            problem, advice = str(error).split(",")[0], "train.deterministic: false"
        raise TrainingError(
            f"{self.run}: {problem}; the checkpoint of epoch {len(self.epochs)} is kept. Try {advice}, and --fresh"
        )

    def _epoch(self, epoch: int) -> Epoch:
        lr = learning_rate(self.recipe, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        generator = torch.Generator().manual_seed(seed_of(self.run.seed, "order", epoch))
        changes = torch.Generator().manual_seed(seed_of(self.run.seed, "augment", epoch))
        torch.manual_seed(seed_of(self.run.seed, f"dropout {self.execution.rank}", epoch))
        self.model.train()
        order = sample_order(self.training_part.labels, self.recipe, generator)
        whole = order.split(self.recipe.batch)
        chunks = [own_share(chunk, self.execution) for chunk in whole]
        total = torch.zeros((), device=self.execution.device)
        for (images, labels), chunk, batch in zip(
            self.training_part.batches([c for c, _ in chunks]), chunks, whole, strict=True
        ):
            total += self.take_step(augment(images, self.recipe.augment, changes), labels, len(batch), counted=chunk[1])
        loss = sum_over_processes(total, self.execution).item() / len(order)
        truth, score, validation_loss = self.validate()
        if not math.isfinite(loss + validation_loss) or not np.isfinite(score).all():
            raise TrainingError(
                f"{self.run}: epoch {epoch + 1} ended with a loss of {loss} (validation {validation_loss}), or outputs that "
                f"are not numbers; the checkpoint of epoch {epoch} is kept. Try --fresh with a smaller train.lr, or in fp32"
            )
        area = roc_auc(truth, score)
        assert area is not None  # `load_cohort` saw both classes
        return Epoch(lr=lr, loss=loss, validation_loss=validation_loss, validation_auc=area)

    def take_step(self, images: Tensor, labels: Tensor, batch: int, counted: bool = True) -> Tensor:
        """Take one step of Adam.

        Parameters
        ----------
        batch : int
            Number of images of the whole batch, on all processes.
        counted : bool
            False: these images add nothing; they only keep this process in step with the others.

        Returns
        -------
        float32 tensor, shape ()
            Summed loss of these images, on the device, without synchronization.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.execution.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            logits = self.step(images)
        loss: Any = loss_sum(logits, labels, self.class_weight) * float(counted)
        (loss * self.execution.world_size / batch).backward()  # DistributedDataParallel takes the mean over processes
        self.optimizer.step()
        return loss.detach()  # type: ignore[no-any-return]

    def validate(self) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
        """Compute labels, probabilities and mean loss of the validation part."""
        logits = predict_logits(self.model, self.validation_part)
        labels = self.validation_part.labels
        loss = loss_sum(logits, labels, self.class_weight).item() / len(labels)
        return labels.cpu().numpy(), probability(logits).double().cpu().numpy(), loss

    # --- checkpoints ---

    def configuration(self) -> dict[str, Any]:
        """Return all that determines the weights, by name."""
        return {
            "pipeline": self.run.pipeline, "split": self.run.split, "model": self.run.model, "seed": self.run.seed,
            **{f"train.{name}": value for name, value in self.recipe.model_dump(mode="json").items()},
            "split and shards": self.cohort.content, "first weights": self.weights, "processes": self.execution.world_size,
            "device": device_name(self.execution.device), "torch": torch.__version__,
            "code": code_digest(),
            "threads": torch.get_num_threads() if self.execution.device.type == "cpu" else 0,  # sums are split among them
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
        data = file.getvalue()
        write_atomic(path, blake3(data).digest() + data)  # torch checks no checksum when it reads

    def resume(self, path: Path, say: Say) -> None:
        """Resume from a checkpoint, where there is one.

        Raises
        ------
        CheckpointError
            It is damaged, or was written by another configuration; the message names the difference.
        """
        if not path.is_file():
            return
        advice = f"remove it ({path}) or train with --fresh"
        try:
            written = read_regular(path, MAX_WEIGHT_BYTES)
            digest, data = written[:DIGEST_BYTES], written[DIGEST_BYTES:]
            if blake3(data).digest() != digest:
                raise CheckpointError(f"{path}: its bytes differ from what was written; {advice}")
            state = torch.load(io.BytesIO(data), self.execution.device, weights_only=True)
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
def predict_logits(model: Classifier, loader: DeviceLoader) -> Tensor:
    """Compute the logits, shape (n, outputs), in float32 whatever the training used."""
    model.eval()
    chunks = torch.arange(len(loader)).split(PREDICT_BATCH) if len(loader) else ()
    found = [model(images).float() for images, _ in loader.batches(list(chunks))]
    return torch.cat(found) if found else torch.zeros(0, 2, device=loader.device)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


# --- results -----------------------------------------------------------------------------------------------------


def _record(project: Project, training: Training) -> Record:
    cohort, run = training.cohort, training.run
    receipt = cohort.dataset.folders[0].receipt
    truth, score, _ = training.validate()
    threshold = youden_threshold(truth, score)
    assert threshold is not None  # `load_cohort` saw both classes
    labels = {part: cohort.dataset.labels[cohort.indices(part)].tolist() for part in Part}
    counts = {part.value: ClassCounts(benign=each.count(0), malignant=each.count(1)) for part, each in labels.items()}
    return Record(
        **_facts(project, training),
        run=run,
        split_digest=cohort.split_digest,
        pipeline_yaml=receipt.pipeline_yaml,
        pipeline_digest=receipt.pipeline_digest,
        preprocessing_version=receipt.preprocessing_version,
        image_shape=cohort.dataset.image_shape,
        parts=counts,
        recipe=training.recipe,
        weights=training.weights,
        parameters=sum(parameter.numel() for parameter in training.model.parameters()),
        epochs=tuple(training.epochs),
        best_epoch=training.best_epoch + 1,
        threshold=threshold,
        device=device_name(training.execution.device),
        torch=str(torch.__version__),
        code=code_digest(),
        configuration=digest_of(training.configuration()),
    )


def _facts(project: Project, training: Training) -> dict[str, Any]:
    """Return the fields of a record that may change while the weights stay."""
    cohort, initial = training.cohort, initial_licenses(training.initial)
    receipts = [shards.receipt for shards in cohort.dataset.folders]
    adapters = {receipt.dataset: project.params.datasets[receipt.dataset].adapter for receipt in receipts}
    licenses = {receipt.dataset: receipt.license for receipt in receipts}
    return {
        "setting": project.params.split_of(training.run.split).setting,
        "datasets": tuple(receipt.dataset for receipt in receipts),
        "adapters": adapters | {name: adapter for name, (adapter, _) in initial.items()},
        "licenses": licenses | {name: license for name, (_, license) in initial.items()},
        "simulated": cohort.simulated,
        "dropped": cohort.dropped,
        "shards": {receipt.dataset: digest_of(receipt.to_json()) for receipt in receipts},
    }


def _finished(folder: Path, training: Training, say: Say) -> TrainedRun | None:
    """Read a finished training that this one would only repeat."""
    if not (folder / RECORD).is_file():
        return None
    try:
        found = read_trained(folder)
    except FvpipeError as error:
        say(f"warning: {error}. It is trained again")
        return None
    same = found.record.configuration == digest_of(training.configuration()) and (folder / WEIGHTS).is_file()
    return found if same and [p.key for p in found.predictions] == [b.key for b in training.cohort.breasts] else None


def _brought_up_to_date(project: Project, training: Training, found: TrainedRun, say: Say) -> Record:
    """Write the record and the predictions again where what is known of the data or breasts has changed, as a density has."""
    from safetensors.torch import load_file

    run, breasts, facts = training.run, training.cohort.breasts, _facts(project, training)
    record = found.record.model_copy(update=facts)
    predictions = [replace(now, probability=was.probability) for now, was in zip(breasts, found.predictions, strict=True)]
    wait_for_all(training.execution)  # every process has read what is there
    if (record, predictions) != (found.record, [*found.predictions]) and training.execution.rank == 0:
        _write(project.models / run.path, load_file(project.models / run.path / WEIGHTS), predictions, record)
        say(f"{run}: facts of its data or breasts have changed; its record and predictions have the new ones")
    return record


def _predictions(training: Training) -> list[Prediction]:
    predictions = list(training.cohort.breasts)
    for part in (Part.VALIDATION, Part.TEST):
        loader = training.loader(part)
        scores = probability(predict_logits(training.model, loader)).double().cpu().tolist()
        for i, score in zip(loader.indices, scores, strict=True):
            predictions[i] = replace(predictions[i], probability=score)
    return predictions


def _write(folder: Path, state: dict[str, Tensor], predictions: list[Prediction], record: Record) -> None:
    """Write weights, predictions and, last, the record."""
    from safetensors.torch import save

    (folder / RECORD).unlink(missing_ok=True)  # without it nothing is finished here
    files = {
        WEIGHTS: save(dict(sorted(state.items())), {"fvpipe": record.to_json()}),
        PREDICTIONS: predictions_table(predictions),
        RECORD: record.to_json().encode(),
    }
    files = {DIGESTS: "".join(digest_line(name, data) for name, data in files.items()).encode(), **files}
    for name, data in files.items():
        write_atomic(folder / name, data)
