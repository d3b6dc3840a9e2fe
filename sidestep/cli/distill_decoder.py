"""`sidestep distill-decoder`: a lighter decoder for a model."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click

from distill.decoder_options import DecoderOptions
from sidestep.cli.export import describe
from sidestep.cli.options import run_folder, settings_of
from sidestep.errors import needing


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help="What to draw: .txt (one per line), .tar, .csv or .parquet.  [default: MODEL's examples]",
)
@click.option("--prompts-column", metavar="NAME", help="Column of a table.")
@run_folder("runs/decoder")
@settings_of(DecoderOptions)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
def command(
    model: Path,
    prompts: Path | None,
    prompts_column: str | None,
    out: Path,
    device: str,
    **given: Any,
) -> None:
    """Teach a small decoder to draw MODEL's latents as its own decoder does. No pictures needed.

    Writes MODEL/decoder_small: an AutoencoderTiny as diffusers reads it, its ONNX graph and its
    certificate. `--decoder small` then takes it in export, generate and serve. Ctrl-C saves and
    stops; the same command goes on.

    \b
    sidestep distill-decoder MODEL --prompts prompts.txt --channels 64 --steps 10000
    sidestep generate "red apple" --model MODEL --decoder small
    """
    from sidestep.model_folder import SMALL, ModelFolder

    folder = ModelFolder.open(model)
    with needing("export"):
        from distill.prompts import read_prompts
        from distill.small_decoder import distil_decoder
        from export.run import export_model
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # beside the training, as Ctrl-C
    options = DecoderOptions(**{key: value for key, value in given.items() if value is not None})
    texts = read_prompts(prompts, column=prompts_column).texts if prompts else []
    small = distil_decoder(folder, texts, out, options, device=device)
    psnr_db = small.card.small_decoder["psnr_db"]
    click.echo(f"{small.path / SMALL}: PSNR {psnr_db} dB against the full decoder")
    certificate = export_model(small)
    click.echo(describe(small.path / small.place("onnx"), certificate))
