"""`sidestep ui`: the page alone, for a service that runs elsewhere."""

from __future__ import annotations

import click

from sidestep.cli.options import KEY


@click.command()
@click.option(
    "--url", required=True, help="Address of a sidestep service, such as http://host:3000."
)
@KEY
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=7860,
    show_default=True,
    help="Port to listen on.",
)
def command(url: str, key: str | None, host: str, port: int) -> None:
    """Show the page here, with pictures from the service at URL.

    It is the page that `sidestep serve` shows at /ui; here it asks over HTTP, with your key for all
    who open it.
    """
    from sidestep.client import Client
    from ui.alone import serve

    serve(Client(url, key=key), host, port)
