"""A CLIP-style byte-level BPE, learned from the captions of a small data set."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from sidestep.files import write_json
from sidestep.tokenizer import END, START, byte_alphabet, pre_tokenizer


def train_bpe(texts: Iterable[str], out: Path, *, vocab_size: int, max_tokens: int) -> None:
    """Learn merges from `texts` and write a CLIP tokenizer folder that diffusers can open.

    The vocabulary has CLIP's layout: 256 bytes, 256 word-final bytes, the merges in order, then
    the start and end tokens. It is closed under bytes, so no text is unknown.
    """
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizer()
    learner.decoder = decoders.BPEDecoder()
    alphabet = byte_alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    pieces = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges), START, END]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    write_json(out / "vocab.json", vocabulary)
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (out / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_tokens,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    write_json(out / "tokenizer_config.json", config)
