"""Input folders with whatever a file system can hold: links in circles, pipes, devices, folders that cannot be listed."""

from __future__ import annotations

import errno
import os
import random
import socket
import tempfile
from pathlib import Path

import pytest

from fvpipe.errors import InputError
from fvpipe.indexing.files.scan import scan_folder
from fvpipe.reasons import Reason, Rejection
from tests.support import factory
from tests.support.processes import as_nobody
from tests.support.stored import listed


@pytest.mark.fault(33)
def test_folders_that_link_to_each_other_are_listed_once(tmp_path: Path) -> None:
    """Eight folders with a link to every other one: 8! ways through, and eight folders."""
    for i in range(8):
        (tmp_path / f"f{i}").mkdir()
        (tmp_path / f"f{i}" / "a.dcm").write_bytes(b"x")
        for j in range(8):
            (tmp_path / f"f{i}" / f"to{j}").symlink_to(tmp_path / f"f{j}") if i != j else None
    files, rejections = listed(tmp_path)
    assert [file.path for file in files] == [f"f{i}/a.dcm" for i in range(8)]
    assert len(rejections) == 56


@pytest.mark.fault(33)
def test_listing_of_a_hostile_folder(tmp_path: Path) -> None:
    """Nothing of this may hang the build, or be opened."""
    root, outside = tmp_path / "in", tmp_path / "outside"
    names = ["b.dcm", "a/1.dcm", "a/10.DCM", "a/2.dicom", "a.dcm/x.ima", "plain", "ünï.dic", "sp ace\nline.dcm"]
    for name in names:
        factory.write(root / name, b"x")
    for name in ("readme.txt", "table.csv", "a/scan.png", ".hidden.dcm", ".git/x.dcm"):
        factory.write(root / name, b"x")
    factory.write(outside / "deep" / "far.dcm", b"x")
    for link, target in {
        "linked": outside,
        "link.dcm": outside / "deep" / "far.dcm",
        "a/up": root,
        "self": Path("self"),
        "broken.dcm": tmp_path / "nowhere",
        "null.dcm": Path("/dev/null"),
        "null": Path("/dev/null"),
        "a/loop": root / "a",
    }.items():
        (root / link).symlink_to(target)
    os.mkfifo(root / "pipe.dcm")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "s.dcm"))  # a short name: such an address has at most 108 bytes
        scan = scan_folder(root)
        files, rejections = listed(root)
    assert [file.path for file in files] == sorted([*names, "link.dcm", "linked/deep/far.dcm"])
    assert all(file.state.startswith("1 ") for file in files)
    rejected = {rejection.what: rejection.detail for rejection in rejections}
    assert list(rejected) == sorted(rejected)
    assert rejected.pop("self").startswith("a link that leads nowhere (Too many levels")
    assert rejected.pop("broken.dcm") == "a link that leads nowhere (No such file or directory)"
    assert [rejected.pop(name) for name in ("a/up", "a/loop")] == ["a link to a folder that is listed under its own name"] * 2
    assert set(rejected) == {"null", "null.dcm", "pipe", "pipe.dcm", "s.dcm"}
    assert set(rejected.values()) == {"a pipe, socket or device"}
    assert {rejection.reason for rejection in rejections} == {Reason.NOT_A_FILE}
    assert [*scan.foreign, *scan.hidden] == ["a/scan.png", "readme.txt", "table.csv", ".git", ".hidden.dcm"]


def test_order_of_creation_does_not_matter(tmp_path: Path) -> None:
    names = [f"{folder}/{i}.dcm" for folder in ("b", "a", "a.b", "a-b") for i in range(20)]
    listings = []
    for seed in range(3):
        root = tmp_path / str(seed)
        for name in random.Random(seed).sample(names, len(names)):
            factory.write(root / name, b"")
        listings.append([file.path for file in listed(root)[0]])
    assert listings == [sorted(names)] * 3


def test_folder_that_cannot_be_listed() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: only its owner may look into that
        root = Path(name)
        root.chmod(0o755)
        factory.write(root / "a.dcm", b"x")
        (root / "locked").mkdir(mode=0)
        assert "Rejection(what='locked', reason=<Reason.NOT_A_FILE" in as_nobody(lambda: listed(root))
        assert "InputError" in (said := as_nobody(lambda: listed(root / "locked")))
        assert "cannot be listed (Permission denied)" in said
        (root / "locked").chmod(0o755)


def test_folder_that_breaks_off_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network's folder that goes stale: opened, its names are not all to be had."""
    for name in ("a.dcm", "stale/b.dcm", "stale/c.dcm", "whole/d.dcm"):
        factory.write(tmp_path / name, b"x")
    stale, real = "stale", os.listdir

    def listdir(path: str) -> list[str]:
        names = real(path)
        if Path(path) == tmp_path / stale:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return names

    monkeypatch.setattr(os, "listdir", listdir)
    files, rejections = listed(tmp_path)
    assert [file.path for file in files] == ["a.dcm", "whole/d.dcm"]
    detail = f"a folder that cannot be listed ({os.strerror(errno.ESTALE)})"
    assert rejections == [Rejection("stale", Reason.NOT_A_FILE, detail)]
    stale = ""
    with pytest.raises(InputError, match="cannot be listed"):
        listed(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    factory.write(tmp_path / "file", b"")
    for name, message in (("nowhere", "no such folder"), ("file", "is not a folder")):
        with pytest.raises(InputError, match=message):
            scan_folder(tmp_path / name)
