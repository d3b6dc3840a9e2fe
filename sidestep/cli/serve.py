"""`sidestep serve`: the HTTP API and the page."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import ENGINE, MODEL


@click.command()
@MODEL
@ENGINE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
def command(model: Path | None, engine: str, host: str, port: int) -> None:
    """Serve pictures over HTTP, with a page at /ui where they follow your typing."""
    from serve.run import serve

    serve(model, engine, host, port)
