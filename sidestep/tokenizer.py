"""Prompts -> token ids [B, L] in CLIP's layout: start, words, end, then padding."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from sidestep.errors import InvalidModel

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


class PromptCut(UserWarning):
    """A prompt was longer than the model reads; the message lists the words left out."""


@dataclass(frozen=True)
class Tokens:
    """Ids of one prompt and the end of it that did not fit."""

    ids: NDArray[np.int64]  # [L]
    dropped: str


def byte_alphabet() -> list[str]:
    """List the 256 printable characters that stand for bytes, ordered as CLIP's vocabulary is."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Split as CLIP does: words, single digits, runs of other signs; then bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_WORDS, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


class PromptTokenizer:
    """The CLIP tokenizer of a model folder's `tokenizer/`."""

    def __init__(self, folder: Path, *, length: int) -> None:
        """Read `vocab.json` and `merges.txt`; raises InvalidModel if either is not usable.

        Texts are padded with what the folder names as `pad_token`, else with the end token:
        Stable Diffusion 2 pads with "!".
        """
        try:
            vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InvalidModel(f"{folder}: cannot read the tokenizer ({error})") from error
        pairs = [tuple(line.split()) for line in lines if not line.startswith("#version") and line]
        try:
            self.start, self.end = int(vocabulary[START]), int(vocabulary[END])
            self.pad = int(vocabulary[_pad_token(folder)])
            self._bpe = Tokenizer(_bpe(vocabulary, [(left, right) for left, right in pairs]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidModel(f"{folder}: the tokenizer is not CLIP's BPE ({error})") from error
        self.length = length
        self._bpe.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Lowercase(),
            ]
        )
        self._bpe.pre_tokenizer = pre_tokenizer()

    def encode(self, prompt: str) -> Tokens:
        """Encode one prompt to [L]; what does not fit is returned as `dropped`."""
        encoding = self._bpe.encode(prompt)
        room = self.length - 2
        ids = np.full(self.length, self.pad, dtype=np.int64)
        kept = encoding.ids[:room]
        ids[0] = self.start
        ids[1 : 1 + len(kept)] = kept
        ids[1 + len(kept)] = self.end
        if len(encoding.ids) <= room:
            return Tokens(ids, "")
        return Tokens(ids, prompt[encoding.offsets[room][0] :].strip())

    def __call__(self, prompts: Sequence[str]) -> NDArray[np.int64]:
        """Encode prompts to [B, L]; warns with PromptCut where a prompt was cut."""
        rows = [self.encode(prompt) for prompt in prompts]
        for row in rows:
            if row.dropped:
                message = (
                    f"the prompt is longer than {self.length} tokens; left out: {row.dropped!r}"
                )
                warnings.warn(message, PromptCut, stacklevel=2)
        return np.stack([row.ids for row in rows])


def _bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> models.BPE:
    """Build CLIP's model; raises ValueError for a merge of what the vocabulary does not have."""
    try:
        return models.BPE(
            vocabulary,
            merges,
            unk_token=END,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
        )
    except Exception as error:  # tokenizers has no class of its own for it
        raise ValueError(str(error)) from error


def _pad_token(folder: Path) -> str:
    """Read which token pads; special_tokens_map.json counts before tokenizer_config.json.

    The two differ in Stable Diffusion 2, and pipelines go by the first.
    """
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (file := folder / name).is_file():
            value = json.loads(file.read_text(encoding="utf-8")).get("pad_token")
            if value is not None:
                return str(value["content"] if isinstance(value, dict) else value)
    return END
