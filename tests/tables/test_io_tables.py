"""Tables as publishers ship them, our own CSV files, and what the adapters make of label tables, right and wrong."""

from __future__ import annotations

import codecs
import csv
import io
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import ImageFacts, LabelTable, parse_laterality
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError
from fvpipe.io.csv_lines import format_csv
from fvpipe.io.tables import open_table, read_table
from fvpipe.types import BreastFacts, Laterality, View

CMMD = Path(__file__).parents[1] / "data" / "cmmd"
L, R = Laterality.LEFT, Laterality.RIGHT
ROWS = [{"a": "1", "b": "two words", "c": "x,y"}, {"a": "2", "b": "", "c": "é"}]
PLAIN = 'a,b,c\n1,two words,"x,y"\n2,,é\n'


def xlsx(file: Path, rows: list[Any]) -> Path:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    book.create_sheet("another").append(["not", "this"])
    book.save(file)
    return file


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.rstrip("\n").encode(),
        PLAIN.replace('"x,y"', "x;y").replace(",", ";").replace("x;y", "x,y").encode(),
        b"\xef\xbb\xbf" + PLAIN.replace('"x,y"', "x;y").replace(",", ";").replace("x;y", "x,y").replace("\n", "\r\n").encode(),
        PLAIN.replace('"x,y"', "x;y").replace(",", "\t").replace("x;y", "x,y").encode(),
        'a,b,c\n" 1 ", two words ,"x,y"\n2,\t,é'.encode(),
        'a,b,c,\n1,two words,"x,y",\n2,,é,\n'.encode(),
        "a,c,b\n1,\"x,y\",two words\n2,é\n".encode(),  # as Excel does, without the empty cells at the end
        PLAIN.encode("utf-16"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        '"a" , "b",  "c"\n1, two words , "x,y"\n2,,é\n'.encode(),
        'a;c;b;"one, two, three, four"\n1;x,y;two words;\n2;é;;\n'.encode(),
    ],
    ids=[
        "plain", "BOM", "CRLF", "CR", "no end of line", ";", "BOM ; CRLF", "tab", "space", "empty column", "short row",
        "UTF-16 LE", "UTF-16 BE", "quoted heading", "commas in a heading",
    ],
)  # fmt: skip
def test_a_csv_table_in_many_forms(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    rows = read_table(tmp_path / "t.csv", ["a", "c"])
    assert [{column: row[column] for column in "abc"} for row in rows] == ROWS
    assert [row.line for row in rows] == [2, 3]
    assert rows[0].get("d") == ""


@pytest.mark.fault(30)
@pytest.mark.parametrize("first", ["sep=;\r\n", "\ufeffSEP=;\n", '"sep=;"\n', "sep=;\r"])
def test_a_line_that_names_the_separator(tmp_path: Path, first: str) -> None:
    (tmp_path / "t.csv").write_bytes((first + PLAIN.replace("two words", '"two; words"').replace(",", ";")).encode())
    rows = read_table(tmp_path / "t.csv", ["a", "c"])
    assert [(row.line, row["a"], row["b"]) for row in rows] == [(3, "1", "two; words"), (4, "2", "")]


def test_an_xlsx_table(tmp_path: Path) -> None:
    rows = [["a", "b", "c"], [1, " two words", "x,y"], [2.0, None, "é"]]
    assert [dict(row.cells) for row in read_table(xlsx(tmp_path / "t.xlsx", rows), ["a", "c"])] == ROWS
    assert [dict(row.cells) for row in read_table(xlsx(tmp_path / "t.XLSX", rows), ["a", "c"])] == ROWS
    found = read_table(xlsx(tmp_path / "t.xlsx", [["a", "b"], [None, None], [1.5, True]]), ["a"])
    assert [(row.line, dict(row.cells)) for row in found] == [(3, {"a": "1.5", "b": "True"})]


def workbook(file: Path, *sheets: Any) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(file)
    return file


def test_a_second_table_in_a_workbook_is_not_left_out_in_silence(tmp_path: Path) -> None:
    first, heading = [["a", "b"], [1, 2]], ["b", "a", "note"]
    for others in ([[["remark"], ["a"]]], [[heading]], [[]], [[], [["a", "c"], [1, 2]]]):
        assert len(read_table(workbook(tmp_path / "t.xlsx", first, *others), ["a"])) == 1
    for above in ([], [["of 2019"], ["a remark", "and more"]]):
        for names in (heading, ["B ", "note", "A"]):
            with pytest.raises(
                LabelTableError, match=r"t\.xlsx: sheet 3 has the same columns as the one that is read; expected one"
            ):
                read_table(workbook(tmp_path / "t.xlsx", first, [["remark"]], [*above, [], names, [1, 2, 3]]), ["a"])
    file = workbook(tmp_path / "t.xlsx", [*first, [3, 4]], [["label", "patient_id", "laterality"], [1, "P", "L"]])
    with pytest.raises(LabelTableError, match="found none of those expected among 2; sheet 2 has them: name it"):
        get_adapter("table").read_labels(tmp_path, file, Labels())
    # A column more in the first does not make the second another table.
    rows = [["patient_id", "laterality", "label", "density"], ["P", "R", 0, "A"]]
    file = workbook(tmp_path / "t.xlsx", rows, [["Label", "patient_id", "laterality"], [1, "P", "L"]])
    with pytest.raises(LabelTableError, match="sheet 2 has the same columns"):
        get_adapter("table").read_labels(tmp_path, file, Labels(columns={"density": "density"}))


def test_messages_name_the_sheet_where_a_workbook_has_several(tmp_path: Path) -> None:
    """Lines are counted in each of them."""
    file = workbook(tmp_path / "t.xlsx", [["a"], [1]], [["of 2019"], ["b"], [2]])
    table = open_table(file, sheet="Sheet1")
    with pytest.raises(
        LabelTableError, match=r"t\.xlsx, sheet Sheet1, line 1: column 'b' .*is the table on this sheet, and is"
    ):
        next(table.rows(["b"]))
    (row, _) = open_table(file, sheet="Sheet1").rows([])
    assert row.place == "t.xlsx, sheet Sheet1, line 2"
    for sheet in ("", "of another name"):
        (row,) = open_table(file, sheet=sheet).rows([])
        assert row.place == "t.xlsx, line 2"


def test_a_hidden_sheet_is_not_the_table(tmp_path: Path) -> None:
    """Its old labels were read, and those that the user sees were not."""
    file = workbook(tmp_path / "t.xlsx", [["a", "b"], [1, 0]], [["a", "c"], [2, 1]])
    book = openpyxl.load_workbook(file)
    book.worksheets[0].sheet_state, book.active = "hidden", 1
    book.save(file)
    assert [row["a"] for row in read_table(file, ["a"])] == ["2"]


def test_a_formula_without_a_value_is_no_empty_cell(tmp_path: Path) -> None:
    """Programs that are not spreadsheets write formulas without their values, which openpyxl reads as empty cells."""
    file = workbook(tmp_path / "t.xlsx", [["a", "b"], ["x", "y"], ["x", '=IF(A3="x",1,0)'], ["x", '=""']])
    with pytest.raises(LabelTableError, match=r"t\.xlsx, line 3: a formula has no value"):
        read_table(file, ["a"])
    with zipfile.ZipFile(file) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    for cell, attribute, value in (("B3", b"", b"1"), ("B4", b' t="str"', b"")):
        before, found, after = re.split(rb'(<c r="%b"[^>]*><f>[^<]*</f><v ?/>)' % cell.encode(), parts[sheet])
        formula = re.sub(rb"<c [^>]*>|<v ?/>", b"", found)
        parts[sheet] = before + b'<c r="%b"%b>%b<v>%b</v>' % (cell.encode(), attribute, formula, value) + after
    with zipfile.ZipFile(file, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)
    assert [row["b"] for row in read_table(file, ["a"])] == ["y", "1", ""]


def test_a_number_of_more_digits_than_a_spreadsheet_keeps(tmp_path: Path) -> None:
    file = workbook(tmp_path / "t.xlsx", [["a"], [123456789012345.0], [1.23456789012345e18]])
    assert [row["a"] for row in read_table(file, ["a"])] == ["123456789012345", "1.23456789012345E+18"]


def test_an_xlsx_table_that_says_a_wrong_size(tmp_path: Path) -> None:
    """Some writers leave the size of a sheet at its first cell: openpyxl believes it and shows no more."""
    file = xlsx(tmp_path / "t.xlsx", [["a", "b"], [1, 2], [3, None]])
    with zipfile.ZipFile(file) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    assert b'ref="A1:B3"' in parts[sheet] and b"<v>3</v>" in parts[sheet]
    parts[sheet] = parts[sheet].replace(b'ref="A1:B3"', b'ref="A1:B2"').replace(b"<v>3</v>", b"<v>3.0</v>")
    with zipfile.ZipFile(file, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)
    assert [dict(row.cells) for row in read_table(file, ["a"])] == [{"a": "1", "b": "2"}, {"a": "3", "b": ""}]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n\n1,"two\nlines"\n\n2,x\n')
    rows = read_table(tmp_path / "t.csv", ["a"])
    assert [(row.line, row["b"]) for row in rows] == [(3, "two\nlines"), (6, "x")]


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; expected a heading with the columns a, b"),
        (b"\n \n,,\n", "is empty"),
        (b"a,c\n1,2\n", "column 'b' is missing; expected a, b, found a among 2"),
        (b"A,b\n1,2\n", "column 'a' is missing; expected a, b, found b among 2; is it 'A'?"),
        (b"sep=;\nA b;x\n", "line 2: column 'a' is missing"),
        (b"Smith,b\n1,2\n", "column 'a' is missing; expected a, b, found b among 2"),
        (b"a,b,a\n1,2,3\n", "column 'a' occurs twice"),
        (b"a,b\n1,2\n3,4,5\n", "line 3: 3 cells; the heading has 2"),
        ("a,b\r\n1,2\r\né,1\r\n".encode("latin-1"), "line 3: byte 0xe9 is not UTF-8; save the table as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], "line 2: byte 0x0a is not UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "is not text; save the table as UTF-8"),
        (b'a,b\n1,"2\n3,4\n', "line 2: not readable as CSV (unexpected end of data)"),
        (b'a,b\n1,"2\n3,4\n5,"6"\n', "line 2: not readable as CSV"),
        (b"a,b\n1,2\n3," + 140_000 * b"x" + b"\n", "line 3: not readable as CSV"),
    ],
)
def test_a_csv_table_that_cannot_be_read(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(data)
    with pytest.raises(LabelTableError) as error:
        read_table(file, ["a", "b"])
    assert message in str(error.value)
    assert str(error.value).startswith(str(file))


def test_a_missing_column_lists_those_of_a_line_that_is_a_heading(tmp_path: Path) -> None:
    """A line with a name of columns is one; any other may be a patient's, and its cells may be names."""
    file = tmp_path / "t.csv"
    file.write_text("patient,side,cancer,born 19510203\nP1,L,1,x\n")
    with pytest.raises(
        LabelTableError, match=r"column 'outcome' is missing; expected patient, outcome, found patient, side, cancer$"
    ):
        read_table(file, ["patient", "outcome"])
    with pytest.raises(LabelTableError, match=r"found none of those expected among 4$"):
        read_table(file, ["subject", "outcome"])


def test_other_tables_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match="no such file; expected a table with the columns a, b"):
        read_table(tmp_path / "absent.csv", ["a", "b"])
    with pytest.raises(LabelTableError, match="is not a regular file"):
        read_table(tmp_path, ["a"])
    (tmp_path / "t.xlsx").write_bytes(b"PK\3\4 no workbook")
    with pytest.raises(LabelTableError, match=r"cannot be read as XLSX \(BadZipFile\); save it as XLSX without"):
        read_table(tmp_path / "t.xlsx", ["a"])
    (tmp_path / "t.xls").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1"))
    with pytest.raises(LabelTableError, match="is a workbook of another form; save it as XLSX"):
        read_table(tmp_path / "t.xls", ["a"])
    with pytest.raises(LabelTableError, match="column 'a' is missing"):
        read_table(xlsx(tmp_path / "t.xlsx", [["b"], [1]]), ["a"])


def test_the_error_of_a_row_names_file_line_and_value(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"a\n1\n{60 * 'x'}\n")
    error = read_table(tmp_path / "t.csv", ["a"])[1].error("a", "a number")
    assert str(error) == f"{tmp_path / 't.csv'}, line 3: a is '{40 * 'x'}'; expected a number"


# --- writing ----------------------------------------------------------------------------------------------------------


def test_what_is_written() -> None:
    values = [
        None,
        True,
        False,
        0,
        -1,
        0.1,
        -2.0,
        np.float64(0.25),
        np.int64(-3),
        "x",
        'say "x"',
        "a,b",
        "l\nm",
        Laterality.LEFT,
    ]
    assert format_csv(["n"], ([value] for value in values)) == (
        b'n\n""\ntrue\nfalse\n0\n-1\n0.1\n-2.0\n0.25\n-3\nx\n"say ""x"""\n"a,b"\n"l\nm"\nL\n'
    )


@pytest.mark.parametrize("cell", ["-660", "-0.5", "-1e-05", "-1e+16"])
def test_a_negative_number_is_no_formula(tmp_path: Path, cell: str) -> None:
    (tmp_path / "t.csv").write_bytes(format_csv(["a", "b"], [[cell, f"{cell}+A1"], [f"'{cell}", "-"]]))
    first, second = read_table(tmp_path / "t.csv", ["a", "b"])
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == f"{cell},'{cell}+A1"
    assert [first["a"], first["b"], second["a"], second["b"]] == [cell, f"{cell}+A1", f"'{cell}", "-"]


@pytest.mark.fault(31)
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'=", "''"])
def test_no_cell_is_a_formula(tmp_path: Path, start: str) -> None:
    cell = f"{start}cmd|' /C calc'!A0"
    data = format_csv(["first", "second"], [["x", cell]])
    (shown,) = list(csv.reader(io.StringIO(data.decode(), newline="")))[1:]
    assert shown == ["x", f"'{cell}"]
    (tmp_path / "t.csv").write_bytes(data)
    assert read_table(tmp_path / "t.csv", ["second"])[0]["second"] == cell


CELLS = st.text(st.characters(codec="utf-8"), max_size=8) | st.text("=+-@'\"\t\r\n,; x\\", max_size=6)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "t.csv"


@settings(max_examples=300, deadline=None, database=None)
@given(rows=st.lists(st.lists(CELLS.map(str.strip), min_size=3, max_size=3), max_size=5))
def test_what_is_written_is_read_again(scratch: Path, rows: list[list[str]]) -> None:
    data = format_csv(["a", "b", "c", "end"], [[*row, "."] for row in rows])
    scratch.write_bytes(data)
    assert [[row[column] for column in "abc"] for row in read_table(scratch, ["end"])] == rows
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for line in plainly(data) for cell in line)


def plainly(data: bytes) -> list[list[str]]:
    """As a spreadsheet would show it."""
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def test_a_name_that_is_no_text_is_written() -> None:
    """File names may hold any bytes, which Python shows as lone surrogates."""
    data = format_csv(["what"], [[b"caf\xe9.dcm".decode("utf-8", "surrogateescape")]])
    assert data == b"what\ncaf\\udce9.dcm\n"


# --- label tables -----------------------------------------------------------------------------------------------------


def labels(name: str, folder: Path, text: str, rules: Labels | None = None) -> LabelTable:
    """What the adapter reads from a label file of `text`."""
    file = folder / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return get_adapter(name).read_labels(folder, file, rules or Labels())


@pytest.mark.parametrize("text", ["L", "l", "left", "LEFT", "Left"])
def test_laterality(text: str) -> None:
    assert parse_laterality(text) is L
    assert parse_laterality(text.replace("L", "R").replace("l", "r").replace("EFT", "IGHT").replace("eft", "ight")) is R
    assert parse_laterality(f"{text}x") is None
    assert parse_laterality("B") is parse_laterality("") is None


TWICE = "lines 2 and {}: one breast has two descriptions"
VINDR = "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split\n"
VINDR_ROWS = (
    "s1,a,i1,L,CC,3518,2800,BI-RADS 5,DENSITY C,training\ns1,a,i2,L,MLO,3518,2800,BI-RADS 5,DENSITY C,training\n"
    "s1,a,i3,R,CC,3518,2800,BI-RADS 1,DENSITY C,training\ns2,b,i4,R,MLO,3580,2700,bi-rads 3,density a,test\n"
)


def test_vindr(tmp_path: Path) -> None:
    found = labels("vindr", tmp_path, VINDR + VINDR_ROWS)
    excluded = "BI-RADS 1 is neither benign nor malignant by the label rule"
    assert found.rows == {
        ("s1", L): BreastFacts(1, 5, "C", subset="training"),
        ("s1", R): BreastFacts(-1, 1, "C", subset="training", excluded=excluded),
        ("s2", R): BreastFacts(0, 3, "A", subset="test"),
    }
    assert found.images["i4"] == ImageFacts(5, R, View.MLO, 3580, 2700, "s2")
    assert len(found.images) == 4
    assert not found.excluded_patients
    other = labels("vindr", tmp_path, VINDR + VINDR_ROWS, Labels(bi_rads_benign=(1, 2), bi_rads_malignant=(3, 4, 5)))
    assert {key: facts.label for key, facts in other.rows.items()} == {("s1", L): 1, ("s1", R): 0, ("s2", R): 1}


def test_vindr_where_it_is_published(tmp_path: Path) -> None:
    """Beside the images, under its own name, and with three columns only."""
    (tmp_path / "breast-level_annotations.csv").write_text("study_id,laterality,breast_birads\ns,L,BI-RADS 2\n")
    found = get_adapter("vindr").read_labels(tmp_path, None, Labels())
    assert found == LabelTable({("s", L): BreastFacts(0, 2)})


CMMD_HEADING = "ID1,LeftRight,Age,number,abnormality,classification,subtype\n"


def test_cmmd(tmp_path: Path) -> None:
    text = (
        f"{CMMD_HEADING}D1-0001,R,44,2,calcification,Benign,\nD2-0001,L,90,2,mass,malignant,Luminal A\n"
        "D2-0001,L,90,2,calcification,Malignant,Luminal B\nD1-0202,L,,4,both,Malignant,\n"
    )
    found = labels("cmmd", tmp_path, text)
    assert found.rows == {
        ("D1-0001", R): BreastFacts(0, age="044Y", pathology="calcification"),
        ("D2-0001", L): BreastFacts(1, age="90+"),  # two rows that agree on the label, and not on what it is
        ("D1-0202", L): BreastFacts(1, pathology="both"),
    }
    assert set(found.excluded_patients) == {"D1-0202", "D2-0284", "D1-0808", "D1-1292"}
    assert labels("cmmd", tmp_path, text, Labels(duplicate_patients="keep")).excluded_patients == {}


def test_cmmd_as_published() -> None:
    """The official tables, XLSX and CSV: the same 1,872 rows, one a labelled breast."""
    files = [CMMD / f"CMMD_clinicaldata_revision.{suffix}" for suffix in ("xlsx", "csv")]
    tables = [read_table(file, ["ID1", "LeftRight", "classification"]) for file in files]
    assert [(row.line, row.cells) for row in tables[0]] == [(row.line, row.cells) for row in tables[1]]
    assert len(tables[0]) == 1872
    found = [get_adapter("cmmd").read_labels(Path(), file, Labels()) for file in files]
    assert found[0] == found[1]
    assert Counter(facts.label for facts in found[0].rows.values()) == {0: 556, 1: 1316}
    kept = [facts.label for (patient, _), facts in found[0].rows.items() if patient not in found[0].excluded_patients]
    assert Counter(kept) == {0: 554, 1: 1313}  # the paper's Table 1, in breasts


def test_cmmd_finds_its_table_beside_the_images(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"CMMD_clinicaldata_revision\.xlsx: no such file"):
        get_adapter("cmmd").read_labels(tmp_path, None, Labels())
    (tmp_path / "CMMD_clinicaldata_revision.csv").write_text(f"{CMMD_HEADING}D1-0001,R,44,2,mass,Benign,\n".replace(",", ";"))
    assert set(get_adapter("cmmd").read_labels(tmp_path, None, Labels()).rows) == {("D1-0001", R)}
    rows = [CMMD_HEADING.strip().split(","), ["D1-0002", "L", 40, 2, "mass", "Benign", None]]
    xlsx(tmp_path / "CMMD_clinicaldata_revision.xlsx", rows)  # the official one goes first
    assert set(get_adapter("cmmd").read_labels(tmp_path, None, Labels()).rows) == {("D1-0002", L)}


def test_table(tmp_path: Path) -> None:
    words = {"1": 1, "malignant": 1, "Malignant": 1, "0": 0, "benign": 0, "BENIGN": 0, "-1": -1, "unlabelled": -1, "": -1}
    text = "patient_id,laterality,label\n" + "".join(f"P{i},L,{word}\n" for i, word in enumerate(words))
    found = labels("table", tmp_path, f"{text}P0,L,1\nP0,right,0\n")  # a row may come twice
    expected = {(f"P{i}", L): BreastFacts(label) for i, label in enumerate(words.values())} | {("P0", R): BreastFacts(0)}
    assert found.rows == expected
    assert found.rows["P0", R] == BreastFacts(0)
    assert get_adapter("table").read_labels(tmp_path, None, Labels()) == LabelTable()


def test_cbis_sample(tmp_path: Path) -> None:
    rows = get_adapter("cbis").read_labels(tmp_path, None, Labels()).rows
    assert {key: facts.label for key, facts in rows.items()} == {
        ("P_00173", L): 0, ("P_00173", R): 0, ("P_00820", L): 1, ("P_00820", R): 0,
    }  # fmt: skip


OURS = "patient_id,laterality,label\n"
CBIS = "patient_id,left or right breast,pathology,assessment\n"
VINDR_FIRST = "s1,a,i1,L,CC,10,20,BI-RADS 2,DENSITY A,training\n"


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vindr", f"{VINDR}{VINDR_FIRST}s1,a,i2,L,CC,10,20,BI-RADS 7,,\n", "line 3: breast_birads is 'BI-RADS 7'"),
        ("vindr", f"{VINDR}s1,a,i1,L,CC,10,20,5,,\n", "line 2: breast_birads is '5'; expected 'BI-RADS 0' to 'BI-RADS 6'"),
        ("vindr", f"{VINDR}s1,a,i1,L,CC,10,20,,,\n", "line 2: breast_birads is ''"),
        ("vindr", f"{VINDR}s1,a,i1,B,CC,10,20,BI-RADS 2,,\n", "line 2: laterality is 'B'; expected L or R"),
        ("vindr", f"{VINDR}s1,a,i1,L,ML,10,20,BI-RADS 2,,\n", "line 2: view_position is 'ML'; expected CC or MLO"),
        ("vindr", f"{VINDR}s1,a,i1,L,CC,10.5,20,BI-RADS 2,,\n", "line 2: height is '10.5'"),
        ("vindr", f"{VINDR}{VINDR_FIRST}\ns1,a,i2,L,CC,10,20,BI-RADS 3,DENSITY A,training\n", TWICE.format(4)),
        ("vindr", f"{VINDR}{VINDR_FIRST}s1,a,i2,L,CC,10,20,BI-RADS 2,DENSITY A,test\n", TWICE.format(3)),
        (
            "vindr",
            f"{VINDR}{VINDR_FIRST}{VINDR_FIRST}{VINDR_FIRST.replace('CC', 'MLO')}",
            "lines 2 and 4: list one image (column image_id) and differ; expected one row",
        ),
        ("vindr", "study_id,laterality\n", "column 'breast_birads' is missing"),
        ("cmmd", f"{CMMD_HEADING}D1-0001,X,44,2,mass,Benign,\n", "line 2: LeftRight is 'X'; expected L or R"),
        ("cmmd", f"{CMMD_HEADING}D1-0001,L,44,2,mass,Normal,\n", "line 2: classification is 'Normal'"),
        ("cmmd", f"{CMMD_HEADING}D1-0001,L,44,2,mass,,\n", "line 2: classification is ''; expected Benign or Malignant"),
        (
            "cmmd",
            f"{CMMD_HEADING}D1-0001,L,44,2,mass,Benign,\nD1-0001,R,44,2,mass,Benign,\nD1-0001,left,44,2,mass,Malignant,\n",
            "lines 2 and 4: one breast has two labels",
        ),
        ("cmmd", "ID1;LeftRight\nD1-0001;L\n", "column 'classification' is missing; expected ID1, LeftRight, classification"),
        ("table", f"{OURS}P1,both,1\n", "line 2: laterality is 'both'; expected L or R"),
        ("table", f"{OURS}P1,L,1\n,R,0\n", "line 3: patient_id is ''; expected the patient of the row; of merged"),
        ("table", f"{OURS}P1,L,2\n", "line 2: label is '2'; expected 1 or malignant, 0 or benign"),
        ("table", f"{OURS}P1,L,1\nP1,R,0\nP1,L,-1\n", "lines 2 and 4: one breast has two labels"),
        ("table", "patient,laterality,label\nP1,L,1\n", "column 'patient_id' is missing"),
        ("cbis", f"{CBIS}P_00001,BOTH,BENIGN,2\n", "line 2: left or right breast is 'BOTH'"),
        ("cbis", f"{CBIS}P_00001,LEFT,UNKNOWN,2\n", "line 2: pathology is 'UNKNOWN'"),
    ],
)  # fmt: skip
def test_a_wrong_label_table_names_file_line_and_value(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(LabelTableError) as error:
        labels(name, tmp_path, text)
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "labels.csv"))


FINDINGS = "image_id,finding_categories,finding_birads,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("i1,['Mass'],BI-RADS 9,1,2,3,4", "line 2: finding_birads is 'BI-RADS 9'"),
        ("i1,['Mass'],BI-RADS 5,1,2,x,4", "line 2: xmax is 'x'; expected a number of pixels"),
        ("i1,['Mass'],BI-RADS 5,1,2,inf,4", "line 2: xmax is another (not shown"),
        ("i1,['Mass'],BI-RADS 5,5,2,3,4\ni1,['Mass'],BI-RADS 5,6,2,3,4", "line 2: xmax is '3'; expected a box"),
        (",['Mass'],BI-RADS 5,1,2,3,4", "line 2: image_id is ''; expected the SOP Instance UID of the image"),
    ],
)
def test_a_wrong_table_of_findings(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "finding_annotations.csv").write_text(FINDINGS + row + "\n")
    with pytest.raises(LabelTableError) as error:
        labels("vindr", tmp_path, VINDR + VINDR_ROWS)
    assert message in str(error.value)
    assert "finding_annotations.csv" in str(error.value)
