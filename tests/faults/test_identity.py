"""Nothing of a patient leaves: identifiers that are texts to search for, paths, or no text at all."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom.config import disable_value_validation

import fvpipe
from fvpipe.dicom.elements import silenced
from tests.conftest import run
from tests.support import factory
from tests.support.builds import KEY, PROGRAM, builds

CANARY = "Zyxwvut"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", KEY)


@pytest.mark.usefixtures("inspects_here")
@pytest.mark.fault(35)
def test_nothing_of_a_patient_in_any_output(tmp_path: Path) -> None:
    """A unique name, id, birth date, accession number and private tag are in no output, message or log."""
    folder = tmp_path / "dicom"
    secrets = {
        "PatientID": f"{CANARY}-ID", "PatientName": f"{CANARY}^Name", "PatientBirthDate": "19310203",
        "AccessionNumber": f"{CANARY}7", "OtherPatientIDs": f"{CANARY}-OTHER", "InstitutionName": f"{CANARY} clinic",
        "StudyDescription": f"{CANARY} study",
        "StudyInstanceUID": "2.25.31415926535897932384", "ReferringPhysicianName": f"{CANARY}^Doc",
    }  # fmt: skip
    for view in (factory.CC, factory.MLO):
        ds = factory.dataset(
            factory.breast(0, view).pixels, 12, view=view, SOPInstanceUID=f"2.25.2718281828{len(view)}", **secrets
        )
        block = ds.private_block(0x0011, f"{CANARY} block", create=True)
        block.add_new(1, "LO", f"{CANARY} private")
        factory.write(folder / f"{view}.dcm", factory.file_bytes(ds, factory.breast(0, view).pixels))
    bad = factory.dataset(
        factory.breast().pixels, 12, SOPInstanceUID="2.25.99", **(secrets | {"ImageLaterality": CANARY, "ViewPosition": CANARY})
    )
    factory.write(folder / "bad.dcm", factory.file_bytes(bad, factory.breast().pixels))
    (tmp_path / "labels.csv").write_text(f"patient_id,laterality,label\n{CANARY}-ID,L,1\n{CANARY}-2,R,0\n")
    done = subprocess.run(
        [
            *PROGRAM,
            "build-shards",
            "--pipeline",
            "cropped",
            "--dicom",
            folder,
            "--out",
            tmp_path / "out",
            "--labels",
            tmp_path / "labels.csv",
            "--workers",
            "1",
        ],
        capture_output=True,
        check=True,
    )
    assert fvpipe.open_shards(tmp_path / "out").labels.tolist() == [1]
    page = tmp_path / "shards" / "cropped" / "mine"
    shutil.copytree(tmp_path / "out", page)
    run("report", "--shards", tmp_path / "shards", "--out", tmp_path / "out" / "report.html")
    inspected = run("inspect", folder / "CC.dcm").output + run("inspect", folder / "bad.dcm", code=1).output
    written = {str(p): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    written |= {"stdout": done.stdout, "stderr": done.stderr, "inspect": inspected.encode()}
    assert len(written) > 8
    for name, data in written.items():
        for secret in (CANARY, "19310203", "31415926535897932384", "2718281828"):
            assert secret.encode() not in data, (name, secret)


@pytest.mark.fault(32)
def test_identifiers_decide_no_file_name(tmp_path: Path) -> None:
    """Paths as patient, study and instance, also in the label table; long ones, NUL and Chinese."""
    folder, out = tmp_path / "sub" / "in", tmp_path / "sub" / "out"
    gb18030 = {"SpecificCharacterSet": "GB18030"}
    identifiers = {"../../etc/x": {}, "/tmp/y": {}, "..": {}, "王1": gb18030, "x" * 65534: {}, "P\0001": {}}
    with silenced(), disable_value_validation():
        for number, (patient, tags) in enumerate(identifiers.items()):
            for view in (factory.CC, factory.MLO):
                uids = {"SOPInstanceUID": f"../../{number}{view}", "StudyInstanceUID": "../../../2"}
                made = factory.breast(number, view)
                factory.mammogram(folder / f"{number}{view}.dcm", made, PatientID=patient, view=view, **uids, **tags)
    (folder / "labels.csv").write_text("patient_id,laterality,label\n../../etc/x,L,1\n")
    around = {path for path in tmp_path.rglob("*") if out not in path.parents}
    done = builds(folder, out, "--labels", folder / "labels.csv")
    assert (done["samples"], done["labels"]["malignant"]) == (4, 1)
    assert done["rejections"]["identifier_invalid"] == 4
    assert {path for path in tmp_path.rglob("*") if out not in path.parents} - around == {out}
    names = [path.name for path in out.rglob("*")]
    assert len(names) > 10
    assert all(re.fullmatch(r"\.?[a-z0-9.-]+", name) for name in names), names
