"""Embeddings are computed once, found again, and never taken from another encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill import texts
from distill.folders import Teacher
from distill.texts import EncodedTexts, TextsOnDemand, cache_texts, hash_encoder
from sidestep.errors import InvalidTraining

PROMPTS = [f"prompt {number}" for number in range(10)]


class Encoder:
    """Gives every prompt its own embedding, and counts the prompts it was asked for."""

    asked = 0

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        self.asked += len(prompts)
        return torch.stack([torch.full((3, 2), float(sum(p.encode()))) for p in prompts])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "SHARD", 4)


def test_rows_are_the_prompts_in_any_order(tmp_path: Path) -> None:
    encode = Encoder()
    cached = cache_texts(PROMPTS, encode, tmp_path, most_gib=1)
    assert isinstance(cached, EncodedTexts)
    assert len(cached) == 10
    assert torch.equal(cached.rows([9, 0, 5, 5]), encode([PROMPTS[i] for i in (9, 0, 5, 5)]))
    assert torch.equal(cached.null_text, encode([""]))


def test_what_was_encoded_is_not_encoded_again(tmp_path: Path) -> None:
    cache_texts(PROMPTS, Encoder(), tmp_path, most_gib=1)
    max(tmp_path.iterdir()).unlink()  # as if the run had been stopped before the last shard
    again = Encoder()
    cache_texts(PROMPTS, again, tmp_path, most_gib=1)
    assert again.asked - 1 in {2, 4}


def test_more_than_the_disk_may_hold_is_encoded_on_demand(tmp_path: Path) -> None:
    encode = Encoder()
    lazy = cache_texts(PROMPTS, encode, tmp_path, most_gib=0)
    assert isinstance(lazy, TextsOnDemand)
    assert encode.asked == 1  # ''
    assert len(lazy) == 10
    assert torch.equal(lazy.rows([3]), encode([PROMPTS[3]]))
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    cache_texts(PROMPTS, Encoder(), tmp_path, most_gib=1)
    shard = next(tmp_path.iterdir())
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(InvalidTraining, match=rf"{shard.name} is damaged .*; delete it"):
        cache_texts(PROMPTS, Encoder(), tmp_path, most_gib=1)


def test_the_key_tells_encoders_and_formats_apart(tiny_teacher: Teacher) -> None:
    def key(dtype: torch.dtype) -> str:
        return hash_encoder(tiny_teacher.text_encoder, tiny_teacher.tokenizer, dtype)

    first = key(torch.float32)
    assert first == key(torch.float32)
    assert first != key(torch.float16)
    weight = next(tiny_teacher.text_encoder.parameters())
    before = weight.detach().clone()
    try:
        weight.data[0] += 1
        assert first != key(torch.float32)
    finally:
        weight.data.copy_(before)
