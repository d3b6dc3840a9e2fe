"""`sidestep export`: a model folder gains an engine, or stays as it was."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from export.aoti import check_device, export_package
from export.certificate import Certificate, draw_reference, write_certificate
from export.diffusers_layout import export_diffusers
from export.fused import export_fused
from export.job import Job, stage_count
from export.options import TENSORRT, ExportOptions
from export.plan import export_plan
from export.room import check_room
from export.tensorrt import check_target
from sidestep.engines.torch_module import GeneratorModule, load_module
from sidestep.errors import InvalidRequest
from sidestep.files import one_at_a_time
from sidestep.model_folder import CARD, CERTIFICATE, SMALL, ModelFolder, write_card
from sidestep.tokenizer import PromptTokenizer

Export = Callable[[GeneratorModule, Job], tuple[Certificate, list[str]]]


def export_model(folder: ModelFolder, options: ExportOptions | None = None) -> Certificate:
    """Write an engine with its certificate; if it fails, the folder is left as it was.

    Raises CertificateFailed if the engine's pictures are not the reference's, NotEnoughRoom
    before anything is done, BackendUnavailable for a compiler that is not installed.
    """
    options = options or ExportOptions()
    if (options.layout, folder.decoder) == ("diffusers", "small"):
        raise InvalidRequest(
            "layout diffusers has the full decoder; a pipeline takes the small one as "
            f"AutoencoderTiny.from_pretrained({str(folder.path / SMALL)!r})",
            field="layout",
        )
    export = _export_of(options)
    check_room(folder, options)
    card, place = folder.card, folder.place(options.folder)
    folder.check_beside(place)
    with (
        tqdm(total=stage_count(options), desc="load", unit="stage") as stages,
        tempfile.TemporaryDirectory(dir=folder.path, prefix=".export-") as temporary,
    ):
        module = load_module(folder)
        stages.set_description("draw the reference")
        stages.update()
        tokenizer = PromptTokenizer(folder.path / "tokenizer", length=card.tokens)
        reference = draw_reference(module, tokenizer, card.noise_shape)
        out = Path(temporary) / place
        out.mkdir(parents=True)
        certificate, shares = export(module, Job(folder, options, reference, out, stages))
        write_certificate(out / CERTIFICATE, certificate)
        with _installed(out, folder.path / place):
            if not options.is_plan:  # plans are bound by manifests of their own
                is_default = options.folder == ExportOptions().folder
                _list(folder, shares if is_default else None)
        stages.set_description("done")
        stages.update()
    return certificate


def _export_of(options: ExportOptions) -> Export:
    """Choose what does the export, before anything slow is begun."""
    if options.to in TENSORRT:
        check_target(options)
        return export_plan
    if options.to == "aoti":
        check_device(options)
        return export_package
    if options.layout == "diffusers":
        return export_diffusers
    return export_fused


def _list(folder: ModelFolder, shares: list[str] | None) -> None:
    """Let the card list what is new, and the files whose weights it reads where it is `onnx/`."""
    with one_at_a_time(folder.path / CARD):
        card = ModelFolder.open(folder.path).card
        if shares is not None and folder.decoder == "full":
            card = replace(card, onnx_shares=tuple(shares))
        elif shares is not None:
            card = replace(card, small_decoder={**card.small_decoder, "onnx_shares": shares})
        write_card(folder.path, card)


@contextmanager
def _installed(new: Path, place: Path) -> Iterator[None]:
    """Put a finished folder in its place; if the block fails, an older one is back there."""
    place.parent.mkdir(exist_ok=True)
    older = new.with_name(f"{new.name}.old")
    if place.exists():
        place.rename(older)
    try:
        new.rename(place)
        yield
    except BaseException:  # Ctrl-C or SIGTERM too, while a large model's files are hashed
        if place.exists():
            place.rename(new)
        if older.exists():
            older.rename(place)
        raise
