"""`sidestep models reload`."""

from __future__ import annotations

import asyncio

import click

from sidestep.cli.options import KEY

URL = click.option(
    "--url", default="http://127.0.0.1:3000", show_default=True, help="Address of the service."
)
MOST_S = 600.0


@click.command()
@click.argument("name", required=False)
@URL
@KEY
def command(name: str | None, url: str, key: str | None) -> None:
    """Open model NAME anew from its folder, or all models, while the service draws.

    The new engine is opened and warmed up beside the old one, which finishes what it has accepted.
    A damaged folder leaves the old one drawing. Allowed from the service's own machine, or with a
    key of `sidestep keys add --admin`.
    """
    from sidestep.client import Client

    async def ask() -> list[dict[str, str]]:
        async with Client(url, key=key, timeout_s=MOST_S) as client:
            return await client.reload(name)

    for model in asyncio.run(ask()):
        click.echo(f"{model['name']}: {model['engine']}, weights {model['weights'][:12]}")
