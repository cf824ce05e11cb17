"""Help as a terminal of 80 columns shows it: whole summaries, and examples that print and parse as written."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fvpipe.cli.main import main

ROOT = Path(__file__).parents[1]
COLUMNS = 80
NAMES = sorted(main.commands)


def rendered(*arguments: str) -> str:
    """Help as printed on a terminal of 80 columns."""
    result = CliRunner(env={"COLUMNS": str(COLUMNS)}).invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    return result.output


def check_text(text: str) -> None:
    """No control character (nor one written as an escape), and no line that the terminal would wrap."""
    assert not [c for c in text if unicodedata.category(c) == "Cc" and c != "\n"]
    assert not re.search(r"\\[a-z]", text)
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []


def parse(line: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Parse ``fvpipe COMMAND ...`` as click does, without running it; files that it names exist."""
    program, name, *arguments = shlex.split(line, comments=True)
    assert program == "fvpipe"
    monkeypatch.chdir(folder)
    for argument in arguments:
        path = folder / argument
        if path.suffix == ".dcm":
            path.touch()
        elif argument.startswith("cache/shards"):
            path.mkdir(parents=True, exist_ok=True)
    main.commands[name].make_context(name, arguments)


def examples(help_text: str) -> list[str]:
    """Lines of a docstring that are typed at a prompt."""
    return [line.strip() for line in help_text.splitlines() if line.strip().startswith("$ ")]


def test_the_list_of_commands_shows_whole_summaries() -> None:
    text = rendered()
    check_text(text)
    for name in NAMES:
        summary = re.search(rf"^  {name}  +(\S.*)$", text, re.MULTILINE)
        assert summary, name
        assert re.search(r"[^.]\.$", summary[1]), summary[0]  # one sentence, not cut to "..."
    assert len(re.findall(r"^  [a-z0-9-]+  +\S", text.partition("Commands:")[2], re.MULTILINE)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_help_prints_its_example_as_written(name: str) -> None:
    written = str(main.commands[name].help)
    text = rendered(name)
    check_text(text)
    assert examples(written), "no example"
    assert text.count("$ fvpipe") == len(examples(written))
    block = written.partition("\b\n")[2]
    lines = [line.strip() for line in text.splitlines()]
    assert [line.strip() for line in block.splitlines() if line.strip() not in lines] == []


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_help_parse(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for example in examples(str(main.commands[name].help)):
        assert example.startswith(f"$ fvpipe {name}")
        parse(example.removeprefix("$ "), monkeypatch, tmp_path)


def test_an_example_with_a_wrong_option_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(click.UsageError):
        parse("fvpipe report --no-such-option", monkeypatch, tmp_path)


PAGES = ["README.md", "docs/commands.md", "docs/antialiased.md", "docs/training.md", "docs/cluster.md"]


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_pages_parse(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for line in re.findall(r"^ {4,}(?:> )?(fvpipe [a-z0-9]+.*)$", text, re.MULTILINE):
        parse(line, monkeypatch, tmp_path)


def test_a_missing_choice_is_named_line_by_line() -> None:
    shown = CliRunner().invoke(main, ["phantom"]).output
    assert "\n\tvindr" in shown and "\\u" not in shown
