"""`sidestep export`: compile a model."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidestep.cli.options import DECODER, refuse_idle
from sidestep.errors import needing

if TYPE_CHECKING:
    from export.certificate import Certificate


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--to",
    default="onnx",
    show_default=True,
    help="onnx, openvino, aoti, tensorrt-rtx or tensorrt.",
)
@click.option(
    "--precision", default="fp32", show_default=True, help="Of the arithmetic: fp32, fp16 or bf16."
)
@click.option(
    "--layout",
    default="fused",
    show_default=True,
    help="fused: one graph; diffusers: three, for other tools.",
)
@click.option(
    "--buckets", default="1,2,4,8", show_default=True, help="Batch sizes a plan is made for."
)
@click.option(
    "--target",
    default="current",
    show_default=True,
    help="GPU a plan is made for: sm75, sm80, sm86, sm89, sm120, sm121 or the one that is here.",
)
@DECODER
@click.option(
    "--share-weights",
    is_flag=True,
    help="Read unchanged weights from MODEL's safetensors files instead of storing them twice.",
)
def command(
    model: Path,
    to: str,
    precision: str,
    layout: str,
    buckets: str,
    target: str,
    decoder: str,
    share_weights: bool,
) -> None:
    """Compile MODEL and certify what was compiled.

    What was compiled is drawn against fp32 PyTorch on fixed prompts and seeds. In fp32 no pixel
    may differ by more than 1/255, in fp16 by more than 8/255 and PSNR must be at least 40 dB;
    otherwise the export fails and MODEL stays as it was.

    \b
    sidestep export MODEL
    sidestep export MODEL --precision fp16
    sidestep export MODEL --to tensorrt-rtx --target sm89 --precision fp16
    """
    from export.options import ExportOptions, parse_buckets
    from sidestep.model_folder import ModelFolder

    options = ExportOptions(to, precision, layout, parse_buckets(buckets), target, share_weights)
    if not options.is_plan:
        refuse_idle({"target": "--target", "buckets": "--buckets"}, "a plan (--to tensorrt-rtx)")
    folder = ModelFolder.open(model).with_decoder(decoder)
    with needing("export"):
        from export.run import export_model
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves nothing behind, as Ctrl-C
    certificate = export_model(folder, options)
    click.echo(describe(model / folder.place(options.folder), certificate))


def describe(place: Path, certificate: Certificate) -> str:
    """Tell in one line what was compiled and how near the reference it is."""
    psnr = "equal" if certificate.psnr_db is None else f"{certificate.psnr_db} dB"
    return (
        f"{place}: largest difference {certificate.largest_difference}/255, PSNR {psnr}, "
        f"batch invariance {certificate.batch_invariance}/255"
    )
