"""Name tracked files that are larger than git should hold: data belongs to DVC."""

import subprocess
import sys
from pathlib import Path

MAX_BYTES = 500_000
KNOWN = {"tests/data/mg/GH133.dcm", "tests/data/mg/OutOfBoundsOverlay.dcm"}  # real mammograms that tests read

listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
large = [f for f in listed.split("\0") if f not in KNOWN and Path(f).is_file() and Path(f).stat().st_size > MAX_BYTES]
for name in large:
    print(f"{name}: {Path(name).stat().st_size} bytes; at most {MAX_BYTES} in git, larger files belong to DVC (dvc add)")
sys.exit(bool(large))
