"""Versions, host and timings of a build."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version

from fvpipe.build.schedule import Samples
from fvpipe.dicom.decoding.decoders import decoder_identity, lossy_decoder


def build_record(samples: Samples, written: int, seconds: float, states: Mapping[str, str]) -> bytes:
    """Describe a build in JSON, for people; DVC does not track it.

    Parameters
    ----------
    states : mapping of str to str
        State of each shard's file, by name: size, times and inode; of the receipt its SHA-256.
    """
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
    syntaxes = Counter(image.transfer_syntax_uid for breast in samples.found.breasts for image in breast.images)
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
        "headers_read": samples.found.headers_read,
        "samples_computed": samples.computed,
        "samples_reused": samples.reused,
        "shards_written": written,
        "seconds": round(seconds, 3),
        "seconds_of_steps": {step: round(taken, 3) for step, taken in samples.seconds.items()},
        "shard_files": states,
    }
    return (json.dumps(record, indent=1) + "\n").encode()
