"""The script everybody writes: pydicom's pixels, scikit-image's Otsu, components and resize, in one process.

`python -m benchmarks.naive FOLDER OUT NUMBERS`. Headers are read once, beforehand, to pair the views; each library does what
its documentation shows. It finds the breast, crops both views, puts them side by side at equal height, normalises to [0, 1],
resizes to 256 x 256 and saves a .npy. NUMBERS is `floats`: pixels become [0, 1] as soon as they are read, which is how such
scripts begin; or `integers`: they stay what they are until the last step, which is the same script by someone who knows
that it matters. It checks nothing, and that is its charm.
"""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.transform import resize

from benchmarks.serve import serve


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    """CC and MLO of each breast, by their headers."""
    breasts: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*.d*c*m")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        side = header.get("ImageLaterality") or header.get("Laterality") or path.stem
        view = header.get("ViewPosition") or "".join(header.get("PatientOrientation", ""))
        patient = header.PatientID.replace("_CC", "").replace("_MLO", "")
        breasts[patient, side][view.upper()] = path
    return [(views["CC"], views["MLO"]) for views in breasts.values() if {"CC", "MLO"} <= views.keys()]


def breast(path: Path, floats: bool) -> np.ndarray:
    """One view, cropped to its largest bright component."""
    dataset = pydicom.dcmread(path)
    image = dataset.pixel_array
    if floats:
        image = image.astype(np.float64)
        image = (image - image.min()) / (image.max() - image.min())
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        image = image.max() - image
    regions = regionprops(label(image > threshold_otsu(image)))
    top, left, bottom, right = max(regions, key=lambda region: region.area).bbox
    return image[top:bottom, left:right]


def fused(cc: Path, mlo: Path, floats: bool) -> np.ndarray:
    """One training image."""
    views = [breast(cc, floats), breast(mlo, floats)]
    height = max(view.shape[0] for view in views)
    canvas = np.hstack([np.pad(view, ((0, height - view.shape[0]), (0, 0))) for view in views])
    low, high = canvas.min(), canvas.max()
    return resize((canvas.astype(np.float64 if floats else np.float32) - low) / (high - low), (256, 256))


def main() -> None:
    """Serve passes over a folder."""
    found, out, floats = pairs(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3] == "floats"

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)

    def work() -> None:
        for number, (cc, mlo) in enumerate(found):
            np.save(out / f"{number}.npy", fused(cc, mlo, floats))

    serve(len(found), work, reset)


if __name__ == "__main__":
    main()
