"""Three graphs that diffusers' own ONNX pipeline opens, and that draw our picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from diffusers import DDIMScheduler, OnnxStableDiffusionPipeline

from export.diffusers_layout import SCALING, ThreeSessions
from export.options import ExportOptions
from export.run import export_model
from sidestep.engines.torch_module import load_module
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer

FLOAT, INT32, INT64 = "tensor(float)", "tensor(int32)", "tensor(int64)"


@pytest.fixture(scope="module")
def folder(built_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    path = shutil.copytree(built_model, tmp_path_factory.mktemp("diffusers") / "tiny")
    options = ExportOptions(layout="diffusers")
    certificate = export_model(ModelFolder.open(path), options)
    assert certificate.largest_difference <= 1
    return ModelFolder.open(path)


def test_names_types_and_shapes_are_diffusers(folder: ModelFolder) -> None:
    def told(name: str) -> tuple[dict[str, list[object]], list[str]]:
        session = ort.InferenceSession(folder.path / "onnx-diffusers" / name / "model.onnx")
        inputs = {i.name: [i.type, i.shape[1:]] for i in session.get_inputs()}
        return inputs, [o.name for o in session.get_outputs()]

    assert told("text_encoder") == (
        {"input_ids": [INT32, [12]]},
        ["last_hidden_state", "pooler_output"],
    )
    assert told("unet") == (
        {
            "sample": [FLOAT, [4, 8, 8]],
            "timestep": [INT64, []],
            "encoder_hidden_states": [FLOAT, [12, 16]],
        },
        ["out_sample"],
    )
    assert told("vae_decoder") == ({"latent_sample": [FLOAT, [4, 8, 8]]}, ["sample"])
    config = json.loads((folder.path / "onnx-diffusers/vae_decoder/config.json").read_text())
    assert config["scaling_factor"] == SCALING
    folder.check()  # the card lists the new files


@pytest.mark.filterwarnings("ignore")
def test_diffusers_own_pipeline_draws_our_picture(
    folder: ModelFolder, tokenizer: PromptTokenizer
) -> None:
    noise = latent_noise([3, 4], folder.card.latent_shape)
    ids = tokenizer(["red apple", "blue heart"])
    with torch.inference_mode():
        wanted = load_module(folder)(torch.from_numpy(ids), torch.from_numpy(noise)).numpy()
    ours = ThreeSessions(folder, folder.path / "onnx-diffusers")(ids, noise)
    assert wanted.std() > 20
    assert np.abs(ours.astype(int) - wanted).max() <= 1
    pipeline = OnnxStableDiffusionPipeline.from_pretrained(
        folder.path / "onnx-diffusers", vae_encoder=None, provider="CPUExecutionProvider"
    )
    pipeline.set_progress_bar_config(disable=True)
    # This pipeline multiplies arrays with the scheduler's init_noise_sigma, which is a tensor in
    # the Euler scheduler that optimum uses as it is; DDIM's one step is the same.
    schedule = folder.schedule
    steps = schedule.init_timestep + 1
    pipeline.scheduler = DDIMScheduler(
        num_train_timesteps=steps,
        trained_betas=schedule.betas[:steps].tolist(),
        timestep_spacing="trailing",
        clip_sample=False,
    )
    drawn = pipeline(
        ["red apple", "blue heart"],
        height=64,  # diffusers takes eight pixels for each latent
        width=64,
        num_inference_steps=1,
        guidance_scale=1,
        latents=np.float32(schedule.sigma_init) * noise,
        output_type="np",
    ).images
    theirs = np.clip(drawn * 255 + 0.5, 0, 255).astype(np.uint8)
    assert theirs.shape == wanted.shape
    assert np.abs(theirs.astype(int) - wanted).max() <= 1
