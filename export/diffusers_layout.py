"""The layout of diffusers' own ONNX pipelines: text_encoder, unet and vae_decoder as three graphs.

Names, types and shapes are those that `OnnxStableDiffusionPipeline` and optimum's
`ORTStableDiffusionPipeline` expect. diffusers divides every latent by 0.18215, whatever the
autoencoder's own scaling factor is, so the difference between the two is in the decoder's first
weights and the configuration says 0.18215.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.certificate import Certificate, certify
from export.job import Job
from export.onnx import export_onnx, halve_exact_weights, save
from export.simplify import simplify_text_encoder, simplify_unet, simplify_upsampling
from sidestep.engines.contract import GeneratorSpec
from sidestep.engines.onnx_runtime import open_session
from sidestep.engines.torch_module import GeneratorModule, to_pixels
from sidestep.files import write_json
from sidestep.model_folder import ModelFolder

SCALING = 0.18215
GRAPH = "model.onnx"


class SeparateNetworks(nn.Module):
    """The generator before anything is folded across its networks, with smaller graphs."""

    def __init__(self, generator: GeneratorModule) -> None:
        """Take over `generator` and scale its decoder to latents that were divided by 0.18215."""
        super().__init__()
        self.text_encoder = generator.text_encoder
        self.unet = generator.unet
        self.post_quant_conv = generator.vae.post_quant_conv
        self.decoder = generator.vae.decoder
        self.schedule = generator.schedule
        simplify_text_encoder(self.text_encoder)
        simplify_unet(self.unet)
        simplify_upsampling(self.decoder)
        with torch.no_grad():
            self.post_quant_conv.weight.mul_(SCALING / generator.vae.config.scaling_factor)

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Map ids int64 [B, L] and noise [B, 4, h, w] to pixels uint8 [B, H, W, 3]."""
        text = self.text_encoder(input_ids).last_hidden_state  # [B, L, D]
        timesteps = torch.tensor(self.schedule.timesteps)

        def predict(x_t: Tensor, j: int) -> Tensor:
            predicted: Tensor = self.unet(x_t, timesteps[j : j + 1], text).sample
            return predicted

        x_g = self.schedule.draw(noise.to(self.unet.conv_in.weight.dtype), predict)  # [B, 4, h, w]
        image = self.decoder(self.post_quant_conv(x_g / SCALING))  # [B, 3, H, W]
        return to_pixels(image * 127.5 + 128)


class _TextEncoder(nn.Module):
    def __init__(self, networks: SeparateNetworks) -> None:
        super().__init__()
        self.text_encoder = networks.text_encoder

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        text = self.text_encoder(input_ids)
        return text.last_hidden_state, text.pooler_output  # [B, L, D], [B, D]


class _UNet(nn.Module):
    def __init__(self, networks: SeparateNetworks) -> None:
        super().__init__()
        self.unet = networks.unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        predicted: Tensor = self.unet(sample, timestep, encoder_hidden_states).sample
        return predicted  # [B, 4, h, w]


class _Decoder(nn.Module):
    def __init__(self, networks: SeparateNetworks) -> None:
        super().__init__()
        self.post_quant_conv, self.decoder = networks.post_quant_conv, networks.decoder

    def forward(self, latent_sample: Tensor) -> Tensor:
        image: Tensor = self.decoder(self.post_quant_conv(latent_sample))
        return image  # [B, 3, H, W]


class ThreeSessions:
    """The three graphs in ONNX Runtime as one engine, to certify them."""

    def __init__(self, folder: ModelFolder, graphs: Path) -> None:
        """Open `graphs`/{text_encoder,unet,vae_decoder}/model.onnx."""
        self._text, self._unet, self._decoder = (
            open_session(folder, graphs / name / GRAPH, threads=1)
            for name in ("text_encoder", "unet", "vae_decoder")
        )
        self._schedule = folder.schedule
        self.spec = GeneratorSpec.of(folder, "onnx-diffusers")

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        text = self._text.run(None, {"input_ids": input_ids.astype(np.int32)})[0]  # [B, L, D]

        def predict(x_t: NDArray[np.float32], j: int) -> NDArray[np.float32]:
            sample, timestep = x_t.astype(text.dtype), np.array([self._schedule.timesteps[j]])
            inputs = {"sample": sample, "timestep": timestep, "encoder_hidden_states": text}
            predicted: NDArray[np.float32] = self._unet.run(None, inputs)[0].astype(np.float32)
            return predicted  # [B, 4, h, w]

        x_g = self._schedule.draw(noise, predict) / SCALING
        image = self._decoder.run(None, {"latent_sample": x_g.astype(text.dtype)})[0]
        levels = np.clip(image.astype(np.float32) * 127.5 + 128, 0, 255)
        drawn: NDArray[np.uint8] = levels.transpose(0, 2, 3, 1).astype(np.uint8)
        return drawn


def export_diffusers(generator: GeneratorModule, job: Job) -> tuple[Certificate, list[str]]:
    """Write the three graphs and what a pipeline needs beside them; returns their certificate."""
    networks = job.apply_precision(SeparateNetworks(generator))
    assert isinstance(networks, SeparateNetworks)
    job.stage("export ONNX")
    card, dtype = job.folder.card, networks.unet.conv_in.weight.dtype
    latents = torch.zeros((2, *card.latent_shape), dtype=dtype)
    ids = torch.full((2, card.tokens), 1, dtype=torch.int32)
    text = torch.zeros((2, card.tokens, networks.unet.config.cross_attention_dim), dtype=dtype)
    timestep = torch.tensor([networks.schedule.init_timestep])
    parts: list[tuple[str, nn.Module, dict[str, Tensor], list[str]]] = [
        (
            "text_encoder",
            _TextEncoder(networks),
            {"input_ids": ids},
            ["last_hidden_state", "pooler_output"],
        ),
        (
            "unet",
            _UNet(networks),
            {"sample": latents, "timestep": timestep, "encoder_hidden_states": text},
            ["out_sample"],
        ),
        ("vae_decoder", _Decoder(networks), {"latent_sample": latents}, ["sample"]),
    ]
    for name, module, inputs, outputs in parts:
        model = export_onnx(module.eval(), inputs, outputs)
        halve_exact_weights(model)
        save(model, job.out / name / GRAPH)
    _write_rest(job.folder.path, job.out)
    job.stage("certify")
    engine = ThreeSessions(job.folder, job.out)
    precision = job.options.precision
    return certify(job.reference, engine, precision=precision, proof=job.proof), []


def _write_rest(model: Path, out: Path) -> None:
    """Copy the tokenizer, the scheduler and the networks' configurations."""
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(model / name, out / name)
    for source, name in (("text_encoder",) * 2, ("unet",) * 2, ("vae", "vae_decoder")):
        config = json.loads((model / source / "config.json").read_text(encoding="utf-8"))
        if source == "vae":
            config["scaling_factor"] = SCALING
        write_json(out / name / "config.json", config)
    index = json.loads((model / "model_index.json").read_text(encoding="utf-8"))
    onnx = ["diffusers", "OnnxRuntimeModel"]
    write_json(
        out / "model_index.json",
        {
            "_class_name": "OnnxStableDiffusionPipeline",
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": index["scheduler"],
            "text_encoder": onnx,
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": onnx,
            "vae_decoder": onnx,
            "vae_encoder": [None, None],
        },
    )
