"""Print the lower bounds of pyproject.toml as constraints: the oldest versions that fvpipe promises to work with."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for group in (project["dependencies"], *project["optional-dependencies"].values()):
    for requirement in group:
        if bound := re.match(r"([A-Za-z0-9_.-]+)[>=]=([0-9.]+)", requirement):
            print(f"{bound[1]}=={bound[2]}")
