"""Documentation beside the code: the files, modules and functions that it names exist, and it has every column of a table."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import fvpipe
from fvpipe.indexing.manifests.tables import breasts_table
from fvpipe.reasons import NO_FLAG
from fvpipe.types import Breast, BreastFacts, BreastKey, Laterality

ROOT = Path(fvpipe.__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text(encoding="utf-8")
    for path in (ROOT / "fvpipe").rglob("*.py")
}
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if not path.name.startswith("0019-")  # a record of names as they were
}
FILE = re.compile(r"(?<![\w./-])(?:fvpipe|tests|docs|benchmarks|pipelines)/[\w./-]*\w")
NAME = re.compile(r":(?:func|class|mod|data|meth|attr):`~?([\w.]+)`|(?<![\w./-])(fvpipe(?:\.(?!__)\w+)+)")


def names_in(code: str) -> set[str]:
    """Names that a module or its classes define or import."""
    nodes = list(ast.walk(ast.parse(code)))
    named = {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    imported = {alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return named | imported | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


KNOWN = {module: names_in(code) for module, code in MODULES.items()}
KNOWN["fvpipe"] |= set(fvpipe.__all__)  # fetched when they are first used


def exists(name: str, home: str = "") -> bool:
    """Whether a dotted name is a module, or defined in the longest module that it begins with, else in `home`."""
    parts = name.split(".")
    modules = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    module = next((each for each in modules if each in KNOWN), "")
    rest = parts[len(module.split(".")) :] if module else parts
    return set(rest) <= KNOWN.get(module or home, set())


def test_files_that_are_named_exist() -> None:
    found = {(where, name) for where, text in (PAGES | MODULES).items() for name in FILE.findall(text) if "NAME" not in name}
    assert len(found) > 100
    assert {each for each in found if not (ROOT / each[1]).exists()} == set()


def test_every_page_is_in_the_list_of_pages() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\(([\w-]+\.md)\)", PAGES["docs/README.md"]))


def test_modules_and_functions_that_are_named_exist() -> None:
    found = {(module, role or dotted) for module, code in MODULES.items() for role, dotted in NAME.findall(code)}
    found |= {("", role or dotted) for text in PAGES.values() for role, dotted in NAME.findall(text)}
    assert len(found) > 500
    assert {each for each in found if not exists(each[1], each[0])} == set()
    assert exists("fvpipe.flow.index") and not exists("fvpipe.flow.indices") and not exists("fvpipe.flows")


def test_every_column_of_breasts_is_explained() -> None:
    page = PAGES["docs/shards.md"].partition("## Columns of the tables")[2].partition("\n## ")[0]
    key = BreastKey("set", "patient", "study", Laterality.LEFT)
    breasts = [Breast(key, None, None, BreastFacts(subtype="a", machine="b", targets=(("grade", "2"),)))]
    flags, resized = {key.breast_id: NO_FLAG}, {key.breast_id: ("crop", "crop")}
    table = breasts_table(breasts, {("patient", "study"): 1}, flags, unpaired={key}, resized=resized)
    columns = next(iter(table)).decode().strip().split(",")
    assert {"breast_id", "subtype", "cc_crop", "mlo_resized", "paired", "exam_order"} < set(columns)
    assert {each for each in columns if f"`{each}`" not in page} == {"target_grade"} and "`target_<name>`" in page
