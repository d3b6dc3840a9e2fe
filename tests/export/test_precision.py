"""fp16 keeps in fp32 what would overflow, and no more; planted overflows are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from export.certificate import Reference, certify, draw_reference
from export.folding import FoldedGenerator
from export.onnx import export_onnx, fused_inputs, save
from export.precision import (
    Activations,
    Rounded,
    activation_maxima,
    modules_to_keep,
    to_half,
)
from sidestep.engines.contract import GeneratorSpec
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.torch_module import GeneratorModule, load_module
from sidestep.errors import CertificateFailed
from sidestep.model_folder import ModelFolder
from sidestep.tokenizer import PromptTokenizer


def nothing(_: GeneratorModule) -> None:
    pass


def inside_a_block(module: GeneratorModule) -> None:
    """Make one convolution large; the norm after it makes the picture the same again."""
    conv = module.vae.decoder.up_blocks[0].resnets[0].conv1
    conv.weight.mul_(1e6)
    conv.bias.mul_(1e6)


def attention_logits(module: GeneratorModule) -> None:
    """As in SD2.1, whose pictures are black where its attention is in fp16."""
    module.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.mul_(3e5)


def residual_stream(module: GeneratorModule) -> None:
    module.vae.decoder.conv_in.weight.mul_(3e5)


PLANTED = [
    (nothing, []),
    (inside_a_block, ["decoder.up_blocks.0.resnets.0"]),
    (attention_logits, ["unet.mid_block.attentions.0.transformer_blocks.0.attn1"]),
    (residual_stream, ["decoder"]),
]


def measure(
    folder: ModelFolder, tokenizer: PromptTokenizer, plant: Callable[[GeneratorModule], None]
) -> tuple[FoldedGenerator, Reference, list[str]]:
    module = load_module(folder)
    with torch.no_grad():
        plant(module)
    reference = draw_reference(module, tokenizer, folder.card.latent_shape)
    folded = FoldedGenerator(module).eval()
    ids, noise = torch.from_numpy(reference.ids), torch.from_numpy(reference.noise)
    return folded, reference, modules_to_keep(activation_maxima(folded, ids, noise))


def rounded(folded: nn.Module, kept: list[str], folder: ModelFolder) -> Rounded:
    card = folder.card
    spec = GeneratorSpec("fp16", card.weights, card.latent_shape, card.image_size, card.tokens)
    return Rounded(folded, kept, spec)


@pytest.mark.parametrize(
    ("plant", "wanted"), PLANTED, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_overflows_is_kept_in_fp32(
    tiny_model: ModelFolder,
    tokenizer: PromptTokenizer,
    plant: Callable[[GeneratorModule], None],
    wanted: list[str],
) -> None:
    folded, reference, kept = measure(tiny_model, tokenizer, plant)
    assert kept == wanted
    passed = certify(reference, rounded(folded, kept, tiny_model), precision="fp16")
    assert passed.largest_difference >= 1  # it does round
    if kept:
        with pytest.raises(CertificateFailed, match="fp16 allows 8"):
            certify(reference, rounded(folded, [], tiny_model), precision="fp16")


def test_the_graph_has_the_types_that_were_chosen(
    tiny_model: ModelFolder, tokenizer: PromptTokenizer, tmp_path: Path
) -> None:
    folded, reference, kept = measure(tiny_model, tokenizer, inside_a_block)
    to_half(folded, kept)
    graph = export_onnx(folded, fused_inputs(tiny_model.card), ["pixels"])
    types = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    convolutions = [types[node.input[1]] for node in graph.graph.node if node.op_type == "Conv"]
    block = folded.get_submodule(kept[0])
    in_fp32 = sum(isinstance(part, nn.Conv2d) for part in block.modules()) + 1  # the prediction's
    assert convolutions.count(onnx.TensorProto.FLOAT) == in_fp32 >= 3
    assert convolutions.count(onnx.TensorProto.FLOAT16) == len(convolutions) - in_fp32 > in_fp32
    save(graph, tmp_path / "generator.onnx", largest=1000)
    assert (tmp_path / "generator.onnx").stat().st_size < (
        tmp_path / "generator.onnx.data"
    ).stat().st_size
    engine = OnnxRuntimeEngine(tiny_model, graph=tmp_path / "generator.onnx")
    certify(reference, engine, precision="fp16")


def test_the_prediction_is_not_rounded(tiny_model: ModelFolder, tokenizer: PromptTokenizer) -> None:
    folded, reference, kept = measure(tiny_model, tokenizer, nothing)
    to_half(folded, kept)
    seen: list[torch.dtype] = []
    folded.unet.register_forward_hook(lambda _, args, out: seen.extend((args[0].dtype, out.dtype)))
    folded(torch.from_numpy(reference.ids), torch.from_numpy(reference.noise))
    assert seen == [torch.float16, torch.float32]


def test_an_overflow_between_the_networks_cannot_be_kept_apart() -> None:
    seen = Activations(inside={"unet.conv_out": 1e5}, boundary={"unet.conv_out": 1e5, "unet": 1e5})
    with pytest.raises(CertificateFailed, match="--precision fp32"):
        modules_to_keep(seen)


def test_nested_modules_are_kept_once() -> None:
    inside = {"decoder.block.conv": 1e5, "decoder": 1e5, "unet.conv": 3.0}
    boundary = {"decoder.block.conv": 1e5, "decoder.block": 9.0, "decoder": 9.0, "unet.conv": 3.0}
    assert modules_to_keep(Activations(inside, boundary)) == ["decoder"]
    assert modules_to_keep(Activations(inside, boundary), limit=2e5) == []
