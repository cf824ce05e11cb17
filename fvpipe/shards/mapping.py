"""Read-only memory maps that keep no file open, so that hundreds of shards need no handle each."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import weakref
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def map_images(file: BinaryIO, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a part of a file as a read-only array, which stays valid when the file is closed, renamed or removed.

    Before Python 3.13, `mmap.mmap` and with it `numpy.memmap` keep a copy of the handle, so the system is called directly.

    Parameters
    ----------
    file : binary file
        Open for reading.
    offset : int
        First byte.
    shape, dtype
        Of the array; the file holds all of it.

    Returns
    -------
    array
        Read-only.

    Raises
    ------
    OSError
        The file cannot be mapped.
    """
    if os.name != "posix":
        return np.memmap(file, dtype, "r", offset, shape)
    before = offset % mmap.ALLOCATIONGRANULARITY
    length = before + math.prod(shape) * dtype.itemsize
    system = _system()
    address = system.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), offset - before)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    mapped = (ctypes.c_ubyte * length).from_address(address)
    weakref.finalize(mapped, system.munmap, address, length).atexit = False
    array: NDArray[Any] = np.frombuffer(memoryview(mapped), dtype, math.prod(shape), before).reshape(shape)
    array.flags.writeable = False
    return array


@cache
def _system() -> ctypes.CDLL:
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype = ctypes.c_void_p
    offset = ctypes.c_long  # off_t: of 64 bits where pointers are
    system.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, offset)
    system.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return system
