"""`sidestep serve`: the HTTP API and the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

import click

from serve.settings import SEPARATOR, Settings, variable


class _Listed(type(click.STRING)):  # type: ignore[misc]
    """One text of several; the variable holds them all."""

    envvar_list_splitter = SEPARATOR


def _option(field: Field[Any]) -> Callable[[Any], Any]:
    """Make the flag of a setting, which its environment variable may give too."""
    name = field.name.replace("_", "-")
    kind: click.ParamType[Any] | None = None
    flag = f"--{name}/--no-{name}" if isinstance(field.default, bool) else f"--{name}"
    if isinstance(field.default, tuple):
        kind = _Listed()
    elif "bounds" in field.metadata:
        kind = click.IntRange(*field.metadata["bounds"])
    elif "choices" in field.metadata:
        kind = click.Choice(field.metadata["choices"])
    return click.option(
        flag,
        type=kind,
        default=field.default,
        envvar=variable(field.name),
        multiple=isinstance(field.default, tuple),
        help=field.metadata["help"],
        show_default=field.default not in (None, "", ()),
        show_envvar=True,
    )


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for field in reversed(fields(Settings)):
        command = _option(field)(command)
    return command


@click.command()
@_options
def command(**values: Any) -> None:
    """Serve pictures over HTTP, with a page at /ui where they follow your typing."""
    from serve.run import serve

    lists = {name: value for name, value in values.items() if isinstance(value, tuple)}
    for name, parts in lists.items():  # a variable's have spaces around its commas, as people write
        values[name] = tuple(part.strip() for part in parts if part.strip())
    serve(Settings(**values))
