"""An export changes a model folder as a whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.options import ExportOptions
from export.run import export_model
from sidestep.errors import InvalidModel
from sidestep.model_folder import CARD, ONNX, ModelFolder, write_card
from sidestep.pipeline.measured import gather

WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"


def test_what_plans_are_made_for_does_not_matter_to_a_graph(tiny_model: ModelFolder) -> None:
    export_model(tiny_model, ExportOptions(share=True, buckets=(1,), target="sm89"))
    assert WEIGHTS.as_posix() in ModelFolder.open(tiny_model.path).card.onnx_shares


def test_an_older_engine_is_back_where_the_card_cannot_be_written(tiny_model: ModelFolder) -> None:
    older = tiny_model.path / "onnx" / "older.txt"
    older.write_text("of the older engine")
    folder = write_card(tiny_model.path, tiny_model.card)
    (folder.path / CARD).write_text("{")  # meanwhile
    with pytest.raises(InvalidModel, match="cannot be read as JSON"):
        export_model(folder)
    assert older.is_file()
    folder.check()  # as the card of before would say
    assert not list(folder.path.glob(".export-*"))


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_weights_that_cannot_be_read_are_named(tiny_model: ModelFolder, damage: str) -> None:
    path = tiny_model.path / WEIGHTS
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidModel, match=r"diffusion_pytorch_model\.safetensors cannot be read"):
        export_model(tiny_model)


@pytest.mark.parametrize("file", ["tokenizer/merges.txt", "onnx/generator.onnx"])
def test_a_damaged_file_is_not_vouched_for_by_a_new_card(
    tiny_model: ModelFolder, file: str
) -> None:
    path = tiny_model.path / file
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InvalidModel, match="does not match"):
        export_model(tiny_model, ExportOptions(layout="diffusers"))
    with pytest.raises(InvalidModel, match="does not match"):
        gather(tiny_model)
    with pytest.raises(InvalidModel, match="does not match"):
        ModelFolder.open(tiny_model.path).check()


def test_what_an_export_writes_anew_may_be_damaged_or_gone(tiny_model: ModelFolder) -> None:
    (tiny_model.path / ONNX).write_bytes(b"no graph")
    tiny_model.check_beside("onnx")
    (tiny_model.path / ONNX).unlink()
    tiny_model.check_beside()
