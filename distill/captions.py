"""A CLIP-style byte-level BPE, learned from the captions of a small data set."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from sidestep.files import write_json
from sidestep.tokenizer import END, START, byte_alphabet, pre_tokenizer


def train_bpe(texts: Iterable[str], out: Path, *, vocab_size: int, max_tokens: int) -> None:
    """Learn merges from `texts` and write a CLIP tokenizer folder that diffusers can open.

    The vocabulary has CLIP's layout: 256 bytes, 256 word-final bytes, the merges in order, then
    the start and end tokens. It is closed under bytes, so no text is unknown. The same texts give
    the same merges.
    """
    texts = list(texts)
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizer()
    learner.decoder = decoders.BPEDecoder()
    ends = {word[-1] for text in texts for word, _ in _words(learner, text)}
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=byte_alphabet(),
        # Else they get their numbers in a random order, by which ties of merges are decided.
        special_tokens=[f"{letter}</w>" for letter in sorted(ends)],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    write_tokenizer(merges, out, max_tokens=max_tokens)


def _words(learner: Tokenizer, text: str) -> list[tuple[str, tuple[int, int]]]:
    assert learner.normalizer is not None
    assert learner.pre_tokenizer is not None
    normal = learner.normalizer.normalize_str(text)
    words: list[tuple[str, tuple[int, int]]] = learner.pre_tokenizer.pre_tokenize_str(normal)
    return words


def write_tokenizer(
    merges: Sequence[tuple[str, str]], out: Path, *, max_tokens: int, pad: str = END
) -> None:
    """Write `merges` as a CLIP tokenizer folder: 512 + their number + 2 tokens.

    pad: what fills a text up to its length; Stable Diffusion 2 takes "!", token 0
    """
    alphabet = byte_alphabet()
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
        "pad_token": pad,
    }
    write_json(out / "tokenizer_config.json", config)


def letter_merges(count: int) -> list[tuple[str, str]]:
    """List `count` merges of letters alone, learned from nothing: pairs, threes, then fours.

    For networks with random weights, where no text has a meaning yet. The ids are not CLIP's,
    and words take more tokens than in CLIP, where the common ones take one.
    """
    letters = string.ascii_lowercase
    pairs = [a + b for a in letters for b in letters]
    merges = chain(
        ((a, b) for a in letters for b in letters),
        ((a, b + "</w>") for a in letters for b in letters),
        ((pair, c) for pair in pairs for c in letters),
        ((pair, c + "</w>") for pair in pairs for c in letters),
        ((first, second) for first in pairs for second in pairs),
    )
    return list(islice(merges, count))
