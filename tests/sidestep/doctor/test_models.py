"""Which models are found, and whether they are whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sidestep.doctor.found_models import check_model, find_models
from sidestep.doctor.models import EMBEDDED, check
from sidestep.engines.manifest import PLAN, Manifest, write_manifest
from sidestep.errors import EngineMismatch, InvalidModel
from sidestep.files import sha256
from sidestep.model_folder import CARD, ONNX_CERTIFICATE, ModelFolder


def write_plan(folder: ModelFolder) -> Path:
    """Put a signed plan into a model; what it is made of is not read."""
    place = folder.path / "engines" / "tensorrt-rtx-sm89-fp16"
    place.mkdir(parents=True)
    (place / PLAN).write_bytes(b"a plan")
    shapes = {"noise": ["FLOAT", [-1, *folder.card.noise_shape]]}
    hashes = {"plan": sha256(place / PLAN), "onnx": "0" * 64, "weights": folder.card.weights}
    kind = ("tensorrt-rtx", "1.7.1.116", "sm89", "fp16", (1,))
    write_manifest(place, Manifest(*kind, shapes, {}, 6, **hashes))
    return place


@pytest.fixture(autouse=True)
def _own_key_and_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDESTEP_ENGINE_KEY", "a key of this test")
    monkeypatch.delenv("SIDESTEP_MODEL", raising=False)


def test_models_are_found_where_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("models/mine", "runs/kappa-3/model", "elsewhere/deep/er"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(EMBEDDED / "emoji" / CARD, tmp_path / place)
    (tmp_path / "models" / "judge").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_models() == [EMBEDDED / "emoji", Path("models/mine"), Path("runs/kappa-3/model")]
    assert find_models([Path("runs"), Path("models/mine")]) == [
        Path("runs/kappa-3/model"),
        Path("models/mine"),
    ]
    with pytest.raises(InvalidModel, match="elsewhere is no model folder and holds none"):
        find_models([Path("elsewhere")])


def test_a_whole_model(emoji: ModelFolder) -> None:
    write_plan(emoji)
    lines = list(check_model(emoji))
    assert lines[0] == f"{len(emoji.card.files)} files are those of sidestep.json"
    assert lines[1].endswith(f"at timestep {emoji.schedule.init_timestep}")
    assert lines[2].startswith("onnx: the certificate")
    assert lines[3] == "tensorrt-rtx-sm89-fp16: the plan is of these weights, for sm89"


def test_a_model_without_its_teacher_is_whole(emoji: ModelFolder) -> None:
    """As packages and images have it."""
    teacher = emoji.path / "teacher"
    (config := teacher / "unet" / "config.json").rename(emoji.path / "config.json")
    with pytest.raises(InvalidModel, match=r"teacher/unet/config\.json is missing"):
        list(check_model(emoji))
    (emoji.path / "config.json").rename(config)
    shutil.rmtree(teacher)
    lines = list(check_model(emoji))
    assert lines[0] == f"{len(emoji.card.files) - 3} files are those of sidestep.json"


@pytest.mark.parametrize("file", ["unet/config.json", "onnx/generator.onnx", ONNX_CERTIFICATE])
def test_a_damaged_file_is_named(emoji: ModelFolder, file: str) -> None:
    path = emoji.path / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InvalidModel, match=f"{file} does not match"):
        list(check_model(emoji))


def test_a_certificate_of_other_weights_is_named(emoji: ModelFolder) -> None:
    """One of a plan, which the card does not list."""
    place = write_plan(emoji)
    text = (emoji.path / ONNX_CERTIFICATE).read_text()
    (place / "certificate.json").write_text(text.replace(emoji.card.weights, "0" * 64))
    with pytest.raises(InvalidModel, match=r"sm89-fp16/certificate.json: it is of other weights"):
        list(check_model(emoji))


def test_a_damaged_plan_is_named(emoji: ModelFolder) -> None:
    place = write_plan(emoji)
    (place / PLAN).write_bytes(b"another")
    with pytest.raises(EngineMismatch, match=r"hash is .* run: sidestep export .* --target sm89"):
        list(check_model(emoji))


def test_only_what_is_served_is_a_problem(
    emoji: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (emoji.path / "tokenizer" / "merges.txt").unlink()
    monkeypatch.chdir(emoji.path.parents[1])
    served, other = check()
    assert (served.level, other.level) == ("ok", "note")
    assert "served by default" in served.text
    assert "models/emoji/tokenizer/merges.txt is missing" in other.text
    monkeypatch.setenv("SIDESTEP_MODEL", "mine=models/emoji")
    damaged, *_ = check()
    assert (damaged.level, damaged.mend) == ("problem", "unset SIDESTEP_MODEL")


def test_a_plan_for_another_model_is_a_note(
    emoji: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (write_plan(emoji) / PLAN).write_bytes(b"another")
    monkeypatch.setenv("SIDESTEP_MODEL", str(emoji.path))
    found = next(check())
    assert found.level == "note"
    assert "run: sidestep export" in found.text
