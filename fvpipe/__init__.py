"""fvpipe: folders of mammography DICOM files in, small verified HDF5 shards of fused CC and MLO views out.

Importing fvpipe does no work: each name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fvpipe.errors import FvpipeError as FvpipeError
    from fvpipe.project.standalone import build_shards as build_shards
    from fvpipe.project.standalone import index as index
    from fvpipe.shards.reader import Sample, Shards, open_shards
    from fvpipe.shards.verification import verify

__version__ = "0.1.0"

_NAMES = {
    "open_shards": "fvpipe.shards",
    "verify": "fvpipe.shards",
    "Shards": "fvpipe.shards",
    "Sample": "fvpipe.shards",
    "FvpipeError": "fvpipe.errors",
    "build_shards": "fvpipe.project.standalone",
    "index": "fvpipe.project.standalone",
}
_MODULES = ("errors", "shards", "torch", "types")

__all__ = ["FvpipeError", "Sample", "Shards", "__version__", "build_shards", "index", "open_shards", "verify"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"fvpipe.{name}")
    raise AttributeError(f"module 'fvpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
