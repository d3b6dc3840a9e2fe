"""`python -m sidestep.cli.pages ROOT`: docs/help.md and docs/files.md, from the code itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sidestep.cli.main import cli
from sidestep.files import write_bytes

WIDTH = 100
AREAS = ("sidestep", "distill", "export", "serve", "ui", "bench")
HELP = """# Commands

Every command's `--help`, written by `make pages` and compared in `make test`.
"""
FILES = """# Files

The head of every file's docstring, written by `make pages` and compared in `make test`. Tests
mirror this tree in `tests/`.
"""


def help_page() -> str:
    """Write the help of all commands, groups before their members, as Markdown."""
    return "\n".join([HELP, *_commands(cli, "sidestep", None)])


def files_page(root: Path) -> str:
    """Write a line for each source file of the checkout at `root`, as Markdown."""
    parts = [FILES]
    for area in AREAS:
        folders = sorted({path.parent for path in (root / area).rglob("*.py")})
        for folder in folders:
            files = sorted(path for path in folder.glob("*.py") if _first_line(path))
            told = "\n".join(f"| `{path.name}` | {_first_line(path)} |" for path in files)
            heading = folder.relative_to(root).as_posix()
            parts.append(f"## {heading}/\n\n| | |\n|---|---|\n{told}\n")
    return "\n".join(parts)


def _commands(command: click.Command, name: str, above: click.Context | None) -> Iterator[str]:
    context = click.Context(
        command,
        info_name=name,
        parent=above,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            if found := command.get_command(context, inner):
                yield from _commands(found, inner, context)


def _first_line(path: Path) -> str:
    """Return the first paragraph of the file's docstring."""
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(told.split("\n\n")[0].split())


if __name__ == "__main__":
    docs = Path(sys.argv[1]) / "docs"
    write_bytes(docs / "help.md", help_page().encode())
    write_bytes(docs / "files.md", files_page(Path(sys.argv[1])).encode())
