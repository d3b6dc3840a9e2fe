"""Engines are chosen by what works here, and each says why it cannot run."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from typing import Any

import numpy as np
import pytest

from sidestep.engines.buckets import bucket_of, fill
from sidestep.engines.cuda import Buffer, call
from sidestep.engines.load import ENGINES, load_engine
from sidestep.engines.tensorrt_library import has_driver
from sidestep.errors import BackendUnavailable, InvalidModel, InvalidRequest, NoGpu
from sidestep.model_folder import COMPILED, ONNX, ModelFolder, write_card
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer

no_gpu = pytest.mark.skipif(has_driver(), reason="says what is said where there is no GPU")


@pytest.mark.parametrize(("count", "bucket"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8)])
def test_a_batch_goes_into_the_next_bucket(count: int, bucket: int) -> None:
    assert bucket_of((1, 2, 4, 8), count) == bucket


def test_a_batch_above_the_last_bucket_is_refused() -> None:
    with pytest.raises(
        InvalidRequest, match="a batch of 9 is above the engine's largest bucket, 8"
    ):
        bucket_of((1, 2, 4, 8), 9)


def test_a_bucket_is_filled_with_valid_rows() -> None:
    buffer = np.full((4, 2), -1)
    fill(buffer, np.array([[1, 2], [3, 4]]))
    assert buffer.tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]


def test_an_error_of_cuda_is_named() -> None:
    class Status(int):
        name = "cudaErrorMemoryAllocation"

    def cudaMalloc(size: int) -> tuple[Any, ...]:  # noqa: N802
        return (Status(2), 0) if size > 10 else (Status(0), 1234)

    assert call(cudaMalloc, 10) == 1234
    with pytest.raises(NoGpu, match="cudaMalloc failed: cudaErrorMemoryAllocation"):
        call(cudaMalloc, 11)


def test_a_buffer_that_is_gone_was_freed() -> None:
    class Runtime:
        def __init__(self) -> None:
            self.held: dict[int, Any] = {}

        def allocate(self, size: int) -> tuple[int, int]:
            memory = (ctypes.c_uint8 * size)()
            address = ctypes.addressof(memory)
            self.held[address] = memory
            return 0, address

        def free(self, address: int) -> tuple[int]:
            del self.held[address]
            return (0,)

        cudaMalloc = cudaMallocHost = allocate  # noqa: N815
        cudaFree = cudaFreeHost = free  # noqa: N815

    runtime = Runtime()
    buffer = Buffer(runtime, (2, 3), np.float32)
    buffer.host[:] = 7
    assert len(runtime.held) == 2
    del buffer
    gc.collect()
    assert runtime.held == {}


@no_gpu
def test_without_a_gpu_cuda_says_so() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings come for Linux")
    with pytest.raises(NoGpu, match="cudaMallocHost failed: cudaError"):
        Buffer(runtime, (2, 3), np.float32)


@no_gpu
def test_auto_takes_the_fastest_that_works_and_says_why(
    tiny_model: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (tiny_model.path / COMPILED).mkdir()  # as after a plan was compiled for another machine
    with caplog.at_level(logging.INFO, logger="sidestep.engines"):
        assert load_engine(tiny_model).spec.name == "onnx-cpu"
    assert "engine onnx-cpu, the fastest that works here; not tensorrt: no GPU" in caplog.text
    assert "not onnx-cuda: no fp16 graph was exported" in caplog.text


def test_without_a_graph_auto_takes_pytorch(tiny_model: ModelFolder) -> None:
    (tiny_model.path / ONNX).unlink()
    folder = write_card(tiny_model.path, tiny_model.card)
    assert load_engine(folder).spec.name.startswith("pytorch-")


def test_weights_beside_a_graph_are_checked_too(tiny_model: ModelFolder) -> None:
    place = tiny_model.path / "openvino-fp32"
    place.mkdir()
    for name in ("generator.onnx", "generator.onnx.data"):
        (place / name).write_bytes(b"of a large model")
    folder = write_card(tiny_model.path, tiny_model.card)
    (place / "generator.onnx.data").write_bytes(b"damaged")
    with pytest.raises(InvalidModel, match=r"generator\.onnx\.data does not match"):
        load_engine(folder, "openvino")


def test_a_damaged_graph_is_told_and_not_passed_over(tiny_model: ModelFolder) -> None:
    (tiny_model.path / ONNX).write_bytes(b"no graph")
    with pytest.raises(InvalidModel, match=r"generator\.onnx does not match"):
        load_engine(tiny_model)


@no_gpu
@pytest.mark.parametrize(
    ("name", "error"),
    [("tensorrt", NoGpu), ("onnx-cuda", BackendUnavailable), ("openvino", InvalidModel)],
)
def test_an_engine_that_cannot_run_says_what_to_do(
    tiny_model: ModelFolder, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"--engine onnx|pip install|sidestep export") as raised:
        load_engine(tiny_model, name)
    assert "\n" not in str(raised.value)


def test_an_unknown_engine_lists_the_known() -> None:
    with pytest.raises(InvalidRequest, match="auto, tensorrt, onnx-cuda, onnx, openvino"):
        load_engine(ModelFolder.open(), "coreml")
    assert ENGINES[0] == "auto"


@pytest.mark.alone
def test_openvino_draws_the_reference_and_its_certificate_tells_how_near(
    tiny_model: ModelFolder, tokenizer: PromptTokenizer
) -> None:
    from export.options import ExportOptions
    from export.run import export_model

    for name, precision in (("openvino", "fp32"), ("openvino-bf16", "bf16")):
        options = ExportOptions("openvino", precision)
        certificate = export_model(ModelFolder.open(tiny_model.path), options)
        folder = ModelFolder.open(tiny_model.path)
        engine = load_engine(folder, name)
        assert certificate.engine == engine.spec.name == f"openvino-{precision}"
        assert certificate.largest_difference <= certificate.tolerance
        ids = tokenizer(["red apple", "octopus", "cat face"])
        noise = latent_noise(range(3), folder.card.latent_shape)
        wanted = load_engine(folder, "onnx")(ids, noise)
        assert wanted.std() > 20
        difference = np.abs(engine(ids, noise).astype(int) - wanted)
        assert difference.max() <= certificate.tolerance + 1  # ONNX Runtime's own


def test_a_missing_openvino_says_what_to_install(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'sidestep\[openvino\]'"):
        load_engine(tiny_model, "openvino")
