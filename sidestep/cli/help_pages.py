"""`python -m sidestep.cli.help_pages`: every command's help as one page, docs/help.md."""

from __future__ import annotations

from collections.abc import Iterator

import click

from sidestep.cli.main import cli

WIDTH = 100
HEAD = """# Commands

Every command's `--help`, written by `make help-pages` and compared in `make test`.
"""


def help_pages() -> str:
    """Write the help of all commands, groups before their members, as Markdown."""
    return "\n".join([HEAD, *_pages(cli, "sidestep", None)])


def _pages(command: click.Command, name: str, above: click.Context | None) -> Iterator[str]:
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
                yield from _pages(found, inner, context)


if __name__ == "__main__":
    click.echo(help_pages(), nl=False)
