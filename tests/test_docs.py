"""What the documents point to exists: files, headings, commands and their flags."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from sidestep.cli.main import cli
from sidestep.cli.pages import AREAS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models/*/README.md")])
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
PLACEHOLDERS = {"…", "..."}


@pytest.fixture(scope="module")
def made_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the pages anew, in a process of its own: click keeps the help option of a first call."""
    copy = tmp_path_factory.mktemp("checkout")
    for area in AREAS:
        (copy / area).symlink_to(ROOT / area)
    subprocess.run([sys.executable, "-m", "sidestep.cli.pages", str(copy)], cwd=ROOT, check=True)
    return copy / "docs"


def slug(heading: str) -> str:
    """Name a heading as GitHub's links do."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower())
    return kept.replace(" ", "-")


def headings(path: Path) -> set[str]:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return {slug(found[1]) for found in re.finditer(r"^#+ (.+)$", text, re.MULTILINE)}


def commands(path: Path) -> Iterator[str]:
    """Find the command lines of `sidestep` in a page's code, continued lines joined."""
    text = path.read_text(encoding="utf-8")
    inline = re.findall(r"`(sidestep [a-z][^`]+)`", FENCE.sub("", text).replace("\n", " "))
    yield from (part for told in inline for part in told.split(" && "))
    for block in FENCE.findall(text):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if found := re.match(
                r"\s*(?:\$ )?(?:torchrun .*?-m |python3? -m )?(sidestep .+)", line
            ):
                yield from found[1].split(" && ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in LINK.findall(page.read_text(encoding="utf-8")):
        file = page if not target else (page.parent / target).resolve()
        assert file.exists(), f"{target} does not exist"
        if heading:
            assert heading in headings(file), f"{target}#{heading} does not exist"


TOLD = [
    pytest.param(command, id=f"{page.stem}: {command[:60]}")
    for page in PAGES
    if page.name != "help.md"
    for command in commands(page)
]


@pytest.mark.parametrize("told", TOLD)
def test_commands_are_those_of_the_command_line(told: str) -> None:
    words = [w for w in shlex.split(told, comments=True)[1:] if w not in PLACEHOLDERS]
    command: click.Command = cli
    context = click.Context(cli, info_name="sidestep")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{context.command_path} has no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    flags = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    flags |= {"-h", "--help"}
    given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert given <= flags, f"{context.command_path} has no {sorted(given - flags)}"


def test_enough_commands_were_found() -> None:
    assert len(TOLD) > 40


@pytest.mark.parametrize("name", ["help.md", "files.md"])
def test_pages_of_the_code_are_up_to_date(made_pages: Path, name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == (made_pages / name).read_text(encoding="utf-8"), "run: make pages"


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda p: p.name)
def test_forms_and_workflows_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_the_workflow_calls_what_the_readme_tells() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert {"run": "make test"} in steps
