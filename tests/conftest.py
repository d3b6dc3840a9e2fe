"""Real classes at small size, built once per test session."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from distill.captions import train_bpe
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator
from sidestep.model_folder import ModelCard, ModelFolder
from sidestep.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from fastapi import FastAPI

    from distill.folders import Teacher

TOKENS = 12


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Turn a skip into a failure where CI promises all tools, which a GPU is not."""
    outcome = yield
    report = outcome.get_result()
    gpu = "needs a GPU" in str(report.longrepr)
    if report.skipped and not gpu and os.environ.get("SIDESTEP_REQUIRE_TOOLS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but SIDESTEP_REQUIRE_TOOLS is set: {report.longrepr}"


CAPTIONS = ["red apple", "blue heart, noto", "cat face", "fire engine, flat", "soccer ball"]
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}


@pytest.fixture
def write_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Return what writes a bundle of coloured squares, 16 pixels wide, in two styles."""

    def write(names: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> Path:
        blobs = []
        draw = np.random.default_rng(0)
        for _ in range(2 * len(names)):
            pixels = np.zeros((16, 16, 4), np.uint8)
            pixels[2:-2, 2:-2] = [*draw.choice([20, 220], 3), 255]
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
            blobs.append(buffer.getvalue())
        path = tmp_path / "bundle.safetensors"
        tensors = {
            "webp": np.frombuffer(b"".join(blobs), np.uint8),
            "ends": np.cumsum([len(blob) for blob in blobs], dtype=np.int64),
        }
        styles = {style: list(names) for style in ("noto", "flat")}
        words = {"names": json.dumps(styles), "synonyms": json.dumps(dict(synonyms))}
        save_file(tensors, path, metadata={"size_px": "16", **words})
        return path

    return write


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP tokenizer of a few captions, 12 tokens long."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(CAPTIONS, folder, vocab_size=600, max_tokens=TOKENS)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> PromptTokenizer:
    return PromptTokenizer(tokenizer_folder, length=TOKENS)


@pytest.fixture(scope="session")
def tiny_teacher(tokenizer_folder: Path, tokenizer: PromptTokenizer) -> Teacher:
    """Stable Diffusion's classes with few channels and random weights: 8x8 latents, 16x16 pixels.

    The decoder's contrast is raised, so that its pictures are not flat.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from distill.folders import Teacher

    torch.manual_seed(0)
    end = tokenizer.end
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=end + 1,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=True,
    )
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(4)
        unet.conv_out.weight.mul_(2)
    for network in (text_encoder, unet, vae):
        network.half().float().eval().requires_grad_(False)  # what an fp16 file gives back
    return Teacher(text_encoder, unet, vae, tokenizer_folder, SCHEDULE)


@pytest.fixture(scope="session")
def built_model(tiny_teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole exported model folder that all tests share, only to be read."""
    from distill.folders import write_student
    from export.run import export_model

    card = ModelCard(
        name="tiny",
        latent_shape=tiny_teacher.latent_shape,
        image_size=tiny_teacher.image_size,
        tokens=TOKENS,
        schedule={**SCHEDULE, "init_timestep": 625},
        examples=("red apple", "blue heart", "fire engine"),
    )
    path = tmp_path_factory.mktemp("models") / "tiny"
    folder = write_student(path, tiny_teacher, tiny_teacher.unet, card)
    export_model(folder)
    return path


@pytest.fixture
def tiny_model(built_model: Path, tmp_path: Path) -> ModelFolder:
    """A whole exported model folder of one's own, to read or to damage."""
    return ModelFolder.open(shutil.copytree(built_model, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def make_generator(tokenizer: PromptTokenizer) -> Callable[[FakeEngine], Generator]:
    """Put a fake engine (of 12 tokens) behind the real tokenizer, noise and encoders."""

    def make(engine: FakeEngine) -> Generator:
        return Generator("fake", tokenizer, engine, examples=("red apple", "octopus"))

    return make


@contextmanager
def _listening(app: FastAPI, http: type[asyncio.Protocol] | None) -> Iterator[str]:
    import uvicorn

    from serve.connections import PatientProtocol
    from serve.page import LatePage

    config = uvicorn.Config(
        app,
        port=0,
        http=http or PatientProtocol,
        ws="none",
        log_level="error",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        # Gradio, pytest and FastAPI each set aside the filters of warnings for a while, which
        # threads share: where they overlap, what one ignores is raised in another.
        for page in (getattr(route, "app", None) for route in app.routes):
            while isinstance(page, LatePage) and not page.built:
                time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def listen() -> Iterator[Callable[..., str]]:
    """Serve an app on a free port of this machine until the module ends; returns its address.

    http: the protocol class, where it is not the service's
    """
    with ExitStack() as servers:
        yield lambda app, http=None: servers.enter_context(_listening(app, http))


@contextmanager
def _serving(model: Path, port: int, cwd: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from sidestep.cli.main import main; main()"),
            *("serve", "--model", str(model), "--port", str(port), *flags),
        ],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = ""
        while "sidestep is ready" not in told and (line := process.stdout.readline()):
            told += line
        assert f"sidestep is ready: http://127.0.0.1:{port}" in told, told
        yield process
    finally:
        process.terminate()  # and not kill, which would leave its worker behind
        process.communicate(timeout=120)


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[subprocess.Popen[str]]]:
    """Run `sidestep serve` with a model, a port, a working folder and flags until the block ends.

    The block begins when the service says that it is ready, and ends when its worker has.
    """
    return _serving


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Find a port of this machine that nobody listens on."""
    from bench.service import free_port

    return free_port
