"""Every shell line of the README is run, or checked as far as it goes without foreign weights."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.folders import Teacher, write_teacher

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [
    line.strip()
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for line in re.sub(r"\\\n\s*", " ", block).splitlines()
]
HUB = "stable-diffusion-v1-5/stable-diffusion-v1-5"
# What trains for hours or wants a GPU; its flags are checked in test_docs.py.
LONG = (
    "sidestep data",
    "sidestep import",
    "sidestep export",
    "sidestep serve",
    "-m sidestep train",
)


def lines(start: str) -> list[str]:
    found = [line for line in LINES if line.startswith(start)]
    assert found, f"no line begins with {start}"
    return found


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a `sidestep` line without torchrun before it."""
    words = shlex.split(line, comments=True)
    words = words[words.index("sidestep") + 1 :]
    command = [sys.executable, "-c", "from sidestep.cli.main import main; main()", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_every_line_is_of_a_kind_that_is_checked() -> None:
    kinds = ("make ", "pip install", "curl ", "sidestep generate", "sidestep run", *LONG)
    rest = [line for line in LINES if not line.startswith(kinds)]
    assert all("-m sidestep train" in line or "-m sidestep distill" in line for line in rest)


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in lines("make "):
        assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE)


def test_the_rehearsal_runs_what_a_newcomer_does() -> None:
    rehearsal = (ROOT / "tests/deploy/rehearsal.sh").read_text(encoding="utf-8")
    assert "make run" in rehearsal
    assert "make test" in rehearsal


def test_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in lines("pip install"):
        extras = re.findall(r"\[(.*)\]", line)[0].split(",")
        assert set(extras) <= set(project["optional-dependencies"])
        assert " -e " in line, "an ordinary install leaves the teacher out"


@pytest.mark.slow
def test_a_picture_is_drawn_and_another_asked_for(
    tmp_path: Path, serving: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    (line,) = lines("sidestep generate")
    done = shell(line, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    (line,) = lines("curl ")
    port = free_port()
    with serving(ROOT / "models" / "emoji", port, tmp_path):
        ask = ["bash", "-c", line.replace(":3000", f":{port}")]
        subprocess.run(ask, cwd=tmp_path, check=True)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_distillations_and_runs_say_what_they_would_do(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    (tmp_path / "prompts.txt").write_text("red apple\nblue heart\n")
    (tmp_path / "data/coco/pictures").mkdir(parents=True)  # as `sidestep data coco` leaves it
    for name in ("prepared.json", "captions.txt"):
        (tmp_path / "data/coco" / name).write_text("{}")
    told = [*lines("sidestep run"), *(line for line in LINES if "-m sidestep distill" in line)]
    assert len(told) == 3
    for line in told:
        done = shell(f"{line.replace(HUB, 'teacher')} --dry-run", tmp_path)
        assert done.returncode == 0, done.stderr
        assert "together, per device" in done.stdout
