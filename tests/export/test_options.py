"""Every export that cannot be is refused in one line before anything is loaded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from export.options import ExportOptions, parse_buckets
from export.room import check_room
from export.run import export_model
from sidestep.errors import InvalidModel, InvalidRequest, NotEnoughRoom
from sidestep.model_folder import ModelFolder, write_card


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"to": "coreml"}, "to"),
        ({"precision": "int8"}, "precision"),
        ({"target": "sm90"}, "target"),
        ({"layout": "flat"}, "layout"),
        ({"buckets": ()}, "buckets"),
        ({"buckets": (2, 1)}, "buckets"),
        ({"buckets": (0, 1)}, "buckets"),
        ({"buckets": (1, 65)}, "buckets"),
        ({"to": "tensorrt", "layout": "diffusers"}, "layout"),
        ({"precision": "fp16", "share": True}, "share"),
    ],
)
def test_an_option_out_of_bounds_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        ExportOptions(**options)
    assert error.value.field == field
    assert "\n" not in str(error.value)


def test_buckets_are_read() -> None:
    assert parse_buckets("1,2,16") == (1, 2, 16)
    with pytest.raises(InvalidRequest, match="write them like"):
        parse_buckets("1;2")


def test_every_export_has_a_folder_of_its_own() -> None:
    combinations = [
        ExportOptions(to, precision, layout, target=target)
        for to in ("onnx", "tensorrt-rtx")
        for precision in ("fp32", "fp16")
        for layout in ("fused", "diffusers")
        for target in ("sm80", "sm89")
        if (to, layout) != ("tensorrt-rtx", "diffusers")
    ]
    assert ExportOptions().folder == "onnx"
    assert len({o.folder for o in combinations}) == 4 + 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latent_channels": 16}, "latent_channels is 16, but the latents have 4"),
        ({"block_out_channels": [8, 8, 16]}, "3 levels, which draw 32x32 .* the card says 16x16"),
        ({"block_out_channels": None}, "is not a decoder's configuration"),
        ({"block_out_channels": [8, 24]}, "vae cannot be read"),
    ],
)
def test_a_decoder_that_does_not_fit_is_told_in_one_line(
    tiny_model: ModelFolder, changed: dict[str, Any], message: str
) -> None:
    config = tiny_model.path / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changed}))
    folder = write_card(tiny_model.path, tiny_model.card)
    with pytest.raises(InvalidModel, match=message) as error:
        export_model(folder)
    assert "\n" not in str(error.value)


def test_too_little_memory_or_disk_is_found_out_first(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_room(tiny_model, ExportOptions())
    monkeypatch.setattr("export.room.available_memory", lambda: 2**20)
    with pytest.raises(NotEnoughRoom, match=r"GiB of memory and 0\.0 GiB are free"):
        check_room(tiny_model, ExportOptions())
    monkeypatch.setattr("export.room.available_memory", lambda: None)
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(NotEnoughRoom, match="its disk"):
        check_room(tiny_model, ExportOptions())
