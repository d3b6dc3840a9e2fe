"""Nobody is told who draws what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUIET_ANYWAY = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")


def test_drawing_leaves_no_trace_in_the_users_files(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in QUIET_ANYWAY}
    home = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME")}
    code = "from sidestep.generator import Generator as G; print(G.load('models/emoji')('a').seed)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, **home},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().isdecimal()
    assert [str(file) for file in tmp_path.rglob("*")] == []
