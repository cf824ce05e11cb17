"""Versions, host and timings of a build."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version

from fvpipe.build.plan import Build
from fvpipe.dicom.decoders import decoder_identity, lossy_decoder
from fvpipe.indexing.index import Index


def build_record(found: Index, build: Build, states: Mapping[str, str]) -> bytes:
    """Versions, host and timings of a build: useful to a person, and never part of what is tracked."""
    libraries = (
        "fvpipe",
        "numpy",
        "h5py",
        "pydicom",
        "imagecodecs",
        "opencv-python-headless",
        "pillow",
        "SimpleITK",
        "dask",
        "distributed",
    )
    syntaxes = Counter(image.transfer_syntax_uid for breast in found.breasts for image in breast.views)
    record = {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "host": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "decoders": {
            syntax: {
                "images": count,
                "decoder": decoder_identity(syntax),
                "lossy": bool(lossy_decoder(syntax)),
            }
            for syntax, count in sorted(syntaxes.items())
        },
        "headers_read": found.read,
        "samples_computed": build.computed,
        "samples_reused": build.reused,
        "shards_written": build.written,
        "seconds": round(build.seconds, 3),
        "seconds_of_steps": {step: round(seconds, 3) for step, seconds in build.steps.items()},
        "shard_files": states,
    }
    return (json.dumps(record, indent=1) + "\n").encode()
