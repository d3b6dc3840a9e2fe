"""What a training of the embedded model's teacher is refused for, before any work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from distill import emoji_data
from distill.architecture_check import check_architecture, read_json
from distill.checkpoints import check_kept
from distill.emoji_bundle import bundle_size, existing_bundle, is_bundle
from distill.folders import teacher_hash
from sidestep.errors import InvalidTraining
from sidestep.files import sha256, write_json

if TYPE_CHECKING:
    from distill.emoji_teacher import EmojiTeacherOptions

DATA = "data.json"


def check_sizes(data: Path, options: EmojiTeacherOptions) -> None:
    """Compare the pictures' size and both autoencoders' levels, each of which halves it.

    Raises InvalidTraining where latents would differ in size, or pictures come back smaller.
    """
    first: Sequence[int] = options.autoencoder.channels
    if options.start_from:
        first = read_json(options.start_from / "vae" / "config.json").get("block_out_channels", ())
    if options.lighter and (found := len(options.lighter.channels)) != len(first):
        raise InvalidTraining(
            f"--lighter has {found} channels and the first autoencoder {len(first)}, so that their "
            f"latents would differ in size; give {len(first)} channels"
        )
    size_px = bundle_size(data) if is_bundle(data) else options.size_px
    factor = 2 ** max(0, len(first) - 1)
    if size_px % factor:
        raise InvalidTraining(
            f"the autoencoder does not give back pictures of {size_px} px, as {data} has; make the "
            f"data with a --size that is a multiple of {factor}"
        )


def bind(data: Path, out: Path, options: EmojiTeacherOptions) -> None:
    """Note what `out` begins with; raises InvalidTraining if it began with something else."""
    bundled = is_bundle(data)
    size_px = options.size_px
    files = [existing_bundle(data)] if bundled else emoji_data.shards(data, size_px=size_px)
    told = {file.name: sha256(file) for file in files} | asdict(options.amounts)
    if options.start_from:
        check_architecture(options.start_from)  # which names what a hash would miss
        told["start_from"] = teacher_hash(options.start_from)
    path = out / DATA
    if not path.is_file():
        write_json(path, told)
    elif json.loads(path.read_text(encoding="utf-8")) != told:
        raise InvalidTraining(
            f"{out} was begun with other pictures or from another teacher; choose another --out"
        )
    if options.lighter:  # what is finished may have had less time
        check_kept(out / "lighter", asdict(options.lighter), free={"seconds"})
