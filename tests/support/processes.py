"""Processes of tests: scripts, limits, other users, and decoders that are broken in every process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fvpipe.errors import FvpipeError


def python(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """A process of this interpreter, in the repository's root."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
    )


def output(process: subprocess.Popen[str]) -> str:
    """What it printed, after a good end."""
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out


LIMITED = "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"


def as_nobody(action: Callable[[], object]) -> str:
    """What `action` returns or raises where the rights of files count, also when root runs the tests."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            answer = repr(action())
        except FvpipeError as error:
            answer = f"{type(error).__name__}: {error}"
        except BaseException as error:
            answer = f"unexpected {error!r}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with open(read) as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return text


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes; the test is skipped where none can be mounted."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(options, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


BROKEN_DECODERS = """
import ctypes, os
import imagecodecs
def crash(*_):
    with open(os.environ["ATTEMPTS"], "a") as file: file.write("crash\\n")
    os.abort()
def hang(*_):
    with open(os.environ["ATTEMPTS"], "a") as file: file.write("hang\\n")
    ctypes.PyDLL(None).sleep(600)  # compiled code that keeps the interpreter's lock
imagecodecs.jpegls_decode, imagecodecs.jpeg2k_decode = crash, hang
"""

SLOW_DECODER = """
import time
import imagecodecs
real = imagecodecs.packbits_decode
def slow(*args, **kwargs):
    time.sleep(0.05)
    return real(*args, **kwargs)
imagecodecs.packbits_decode = slow
"""


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Bytes of a shard folder's files by name, but for the notes of the build."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name != "build.json"}


def in_every_process(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs `code` at the start of each process from now on: it stands for another build of the library."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
