"""AOTInductor's package draws the reference, on the machine it was compiled on and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.aoti import check_device
from export.options import ExportOptions
from export.run import export_model
from sidestep.engines.load import load_engine
from sidestep.engines.manifest import PACKAGE
from sidestep.errors import CompileFailed, EngineMismatch, InvalidModel, InvalidRequest
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer


@pytest.mark.slow
def test_a_package_draws_the_reference_and_is_bound_to_its_machine(
    tiny_model: ModelFolder,
    tokenizer: PromptTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(InvalidModel, match="--to aoti"):
        load_engine(tiny_model, "aoti")
    options = ExportOptions("aoti")
    certificate = export_model(tiny_model, options)
    assert certificate.largest_difference <= 1
    engine = load_engine(tiny_model, "aoti")
    assert certificate.engine == engine.spec.name
    ids, noise = tokenizer(["octopus"] * 3), latent_noise(range(3), tiny_model.card.latent_shape)
    wanted = load_engine(tiny_model, "onnx")(ids, noise)
    assert wanted.std() > 20
    assert np.abs(engine(ids, noise).astype(int) - wanted).max() <= 2
    tiny_model.check()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "2.0.0")
        with pytest.raises(EngineMismatch, match=r"library_version is .* but 2\.0\.0 here; run: s"):
            load_engine(tiny_model, "aoti")
    package = tiny_model.path / options.folder / PACKAGE
    package.write_bytes(package.read_bytes() + b"x")
    with pytest.raises(EngineMismatch, match=r"the plan's hash .* --to aoti --target current"):
        load_engine(tiny_model, "aoti")


def test_a_missing_compiler_is_one_line(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no working\nC++ compiler")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", no_compiler)
    with pytest.raises(CompileFailed, match=r"cannot compile .*: no working C\+\+ compiler$"):
        export_model(tiny_model, ExportOptions("aoti"))
    assert not (tiny_model.path / "engines").exists()


def test_what_the_device_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_device(ExportOptions("aoti"))
    with pytest.raises(InvalidRequest, match="use --precision fp32"):
        check_device(ExportOptions("aoti", "fp16"))
    with pytest.raises(InvalidRequest, match="--target current"):
        check_device(ExportOptions("aoti", target="sm89"))
