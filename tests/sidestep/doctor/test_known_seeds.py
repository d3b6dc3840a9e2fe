"""Pictures at known seeds, good and bad."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from export.certificate import Reference
from sidestep.doctor.drawn import Known, draw_with_pytorch, examine, judge
from sidestep.doctor.findings import Finding
from sidestep.doctor.known_seeds import _apart, check_pictures, engines_of, known_of
from sidestep.engines.load import load_engine
from sidestep.errors import CertificateFailed
from sidestep.model_folder import ModelFolder, write_card
from sidestep.noise import latent_noise


def levels(findings: Sequence[Finding]) -> list[str]:
    return [finding.level for finding in findings]


@pytest.fixture
def known(emoji: ModelFolder) -> Known:
    return replace(known_of(emoji), prompts=("red apple", "octopus", "rocket"))


def reference_of(known: Known) -> Reference:
    """Draw with the engine itself what others should draw."""
    ids = known.tokenizer(known.prompts)
    noise = latent_noise(range(len(ids)), known.folder.card.noise_shape)
    pixels = load_engine(known.folder, "onnx")(ids, noise)
    return Reference(known.prompts, ids, noise, pixels)


def test_the_embedded_model_passes_every_check(emoji: ModelFolder) -> None:
    findings = list(check_pictures(emoji))
    assert set(levels(findings)) == {"ok"}, [str(finding) for finding in findings]
    subjects = [finding.subject for finding in findings]
    assert subjects == [*["files"] * 3, "pytorch", *["onnx-cpu"] * 3, "diffusers"]
    assert "8 examples at seeds 0 to 7" in findings[3].text


def test_a_pytorch_that_cannot_be_imported_leaves_the_engines_to_check(
    emoji: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "torch").mkdir(parents=True)
    broken = "raise ImportError('libcudart.so:\\n cannot open')"
    (tmp_path / "site" / "torch" / "__init__.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path / "site")
    *files, pytorch, opens, compared, verified = check_pictures(emoji)
    assert (pytorch.level, pytorch.text) == ("problem", "ImportError: libcudart.so: cannot open")
    assert levels([*files, opens, compared, verified]) == ["ok"] * 6
    assert "from itself" in compared.text


def test_files_come_first(emoji: ModelFolder) -> None:
    (emoji.path / "unet" / "config.json").unlink()
    (finding,) = check_pictures(emoji)
    assert (finding.subject, finding.level) == ("files", "problem")


def test_without_pytorch_an_engine_is_compared_with_itself(known: Known) -> None:
    draws, compared, verified = examine(known, "onnx", None)
    assert levels([draws, compared, verified]) == ["ok"] * 3
    assert "from itself" in compared.text
    assert "'red apple' verifies" in verified.text


def test_other_pictures_than_the_reference_are_a_problem(known: Known) -> None:
    reference = reference_of(known)
    assert levels(examine(known, "onnx", reference)) == ["ok"] * 3
    off = replace(reference, pixels=255 - reference.pixels)
    _, compared, _ = examine(known, "onnx", off)
    assert compared.level == "problem"
    assert "onnx-cpu differs from PyTorch by up to" in compared.text


def test_an_engine_that_cannot_run_here_is_a_note(known: Known) -> None:
    (finding,) = examine(known, "tensorrt", None)
    assert finding.level == "note"
    assert finding.text.startswith("not tried: ")


def test_an_engine_that_does_not_open_is_a_problem(known: Known) -> None:
    (finding,) = examine(known, "aoti", None)
    assert finding.level == "problem"
    assert "has no AOTInductor package" in finding.text


def test_constant_and_changing_pictures_are_problems(known: Known) -> None:
    drawn: NDArray[np.uint8] = reference_of(known).pixels
    assert judge("x", known, drawn, drawn).level == "ok"
    black = drawn.copy()
    black[1] = 0
    assert "'octopus' at seed 1 is one colour" in judge("x", known, black, black).text
    other = drawn.copy()
    other[0, 0, 0, 0] ^= 4
    assert "the second time, up to 4/255 off" in judge("x", known, drawn, other).text


def test_nan_is_found(known: Known) -> None:
    file = known.path / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_in.bias"][0] = np.nan
    save_file(weights, file)
    write_card(known.path, known.folder.card)
    with pytest.raises(CertificateFailed, match="not finite"):
        draw_with_pytorch(known)


def test_engines_are_those_that_were_exported(emoji: ModelFolder) -> None:
    assert engines_of(emoji) == ["onnx"]
    card = replace(emoji.card, files={"onnx-fp16/generator.onnx": ""})
    assert engines_of(replace(emoji, card=card)) == ["onnx-cuda"]
    assert engines_of(replace(emoji, card=replace(card, files={}))) == ["pytorch"]


def test_large_pictures_are_few(emoji: ModelFolder) -> None:
    card = replace(emoji.card, image_size=(512, 512), examples=())
    assert known_of(replace(emoji, card=card)).prompts == ("red apple", "octopus", "fire engine")


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(BrokenProcessPool):
        _apart(os._exit, 3)
