"""`sidestep doctor`: what is wrong here, and the command that mends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from sidestep.doctor.findings import Finding
from sidestep.errors import ProblemsFound


@click.command()
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Check this model instead: draw its examples at known seeds in each engine it has.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def command(model: Path | None, as_json: bool) -> None:
    """Check this machine for what serving needs: a line for each thing, and what mends it.

    Python, packages and each extra, known-bad pairs, GPU, driver, CUDA, TensorRT, settings, port,
    disk, memory and models. Nothing is changed. What is missing and optional is a note.

    With --model: hashes, pictures against fp32 PyTorch, alone and in batches and twice, recipes,
    and diffusers' pipeline, as far as what that needs is installed.

    Exit code 0 if nothing is wrong that serving needs, else 1.
    """
    findings = []
    for finding in _diagnose(model):
        findings.append(finding)
        if not as_json:
            click.echo(finding)
    problems = [finding for finding in findings if finding.level == "problem"]
    if as_json:
        told = {"sound": not problems, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    if problems:
        subjects = ", ".join(dict.fromkeys(finding.subject for finding in problems))
        raise ProblemsFound(f"{len(problems)} in {subjects}")


def _diagnose(model: Path | None) -> Iterator[Finding]:
    if model is None:
        from sidestep.doctor.diagnosis import diagnose

        return diagnose()
    from sidestep.doctor.known_seeds import check_pictures
    from sidestep.model_folder import ModelFolder

    return check_pictures(ModelFolder.open(model))
