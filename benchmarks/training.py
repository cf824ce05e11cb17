"""Images a second of the real training loop, against the same step on images that are already on the device.

Run in a project after `fvpipe build-shards` and `fvpipe split`:

    python benchmarks/training.py --pipeline cropped --split unseen --model resnet18 --batch 32
    python benchmarks/training.py --device cuda --batch 256 --precision bf16 --compile reduce-overhead

The breasts of the split's training part are repeated to `--images`, so that a small project can keep a GPU busy. Loop and
step alternate; the ratio is that of their medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from fvpipe.evaluation.splits.assign import Part
from fvpipe.evaluation.training_record import Run
from fvpipe.project.project import Project
from fvpipe.training.batches import DeviceLoader
from fvpipe.training.data import load_cohort
from fvpipe.training.device import device_name, find_device
from fvpipe.training.recipe import sample_order
from fvpipe.training.train import Training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="cropped")
    parser.add_argument("--split", default="unseen")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=0, help="an epoch's; 0: eight batches")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", default="none", choices=["none", "default", "reduce-overhead"])
    parser.add_argument("--not-deterministic", action="store_true")
    parser.add_argument(
        "--streamed", action="store_true", help="read each batch from the shards instead of the device's memory"
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    project = Project(Path())
    changes = {name: getattr(options, name) for name in ("batch", "precision", "compile")}
    changes |= {"weights": "none", "deterministic": not options.not_deterministic}
    recipe = project.params.train.recipe(simulated=False).model_copy(update=changes)
    execution = find_device(options.device)
    cohort = load_cohort(project, options.pipeline, options.split)
    training = Training(cohort, Run(options.pipeline, options.split, options.model, 0), recipe, execution)
    count = options.images or 8 * options.batch
    repeated = np.resize(cohort.indices(Part.TRAIN), count)
    resident = False if options.streamed else None
    loader = DeviceLoader(cohort.dataset, repeated, execution.device, training.memory_format, resident)
    training.model.train()
    clock = time.perf_counter if execution.device.type == "cuda" else time.process_time

    def loop() -> float:
        """As in an epoch: order, gather, step."""
        waited, order = 0.0, sample_order(loader.labels, recipe, torch.Generator().manual_seed(0))
        batches = loader.batches(list(order.split(recipe.batch)))
        while True:
            begun = clock()
            batch = next(batches, None)
            waited += clock() - begun
            if batch is None:
                return waited
            training.take_step(*batch, len(batch[1]))

    generator = torch.Generator().manual_seed(0)
    images = torch.rand((recipe.batch, *cohort.dataset.image_shape), generator=generator).to(execution.device)
    images = images.contiguous(memory_format=training.memory_format)
    labels = torch.randint(0, 2, (recipe.batch,), generator=generator).to(execution.device)

    def step() -> float:
        for _ in range(count // recipe.batch):
            training.take_step(images, labels, recipe.batch)
        return 0.0

    timed(loop, execution.device), timed(step, execution.device)  # warm up, compile
    real, synthetic, waits = [], [], []
    for _ in range(options.repeats):
        seconds, waited = timed(loop, execution.device)
        real.append(count / seconds)
        waits.append(waited / seconds)
        synthetic.append(count // recipe.batch * recipe.batch / timed(step, execution.device)[0])
    kept = "resident" if loader.images is not None else "streamed"
    shape = " x ".join(map(str, cohort.dataset.image_shape))
    print(f"{options.model}, {shape}, batch {recipe.batch}, {recipe.precision}, compile {recipe.compile}, {kept}")
    print(f"{device_name(execution.device)}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    ratio = f"ratio {median(real) / median(synthetic):.3f}, waiting for data {median(waits):.2%}"
    print(f"real loop {median(real):.1f} images/s, same step on synthetic data {median(synthetic):.1f}, {ratio}")


def timed(function: Callable[[], float], device: torch.device) -> tuple[float, float]:
    """Seconds until the device has finished, and what the function returned; on a CPU its own seconds, whoever else works."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    begun = clock()
    found = function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begun, found


if __name__ == "__main__":
    main()
