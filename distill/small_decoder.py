"""Give a model folder a small decoder, with its graph and certificate."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors import SafetensorError

from distill.decoder import train_decoder
from distill.decoder_options import DecoderOptions
from distill.folders import save_network
from distill.processes import training_device
from sidestep.engines.torch_module import load_module
from sidestep.errors import InvalidTraining
from sidestep.files import atomic_folder, one_at_a_time, write_json
from sidestep.model_folder import CARD, SMALL, ModelFolder, write_card
from sidestep.tokenizer import PromptTokenizer


def distil_decoder(
    folder: ModelFolder,
    prompts: Sequence[str],
    out: Path,
    options: DecoderOptions,
    *,
    device: str = "cpu",
) -> ModelFolder:
    """Train a small decoder in `out`, resuming what is there, and put it into `folder`.

    Prompts: what to draw; the model's examples if there are none. An older small decoder is
    replaced, with all that was compiled with it. Returns the folder, seen with the new one.

    Raises InvalidTraining without prompts, for options that this machine or the run in `out`
    cannot have, and where a file cannot be written; Stopped after a Ctrl-C.
    """
    where = training_device(device)
    folder = folder.with_decoder("full")
    prompts = prompts or folder.card.examples
    if not prompts:
        raise InvalidTraining(f"{folder.path} names no examples; give prompts with --prompts FILE")
    tokenizer = PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
    ids = torch.from_numpy(np.stack([tokenizer.encode(prompt).ids for prompt in prompts]))
    module = load_module(folder)
    shown = hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:16]
    identity = {"weights": folder.card.weights, "prompts": shown}
    try:
        tiny, psnr_db = train_decoder(module, ids, options, out, identity=identity, device=where)
        told = {"psnr_db": round(psnr_db, 2), **identity, **asdict(options)}
        return store_decoder(folder, tiny, told)
    except torch.OutOfMemoryError as error:
        raise InvalidTraining(f"{where} has too little memory; lower --batch") from error
    except (OSError, SafetensorError) as error:
        raise InvalidTraining(
            f"{out} cannot be written ({error}); free some space and run the same command again"
        ) from error


def store_decoder(
    folder: ModelFolder, tiny: AutoencoderTiny, told: dict[str, object]
) -> ModelFolder:
    """Write a decoder in fp16 into `folder`, with what is told of it in the card as it now is."""
    folder.check_beside(SMALL)
    with atomic_folder(folder.path / SMALL) as new:
        save_network(copy.deepcopy(tiny).half(), new)
        config = json.loads((new / "config.json").read_text(encoding="utf-8"))
        config.pop("block_out_channels", None)  # diffusers writes it and then warns about it
        write_json(new / "config.json", config)
    with one_at_a_time(folder.path / CARD):
        card = ModelFolder.open(folder.path).card  # others may have written it during the training
        folder = write_card(folder.path, replace(card, small_decoder=told))
    return folder.with_decoder("small")
