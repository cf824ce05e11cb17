"""Names and texts of files are shown as text: markup in pages, escape sequences on the terminal, cells of shifted rows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from markupsafe import escape

from fvpipe import errors
from fvpipe.cli.main import main
from fvpipe.cli.output import echo, print_rejections, say, warn
from fvpipe.config.project import Labels
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import FvpipeError, LabelTableError
from fvpipe.figures import style
from fvpipe.printable import CONTROL, escaped
from fvpipe.reasons import Reason, Rejection
from fvpipe.report.inspect import to_text
from fvpipe.report.shard_page import write_page
from fvpipe.shards.format import RECEIPT
from fvpipe.simulation.writer import write_dataset
from tests.support.hostile_shards import change_shard, text
from tests.support.shard_folder import commit

MARKUP = "<script>alert(1)</script>\"'&"
SEQUENCE = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202eb\r"


@pytest.mark.fault(53)
def test_markup_in_a_shard_folder_is_text_in_its_page(tmp_path: Path) -> None:
    commit(tmp_path / "s", (3,))
    change_shard(tmp_path / "s", text("breast_id", MARKUP.encode()))
    data = json.loads((tmp_path / "s" / RECEIPT).read_text())
    data |= {"license": MARKUP, "dataset": MARKUP, "pipeline": MARKUP, "pipeline_digest": "<b>", "rejections": {MARKUP: 1}}
    (tmp_path / "s" / RECEIPT).write_text(json.dumps(data))
    write_page(tmp_path / "s", tmp_path / "page.html", 3)
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;") >= 6
    assert page.count("<figure>") == 3  # and markup of the template is markup


@pytest.mark.fault(53)
@pytest.mark.parametrize(
    "markup",
    [
        '"><img src=x onerror=alert(1)>',
        "</style><script>alert(1)</script>",
        "' onload='alert(1)",
        "<svg/onload=alert(1)>",
        "{{ 7 * 7 }}<b>{% raw %}",
        "<!-- --><iframe>",
    ],
)
def test_markup_of_every_kind(markup: str, tmp_path: Path) -> None:
    commit(tmp_path / "s", (3,))
    change_shard(tmp_path / "s", text("breast_id", markup.encode()))
    data = json.loads((tmp_path / "s" / RECEIPT).read_text()) | {"license": markup, "dataset": markup, "pipeline": markup}
    (tmp_path / "s" / RECEIPT).write_text(json.dumps(data))
    write_page(tmp_path / "s", tmp_path / "page.html", 3)
    page = (tmp_path / "page.html").read_text()
    assert markup not in page
    assert page.count(str(escape(markup))) >= 5


@pytest.mark.fault(53)
def test_markup_in_file_names_is_text_in_the_page_of_an_audit(tmp_path: Path) -> None:
    write_dataset("cmmd", tmp_path / "all", 8, 0)
    shutil.copytree(next(folder for folder in sorted((tmp_path / "all").rglob("D1-*")) if folder.is_dir()), tmp_path / "in")
    images = sorted((tmp_path / "in").rglob("*.dcm"))
    images[0].rename(images[0].with_name("<script>0.dcm"))
    images[1].with_name("<script>\x1b1.dcm").write_bytes(bytes(128) + b"DICM" + bytes(9))
    command = ["audit", "--dicom", str(tmp_path / "in"), "--out", str(tmp_path / "a.html"), "--workers", "0"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert not CONTROL.search(done.output.replace("\n", ""))
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page
    assert {"0.dcm", "1.dcm"} <= {found[-5:] for found in re.findall(r"&lt;script&gt;.?\d\.dcm", page)}
    assert "<figure" in page


def test_templates_do_not_switch_escaping_off() -> None:
    for template in (Path(errors.__file__).parent / "report" / "templates").glob("*.jinja"):
        assert not re.search(r"\|\s*safe|autoescape", template.read_text()), template


@pytest.mark.fault(54)
@pytest.mark.parametrize("show", [say, warn, echo])
def test_escape_sequences_do_not_reach_the_terminal(show: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    show(SEQUENCE)
    shown = "".join(capsys.readouterr())
    assert not CONTROL.search(shown.removesuffix("\n"))
    assert r"a\u001b]0;title\u0007\u001b[2J\u009b31m\u202eb\u000d" in shown


@pytest.mark.fault(54)
def test_names_and_details_of_rejections(capsys: pytest.CaptureFixture[str]) -> None:
    print_rejections([Rejection(f"{SEQUENCE}\nrejected: x", Reason.DECODE_FAILED, SEQUENCE)])
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert not CONTROL.search(shown.removesuffix("\n"))


@pytest.mark.parametrize("kind", [each for each in vars(errors).values() if isinstance(each, type)])
def test_every_error_shows_its_message_escaped(kind: type[FvpipeError]) -> None:
    assert str(kind(SEQUENCE)) == escaped(SEQUENCE)


@pytest.mark.fault(54)
def test_errors_of_commands(tmp_path: Path) -> None:
    name = tmp_path / "x\x07\x1b[31m"  # click itself takes out what is a whole sequence, and only where there is no terminal
    (tmp_path / "s").mkdir()
    for arguments in (
        ["verify", str(name)],
        ["report", str(name)],
        ["inspect", str(name)],
        ["\x07\x1b[31m"],
        ["verify", "--\x07"],
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code != 0
        assert not CONTROL.search(done.output.replace("\n", "")), arguments


TITLE = "\x1b]0;title\x07\x9b31m"  # sets the title of the window, and a color
YAML_TITLE = r'"\e]0;title\a\x9b31m"'


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "params",
    [
        f"{YAML_TITLE}: 1",
        f"datasets: {{{YAML_TITLE}: {{adapter: table}}}}",
        f"datasets: {{a: {{adapter: {YAML_TITLE}}}}}",
        f"datasets: {{a: {{adapter: table, label_file: {YAML_TITLE}}}}}\npipelines: [cropped]",
        f"datasets: {{a: {{adapter: table}}}}\npipelines: [{YAML_TITLE}]",
        f"train: {{weights: {YAML_TITLE}, lr: x}}",
    ],
)
def test_escape_sequences_in_settings(params: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params)
    Path("data", "a").mkdir(parents=True)
    for command in (["index", "--workers", "0"], ["build-shards", "--workers", "0"], ["split"], ["train"], ["evaluate"]):
        done = CliRunner().invoke(main, command)
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
        assert not CONTROL.search(done.output.replace("\n", "")), command


@pytest.mark.fault(54)
def test_escape_sequences_in_tables_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / TITLE
    write_dataset("cmmd", folder, 8, 0)
    command = [
        "build-shards",
        "--pipeline",
        "cropped",
        "--dicom",
        str(folder),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "0",
    ]
    for table in (
        f"{TITLE},laterality,label\nP,L,1\n",
        f"patient_id,laterality,label\nP,{TITLE},1\n",
        f"patient_id{TITLE}\n",
        "",
    ):
        (tmp_path / "labels.csv").write_text(table)
        done = CliRunner().invoke(main, [*command, "--labels", str(tmp_path / "labels.csv")])
        assert done.exit_code == 1, done.output
        assert not CONTROL.search(done.output.replace("\n", "")), table
    for name in ("DASK_SCHEDULER_ADDRESS", "FVPIPE_ID_KEY"):
        with monkeypatch.context() as patch:
            patch.setenv(name, TITLE)
            done = CliRunner().invoke(main, command[:-2])
        assert done.exit_code == 1, done.output
        assert not CONTROL.search(done.output.replace("\n", "")), name


def test_commands_print_by_one_function() -> None:
    for file in (Path(errors.__file__).parent / "cli").glob("*.py"):
        assert file.name == "output.py" or not re.search(r"click\.(echo|secho)|\bprint\(", file.read_text()), file


@pytest.mark.fault(54)
def test_values_of_a_header() -> None:
    assert to_text({"x": SEQUENCE, "y": [SEQUENCE], "z": {"k": "a\nb"}}).count("\n") == 2
    assert not CONTROL.search(to_text({"x": SEQUENCE, "z": {"k": "a\nb"}}).replace("\n", "", 1))


SHIFTED = {
    "a name with a comma": "P1,Doe, Jane,L,1",
    "the same, and nothing at the end": "P1,Doe, Jane,L,",
    "a cell forgotten": "P1,Jane Doe,1",
    "a cell too many, and nothing at the end": "P1,1,Jane Doe,L,,",
    "two cells forgotten, and nothing like a side": "P1,Jane,Doe",
    "as many cells as there are": "P1,L,Jane Doe,1",
    "a name in place of the side, the name left out": "P1,,Jane Doe,1",
    "a surname, the name left out": "P1,,Doe,1",
    "both names joined": "P1,x,DOE^JANE,1",
    "a name at the end": "P1,x,L,Jane M. Doe",
    "a date of birth for a side": "P1,L,1956-03-12,1",
    "a date of birth for a label": "P1,x,L,12.3.1956",
    "a telephone number": "P1,x,0171 555 0199,1",
}


@pytest.mark.fault(55)
@pytest.mark.parametrize("kind", SHIFTED)
def test_cells_of_shifted_rows_are_not_shown(kind: str, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"patient_id,name,laterality,label\n{SHIFTED[kind]}\n")
    with pytest.raises(LabelTableError, match=r"labels.csv, line 2: ") as error:
        get_adapter("table").read_labels(tmp_path, table, Labels())
    assert not re.search("jane|doe|1956|0171", str(error.value), re.IGNORECASE)


PUBLISHED = {
    "vindr": (
        "breast-level_annotations.csv",
        "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split",
        "s1,a,i1,L,CC,10,20,BI-RADS 2,DENSITY A,training",
    ),
    "cmmd": (
        "CMMD_clinicaldata_revision.csv",
        "ID1,LeftRight,Age,number,abnormality,classification,subtype",
        "D1-0001,L,44,2,mass,Benign,",
    ),
    "cbis": (
        "mass_case_description_train_set.csv",
        "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,assessment,pathology",
        "P_00001,3,LEFT,CC,1,mass,4,BENIGN",
    ),
}


@pytest.mark.fault(55)
@pytest.mark.parametrize("name", PUBLISHED)
def test_cells_of_shifted_rows_of_published_tables_are_not_shown(name: str, tmp_path: Path) -> None:
    """A name is put into each place, and what follows moves on by one."""
    file, heading, row = PUBLISHED[name]
    cells, errors_seen = row.split(","), 0
    for place in range(1, len(cells)):
        # A single word in the last place is like any wrong word there: nothing has moved.
        for person in ("Jane Doe", "DOE^JANE", "Doe")[: 2 if place == len(cells) - 1 else 3]:
            moved = [*cells[:place], person, *cells[place:]][: len(cells)]
            (tmp_path / file).write_text(f"{heading}\n{','.join(moved)}\n")
            try:
                get_adapter(name).read_labels(tmp_path, tmp_path / file, Labels())
            except LabelTableError as error:
                errors_seen += 1
                assert "doe" not in str(error).lower(), moved
    assert errors_seen >= 6


def test_a_wrong_cell_of_a_sound_row_is_shown(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("patient_id,laterality,label\nP1,L,maybe\n")
    with pytest.raises(LabelTableError, match=r"label is 'maybe'; expected"):
        get_adapter("table").read_labels(tmp_path, table, Labels())


def test_formulas_in_names_are_text_in_a_figure() -> None:
    """Matplotlib would set what stands between two dollars as a formula, and fail where it is none."""
    with style.own_style():
        axes = style.page(1)
        axes.text(1, 1, r"$P\frac{$ & <script>")
        drawn = style.render(style.figure_of(axes), "svg")
    assert b"<script" not in drawn
