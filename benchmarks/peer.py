"""medip from PyPI with its default profile and its crop, on one process: `python -m benchmarks.peer FOLDER OUT FORMAT`.

Runs in an environment of its own (`medip[cli,jpeg]`, as its README recommends for compressed files). The profile is its
default, `png16_minmax_masked`, with `crop_policy: bbox`; FORMAT is `png16`, its default, or `npy`, which spares it the time
of writing PNG files. It does less than fvpipe: views are not paired, not fused, not resized.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import medip
from medip.config import CropPolicy, ExportFormat
from medip.presets import get_preset

from benchmarks.serve import serve


def main() -> None:
    """Serve passes over a folder."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    config = get_preset("png16_minmax_masked")
    config = dataclasses.replace(
        config,
        roi=dataclasses.replace(config.roi, crop_policy=CropPolicy.BBOX),
        export=dataclasses.replace(config.export, format=ExportFormat(sys.argv[3]), save_metadata_json=False),
        runtime=dataclasses.replace(config.runtime, num_workers=1),
    )
    files = sorted(folder.rglob("*.d*c*m"))

    def work() -> None:
        summary = medip.run(folder, out, config)
        if summary["success_count"] != len(files):
            raise RuntimeError(f"medip did {summary['success_count']} of {len(files)} files: {summary['failures'][:1]}")

    serve(len(files) // 2, work, lambda: shutil.rmtree(out, ignore_errors=True))


if __name__ == "__main__":
    main()
