"""A second student of one teacher: an ONNX graph that reads the rest from the first one's folder.

Students of one teacher differ in the UNet alone. A companion is a model folder of tokenizer, card
and graph, beside the folder of the student whose text encoder and autoencoder it shares:

models/emoji/             the whole model
models/emoji-kappa-3/     sidestep.json, tokenizer/, onnx/, and held-out.txt where there is one
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import onnx
from onnx import TensorProto

from sidestep.errors import InvalidModel
from sidestep.files import atomic_folder, sha256, write_json
from sidestep.model_folder import CARD, HELD_OUT, ONNX, ONNX_CERTIFICATE, ModelFolder

OWN = "unet/"  # whose weights the graph carries itself


def write_companion(student: ModelFolder, beside: ModelFolder, out: Path) -> ModelFolder:
    """Write `student` to `out`, in the folder where `beside` lies, without what they share.

    The graph must have been exported with shared weights. What it draws stays the same, so its
    certificate goes with it. Raises InvalidModel where the two do not share, or `out` is elsewhere.
    """
    if out.resolve().parent != beside.path.resolve().parent:
        raise InvalidModel(f"{out} must lie beside {beside.path}, whose weights it reads")
    student.check()
    shared = [file for file in student.card.onnx_shares if not file.startswith(OWN)]
    for file in shared:
        if beside.card.files.get(file) != student.card.files[file]:
            raise InvalidModel(f"{beside.path / file} is not that of {student.path}; share neither")
    model = onnx.load_model(student.path / ONNX, load_external_data=False)
    _point_at(model, student.path, beside.path.name)
    with atomic_folder(out) as new:
        shutil.copytree(student.path / "tokenizer", new / "tokenizer")
        (new / ONNX).parent.mkdir()
        onnx.save_model(model, new / ONNX)
        shutil.copy(student.path / ONNX_CERTIFICATE, new / ONNX_CERTIFICATE)
        if (held_out := student.path / HELD_OUT).is_file():
            shutil.copy(held_out, new / HELD_OUT)
        _write_card(new, student, [f"../{beside.path.name}/{file}" for file in shared], beside)
    return ModelFolder.open(out)


def _point_at(model: onnx.ModelProto, own: Path, beside: str) -> None:
    """Take the UNet's weights into the graph, and read the others from the folder `beside`.

    Locations are relative to the folder that holds both.
    """
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        del tensor.external_data[:]
        if told["location"].startswith(OWN):
            with (own / told["location"]).open("rb") as file:
                file.seek(int(told["offset"]))
                tensor.raw_data = file.read(int(told["length"]))
            tensor.data_location = TensorProto.DEFAULT
            continue
        for key in ("location", "offset", "length"):
            value = f"{beside}/{told[key]}" if key == "location" else told[key]
            tensor.external_data.add(key=key, value=value)


def _write_card(new: Path, student: ModelFolder, shares: list[str], beside: ModelFolder) -> None:
    """Write the student's card, whose `weights` stay, with the files that the companion has."""
    own = sorted(file for file in new.rglob("*") if file.is_file())
    files = {file.relative_to(new).as_posix(): sha256(file) for file in own}
    for file in shares:
        files[file] = beside.card.files[file.split("/", 2)[2]]
    card = replace(student.card, onnx_shares=tuple(shares), files=files, small_decoder={})
    write_json(new / CARD, asdict(card))
