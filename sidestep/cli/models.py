"""`sidestep models`: the models of this machine, and of a service that runs."""

from __future__ import annotations

import click

from sidestep.cli.lazy import LazyGroup

# name -> (module in sidestep.cli, one line of help)
COMMANDS = {
    "list": ("models_list", "List the model folders that are here."),
    "show": (
        "models_show",
        "Show a model's recipe, quality, certificates, licences and limits.",
    ),
    "check": ("models_check", "Check a model's files, certificates and plans."),
    "reload": ("models_reload", "Open a running service's models anew."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def command() -> None:
    """Manage models.

    \b
    sidestep models list
    sidestep models show models/emoji
    sidestep models check models/emoji
    """
