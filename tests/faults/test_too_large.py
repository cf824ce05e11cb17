"""Input that is far larger than what it could be: each is named within seconds, and no memory is taken for it."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from fvpipe.cache.sample_store import SampleStore
from fvpipe.config.identifier_key import identifier_key
from fvpipe.config.loading import read_yaml
from fvpipe.datasets.declared.declaration import Column, Table
from fvpipe.datasets.declared.row_reader import RowReader
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.header import read_header
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import FvpipeError, LabelTableError
from fvpipe.io import tables
from fvpipe.io.read import read_contents
from fvpipe.io.tables import read_table, whole_number
from fvpipe.reasons import Rejection
from fvpipe.types import Digest
from tests.conftest import build
from tests.support import factory

pytestmark = [pytest.mark.process, pytest.mark.timeout(100)]


@pytest.mark.fault(59)
def test_a_sparse_file_is_rejected_unread_and_the_build_goes_on(tmp_path: Path) -> None:
    for number, patient in enumerate(("large", "sound")):
        factory.patient(tmp_path / "in", patient, "L", number)
    os.truncate(tmp_path / "in" / "large_L_CC.dcm", 12 << 30)
    (result,) = json.loads(build(tmp_path / "in", tmp_path / "out", "--json", workers=1).stdout)
    assert (result["samples"], result["rejections"]) == (1, {"pixels_mismatch": 1, "cc_missing": 1})
    rejected = (tmp_path / "out" / "rejected.csv").read_text()
    assert f"large_L_CC.dcm,pixels_mismatch,the file has {12 << 30} bytes for an image of 320 x 256; expected" in rejected


def header_of(content: bytes, folder: Path, at: bytes = b"", inserted: bytes = b"", hole: int = 0, end: int = 0) -> str:
    """Why a file is rejected whose header has more in it before the element `at`, and a hole behind that."""
    place = content.index(at)
    with open(folder / "x.dcm", "wb") as file:
        file.write(content[:place] + inserted)
        file.seek(hole, os.SEEK_CUR)
        file.write(content[place:])
    if end:
        os.truncate(folder / "x.dcm", end)
    found = read_header(folder, "x.dcm", HeaderPolicy())
    return f"{found.reason.value}: {found.detail}" if isinstance(found, Rejection) else "accepted"


def content(syntax: str = ExplicitVRLittleEndian) -> bytes:
    made = factory.breast()
    return factory.file_bytes(factory.dataset(made.pixels, made.bits), made.pixels, syntax)


PATIENT_ID = b"\x10\0\x20\0"
SEQUENCE, ITEM, END = (0x54, 0x220, b"SQ", 0), struct.pack("<HHI", 0xFFFE, 0xE000, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@pytest.mark.fault(59)
def test_holes_elsewhere_are_not_read_either(tmp_path: Path) -> None:
    private = struct.pack("<HH2sHI", 9, 0x1010, b"OB", 0, 1 << 30)
    assert header_of(content(), tmp_path) == "accepted"
    assert "header has more than" in header_of(content(), tmp_path, PATIENT_ID, private, hole=1 << 30)
    deflated = content(DeflatedExplicitVRLittleEndian)
    assert header_of(deflated, tmp_path) == "accepted"
    assert "pixels_mismatch: the file has" in header_of(deflated, tmp_path, end=12 << 30)
    os.truncate(tmp_path / "x.dcm", 12 << 30)  # as if it had grown since it was indexed
    with pytest.raises(OSError, match="too large"):
        read_contents(tmp_path / "x.dcm", "")


@pytest.mark.fault(60)
def test_headers_of_a_million_elements_are_rejected(tmp_path: Path) -> None:
    million = 1_000_000
    elements = b"".join(struct.pack("<HH2sH", 9 + 2 * (i >> 16), i & 0xFFFF, b"LO", 0) for i in range(million))
    assert "header_unreadable: the header has more than" in header_of(content(), tmp_path, PATIENT_ID, elements)
    open_end = struct.pack("<HH2sHI", 9, 0x1010, b"SQ", 0, 0xFFFFFFFF) + ITEM * million + END
    assert "header_unreadable: the header has more than" in header_of(content(), tmp_path, PATIENT_ID, open_end)
    for count, expected in ((million, "bytes; expected at most"), (100_000, "more than 4096 items")):
        view = struct.pack("<HH2sHI", *SEQUENCE, 8 * count) + ITEM * count
        said = header_of(content(), tmp_path, b"\xe0\x7f\x10\0OW", view)
        assert said.startswith("header_unreadable: ViewCodeSequence has") and expected in said
    many = struct.pack("<HHI", 8, 8, 2 * million) + b"A\\" * million
    said = header_of(content(ImplicitVRLittleEndian), tmp_path, struct.pack("<HHI", 8, 0x60, 2), many)
    assert said == f"header_unreadable: ImageType has {2 * million} bytes; expected at most 65536"


SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def workbook(path: Path, texts: int, more: bytes = b"") -> None:
    """A spreadsheet of so many texts, of which its first cell shows the first; `more` rows of it."""
    kind, xml = "application/vnd.openxmlformats-officedocument.spreadsheetml", 'ContentType="application/xml"'
    parts = {"workbook": "sheet.main", "worksheets/sheet1": "worksheet", "sharedStrings": "sharedStrings"}
    types = "".join(f'<Override PartName="/xl/{part}.xml" ContentType="{kind}.{name}+xml"/>' for part, name in parts.items())
    related = {
        "_rels/.rels": {"officeDocument": "xl/workbook"},
        "xl/_rels/workbook.xml.rels": {"worksheet": "worksheets/sheet1", "sharedStrings": "sharedStrings"},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as book:
        defaults = f'<Default Extension="xml" {xml}/>'
        book.writestr("[Content_Types].xml", f'<Types xmlns="{PACKAGE}/content-types">{defaults}{types}</Types>')
        for name, links in related.items():
            text = "".join(
                f'<Relationship Id="r{i}" Type="{OFFICE}/{what}" Target="{target}.xml"/>'
                for i, (what, target) in enumerate(links.items())
            )
            book.writestr(name, f'<Relationships xmlns="{PACKAGE}/relationships">{text}</Relationships>')
        sheets = '<sheets><sheet name="s" sheetId="1" r:id="r0"/></sheets>'
        book.writestr("xl/workbook.xml", f'<workbook xmlns="{SHEETS}" xmlns:r="{OFFICE}">{sheets}</workbook>')
        with book.open("xl/worksheets/sheet1.xml", "w") as sheet:
            sheet.write(f'<worksheet xmlns="{SHEETS}"><sheetData>'.encode())
            sheet.write(b'<row><c t="s"><v>0</v></c></row>' + more + b"</sheetData></worksheet>")
        with book.open("xl/sharedStrings.xml", "w", force_zip64=True) as shared:
            shared.write(f'<sst xmlns="{SHEETS}">'.encode())
            for _ in range(texts // 10_000):
                shared.write(b"<si><t>a</t></si>" * 10_000)
            shared.write(b"</sst>")


@pytest.mark.fault(60)
def test_spreadsheets_of_millions_of_texts_or_rows_are_named(tmp_path: Path) -> None:
    workbook(tmp_path / "t.xlsx", 10_000)
    assert read_table(tmp_path / "t.xlsx", ["a"]) == []
    workbook(tmp_path / "t.xlsx", 20_000_000)
    with pytest.raises(LabelTableError, match=r"t\.xlsx: has more than 500000 different texts; save the table as CSV"):
        read_table(tmp_path / "t.xlsx", ["a"])
    with (
        zipfile.ZipFile(tmp_path / "t.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as book,
        book.open("xl/media", "w", force_zip64=True) as part,
    ):
        for _ in range(1100):
            part.write(bytes(1 << 20))
    with pytest.raises(LabelTableError, match="has more bytes than a label table"):
        read_table(tmp_path / "t.xlsx", ["a"])


@pytest.mark.fault(60)
@pytest.mark.parametrize("row", [b'<row r="10000000000">%b</row>', b'<row>%b</row><row r="10000000000"/>'], ids=["it", "next"])
@pytest.mark.parametrize("cell", [b"<c><v>1</v></c>", b"<c><f>1</f><v>1</v></c>"], ids=["value", "formula"])
def test_a_spreadsheet_whose_rows_are_far_apart_is_named(
    row: bytes, cell: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two rows openpyxl makes those that are not there, billions of them."""
    monkeypatch.setattr(tables, "MAX_ROWS", 1000)
    workbook(tmp_path / "t.xlsx", 10_000, row % cell)
    with pytest.raises(LabelTableError, match="has more rows than a label table"):
        read_table(tmp_path / "t.xlsx", ["a"])


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    ("markup", "said"),
    [
        (b"<!-- " + b"<mergeCell " * 50_000 + b" -->" + b"<row><c><v>1</v></c></row>" * 2000, ""),
        (b'<mergeCell ref="A1:A900000"/>' * 90_000 + b"<row><c><v>1</v></c></row>" * 2000, ""),
        (b'<mergeCell ref="A1:B2"/>' * 100_001, "has more than 100000 merged cells"),
    ],
    ids=["no end", "one above the other", "many"],
)
def test_a_spreadsheet_of_merged_cells_without_end_is_named(markup: bytes, said: str, tmp_path: Path) -> None:
    workbook(tmp_path / "t.xlsx", 10_000, markup)
    with pytest.raises(LabelTableError, match=said) if said else nullcontext():
        assert len(read_table(tmp_path / "t.xlsx", ["a"])) == 2000


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    ("markup", "said"),
    [
        (b"<row>%b</row>", "elements in one row; save the table as CSV"),
        (b"<row><c><v>%b</v></c></row>", "in one row"),
        (b"%b", "elements beside its rows"),
        (b"<row/>%b", "beside its rows"),
        ((b"<row>" + b"<c/>" * 16_000 + b"</row>") * 8, ""),
    ],
)
def test_elements_without_end_in_a_spreadsheet_are_named(
    markup: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes hundreds of bytes and microseconds, and openpyxl keeps those of a row to its end, and all others."""
    monkeypatch.setattr("fvpipe.io.workbooks.MAX_ELEMENTS", 100_000)
    workbook(tmp_path / "t.xlsx", 10_000, markup.replace(b"%b", b"<a/>" * 100_001))
    with pytest.raises(LabelTableError, match=said) if said else nullcontext():
        read_table(tmp_path / "t.xlsx", ["a"])


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((b"a\n", b"x\n" * 20_000_000), "has more rows than a label table"),
        ((b"x," * 20_000_000,), "has more cells than a label table"),
        ((b"a\n", b"x" * 20_000_000), "line 2: not readable as CSV .a line has 1048576 characters or more"),
        ((b"," .join(b"%d" % i for i in range(20_000)), b"\n1\n"), "has 20000 columns; expected at most 16384"),
        ((b",".join(b"%d" % i for i in range(10_000)), b"\n" + b"1\n" * 10_000), "has more cells than a label table"),
    ],
    ids=["rows", "cells", "line", "columns", "short rows"],
)  # fmt: skip
def test_tables_of_millions_of_cells_are_named(
    parts: tuple[bytes, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fvpipe.io.tables.MAX_CELLS", 1 << 22)
    (tmp_path / "t.csv").write_bytes(b"".join(parts))
    with pytest.raises(LabelTableError, match=rf"t\.csv(, line 1)?.*{said}"):
        read_table(tmp_path / "t.csv", [])


@pytest.mark.fault(60)
def test_a_sparse_table_and_a_sparse_key_are_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a,b\n")
    os.truncate(tmp_path / "x", 1 << 40)
    with pytest.raises(LabelTableError, match="has more bytes than a label table"):
        read_table(tmp_path / "x", ["a"])
    store, key = SampleStore(tmp_path), Digest("a" * 64)
    store.path(key).parent.mkdir()
    store.path(key).symlink_to(tmp_path / "x")
    for read in (identifier_key, read_yaml, lambda _: store.get(key)):
        with pytest.raises(FvpipeError, match=rf"cannot be read \(has {1 << 40} bytes, more than"):
            read(tmp_path / "x")


@pytest.mark.fault(60)
def test_cells_of_thousands_of_characters_are_named(tmp_path: Path) -> None:
    """Patterns take time by the square of the length, and the one that finds names in a cell by its cube."""
    (tmp_path / "t.csv").write_text(f"a,b,c\n{'x' * 50_000}{' ' * 50_000}1,{'1$' * 50_000}x,?\n")
    (row,) = read_table(tmp_path / "t.csv", ["a", "b", "c"])
    with pytest.raises(LabelTableError, match=r"line 2: a is another \(not shown"):
        row.parse("a", whole_number, "a number")
    declared = get_adapter("cdd-cesm").declaration
    assert declared
    pattern = next(table.columns["bi_rads"].pattern for table in declared.tables if "bi_rads" in table.columns)
    for column, said in (
        ("b", "100001 characters; expected at most 8192"),
        ("a", "100001 characters"),
        ("c", "; expected text of"),
    ):
        reader = RowReader(Table(), {"bi_rads": Column(column=(column,), pattern=pattern)}, ((), ()), {})
        with pytest.raises(LabelTableError, match=rf"line 2: {column} .*{said}"):
            reader.cell(row, "bi_rads")
