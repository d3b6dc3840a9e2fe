from __future__ import annotations

from pathlib import Path

from distill.captions import train_bpe
from distill.held_out import read_prompts


def test_the_same_texts_give_the_same_merges(tmp_path: Path) -> None:
    """So that a training that goes on reads the ids that it began with."""
    for number in range(3):
        train_bpe(read_prompts(), tmp_path / str(number), vocab_size=1200, max_tokens=12)
    merges = [(tmp_path / str(number) / "merges.txt").read_bytes() for number in range(3)]
    assert merges[0].count(b"\n") > 500
    assert merges[0] == merges[1] == merges[2]
