"""`sidestep keys`: who may ask the service for pictures."""

from __future__ import annotations

from pathlib import Path

import click

KEYS = click.option(
    "--keys",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SIDESTEP_KEYS",
    required=True,
    show_envvar=True,
    help="File of API keys, as for `sidestep serve`.",
)


@click.group()
def command() -> None:
    """Add, list and revoke API keys; a running service sees changes at its next request.

    \b
    sidestep keys add anna --keys keys.json
    sidestep serve --keys keys.json
    """


@command.command()
@click.argument("name")
@KEYS
@click.option("--admin", is_flag=True, help="May reload models too.")
def add(name: str, path: Path, admin: bool) -> None:
    """Make a key for NAME and show it, this once; the file keeps its SHA-256 alone."""
    from serve.keys import add_key

    click.echo(add_key(path, name, admin=admin))


@command.command(name="list")
@KEYS
def list_keys(path: Path) -> None:
    """List the keys by id, date and name."""
    from serve.keys import read_keys

    for key in read_keys(path):
        admin = " (admin)" if key.admin else ""
        click.echo(f"{key.id}  {key.created}  {key.name}{admin}")


@command.command()
@click.argument("name")
@KEYS
def revoke(name: str, path: Path) -> None:
    """Remove the key with this NAME or id."""
    from serve.keys import revoke_key

    key = revoke_key(path, name)
    click.echo(f"revoked {key.id} ({key.name})")
