"""The contenders of `pixels`: processes that make passes over a folder when told to, and report the seconds of each.

`python -m benchmarks.contenders NAME FOLDER ...`. Imports, start-up and the reading of headers end before the first pass, so
that they are measured apart, and contenders take turns on the same machine. Each imports its own libraries: `naive` and
`medip` run in an environment that has no fvpipe.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fvpipe.build.sample import SampleTask
    from fvpipe.dicom.decoding.layout import PixelLayout

Work = tuple[int, Callable[[], object], Path | None]
"""What a contender does: pairs of images a pass, the pass, and the folder that is empty before each pass."""


# --- who they are -----------------------------------------------------------------------------------------------------


def floor(folder: Path) -> Work:
    """Read each file into one reused buffer, digest it on the way, decode it; no header, nothing after the pixels.

    The offset of the frame is found beforehand. The decoder is fvpipe's, which `decoders` compares with others; uncompressed
    pixels are a view of the buffer.
    """
    import numpy as np

    from fvpipe.dicom.decoding.decoders import DECODERS
    from fvpipe.dicom.decoding.transfer_syntaxes import NATIVE
    from fvpipe.io.read import read_contents

    files = [(path, *located(path)) for path in sorted(folder.rglob("*.d*c*m"))]

    def work() -> None:
        for path, start, end, layout in files:
            view = read_contents(path, "").data
            if layout.transfer_syntax_uid in NATIVE:
                pixels = np.frombuffer(view[start:end], "<u2" if layout.bits_allocated == 16 else "u1")
            else:
                pixels = DECODERS[layout.transfer_syntax_uid].decode(bytes(view[start:end]), layout)
            assert pixels.size == layout.rows * layout.columns

    return len(files) // 2, work, None


def located(path: Path) -> tuple[int, int, PixelLayout]:
    """Offsets of the frame in the file, and its layout."""
    from pydicom.encaps import get_frame

    from fvpipe.dicom.decoding.transfer_syntaxes import NATIVE
    from fvpipe.dicom.header import pixel_header
    from fvpipe.dicom.reader import open_dicom
    from fvpipe.types import Laterality

    data = path.read_bytes()
    opened = open_dicom(BytesIO(data))
    header = pixel_header(opened, Laterality.LEFT)
    layout, offset = header.layout, header.location.offset
    if layout.transfer_syntax_uid in NATIVE:
        return offset, offset + layout.native_bytes, layout
    opened.body.seek(offset)
    frame = get_frame(opened.body, 0, number_of_frames=1)
    start = data.index(frame, offset)
    return start, start + len(frame), layout


def samples(folder: Path, adapter: str, pipeline: str, store: str) -> Work:
    """Run fvpipe's `make_samples`, the work of a worker, on every breast; samples are written as in a build."""
    from fvpipe.build.sample import make_samples

    given = tasks(folder, adapter, pipeline, Path(store))

    def work() -> None:
        assert all(result.computed for result in make_samples(given))

    return len(given), work, Path(store)


def tasks(folder: Path, adapter: str, pipeline: str, store: Path) -> list[SampleTask]:
    """Every breast of a folder, as it is sent to a worker."""
    from fvpipe.build.plan import make_task
    from fvpipe.execution.workers import Workers, WorkerSettings
    from fvpipe.flow import index
    from fvpipe.project.stages import open_file_cache
    from fvpipe.project.standalone import standalone_output, standalone_source

    source = standalone_source("bench", folder, adapter)
    with Workers(WorkerSettings(0)) as workers, open_file_cache(source, store) as cache:
        found = index(source, workers, cache)
    output = standalone_output("bench", pipeline, store / "unused")
    return [make_task(found, output, breast, str(store.absolute())) for breast in found.breasts]


def naive(folder: Path, out: str, numbers: str) -> Work:
    """Run the script that everybody writes: pydicom's pixels, scikit-image's Otsu, components and resize, as documented.

    It finds the breast, crops both views, puts them side by side at equal height, normalizes to [0, 1], resizes to 256 x 256
    and saves a .npy; it checks nothing. `numbers` is ``floats``: pixels become [0, 1] as soon as they are read, as is usual
    in such scripts; or ``integers``: they are converted in the last step only, which is faster.
    """
    import numpy as np
    import pydicom
    from skimage.filters import threshold_otsu
    from skimage.measure import label, regionprops
    from skimage.transform import resize

    floats, breasts = numbers == "floats", defaultdict[tuple[str, str], dict[str, Path]](dict)
    for path in sorted(folder.rglob("*.d*c*m")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        side = header.get("ImageLaterality") or header.get("Laterality") or path.stem
        view = header.get("ViewPosition") or "".join(header.get("PatientOrientation", ""))
        patient = header.PatientID.replace("_CC", "").replace("_MLO", "")
        breasts[patient, side][view.upper()] = path
    pairs = [(views["CC"], views["MLO"]) for views in breasts.values() if {"CC", "MLO"} <= views.keys()]

    def cropped(path: Path) -> np.ndarray:
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

    def work() -> None:
        for number, pair in enumerate(pairs):
            views = [cropped(path) for path in pair]
            height = max(view.shape[0] for view in views)
            canvas = np.hstack([np.pad(view, ((0, height - view.shape[0]), (0, 0))) for view in views])
            low, high = canvas.min(), canvas.max()
            fused = resize((canvas.astype(np.float64 if floats else np.float32) - low) / (high - low), (256, 256))
            np.save(Path(out) / f"{number}.npy", fused)

    return len(pairs), work, Path(out)


def medip(folder: Path, out: str, export: str) -> Work:
    """Run medip from PyPI with its default profile, `png16_minmax_masked`, and `crop_policy: bbox`.

    `export` is ``png16``, its default, or ``npy``, which avoids the time of writing PNG files. It does less than fvpipe:
    views are not paired, not fused, not resized.
    """
    from dataclasses import replace

    import medip
    from medip.config import CropPolicy, ExportFormat
    from medip.presets import get_preset

    config = get_preset("png16_minmax_masked")
    config = replace(
        config,
        roi=replace(config.roi, crop_policy=CropPolicy.BBOX),
        export=replace(config.export, format=ExportFormat(export), save_metadata_json=False),
        runtime=replace(config.runtime, num_workers=1),
    )
    files = len(list(folder.rglob("*.d*c*m")))

    def work() -> None:
        summary = medip.run(folder, Path(out), config)
        if summary["success_count"] != files:
            raise RuntimeError(f"medip did {summary['success_count']} of {files} files: {summary['failures'][:1]}")

    return files // 2, work, Path(out)


# --- how they take turns ----------------------------------------------------------------------------------------------


def serve(pairs: int, work: Callable[[], object], emptied: Path | None) -> None:
    """Report readiness; then, for each number of seconds on standard input, repeat the pass so long and report its mean."""
    print("[]", flush=True)
    for line in sys.stdin:
        cpu = wall = 0.0
        passes = 0
        while not passes or wall < float(line):
            if emptied:
                shutil.rmtree(emptied, ignore_errors=True)
                emptied.mkdir(parents=True)
            before, begun = _cpu(), time.perf_counter()
            work()
            wall += time.perf_counter() - begun
            cpu += _cpu() - before
            passes += 1
        print(json.dumps([cpu / passes / pairs, wall / passes / pairs]), flush=True)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


class Contender:
    """A running contender that has made one pass; one that fails raises RuntimeError with its own message."""

    def __init__(self, python: str, name: str, arguments: Sequence[object], environment: dict[str, str]) -> None:
        begun = time.perf_counter()
        words = [python, "-m", "benchmarks.contenders", name, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(words, cwd=Path(__file__).parents[1], env=environment, text=True, **pipes)
        self._answer()
        self.start_up = time.perf_counter() - begun
        self.go(0.0)

    def go(self, seconds: float) -> list[float]:
        """Repeat the pass for so many seconds at least, since CPU clocks are coarse; return CPU and wall seconds a pair."""
        print(seconds, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> list[float]:
        line = self._process.stdout.readline()
        if not line.startswith("["):
            _, said = self._process.communicate()
            raise RuntimeError((said or line).strip()[-1500:])
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    serve(*globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))
