"""`sidestep export`: compile a model."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.errors import BackendUnavailable


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--share-weights",
    is_flag=True,
    help="Read unchanged weights from MODEL's safetensors files instead of storing them twice.",
)
def command(model: Path, share_weights: bool) -> None:
    """Write MODEL's ONNX graph and its certificate into MODEL/onnx.

    The graph is drawn against fp32 PyTorch on fixed prompts and seeds; where any pixel differs by
    more than 1/255, the export fails and MODEL stays as it was.
    """
    from sidestep.model_folder import ModelFolder

    try:
        from export.run import export_model
    except ImportError as error:
        raise BackendUnavailable(error.name or "onnx", "export") from error
    certificate = export_model(ModelFolder.open(model), share=share_weights)
    click.echo(
        f"largest difference {certificate.largest_difference}/255, "
        f"batch invariance {certificate.batch_invariance}/255"
    )
