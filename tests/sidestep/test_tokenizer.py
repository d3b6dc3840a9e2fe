from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from sidestep.errors import InvalidModel
from sidestep.tokenizer import PromptCut, PromptTokenizer, byte_alphabet

PROMPTS = [
    "red apple",
    "Red  APPLE, noto",
    "a cat's hat 123!!",
    "naïve café 日本語 😀",
    "",
    "don't   stop",
    "x" * 200,
    "new\nline\ttab",
    "ÀÉ ß İ",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_equal_those_of_transformers(tokenizer_folder: Path, prompt: str) -> None:
    theirs = CLIPTokenizer.from_pretrained(tokenizer_folder)
    wanted = theirs(prompt, padding="max_length", truncation=True, max_length=12).input_ids
    assert PromptTokenizer(tokenizer_folder, length=12).encode(prompt).ids.tolist() == wanted


def test_the_layout_is_clips(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.encode("red apple").ids.tolist()
    assert ids[0] == tokenizer.start
    assert ids[3:] == [tokenizer.end] * 9
    assert len(set(byte_alphabet())) == 256


@pytest.mark.parametrize("told_in", ["special_tokens_map.json", "tokenizer_config.json", "both"])
@pytest.mark.parametrize("pad", ["!", {"content": "!", "lstrip": False}])
def test_stable_diffusion_2_pads_with_its_first_token(
    tokenizer_folder: Path, tmp_path: Path, told_in: str, pad: object
) -> None:
    """Its special_tokens_map.json says "!" and its tokenizer_config.json the end token."""
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    told = "special_tokens_map.json" if told_in == "both" else told_in
    if told_in == "special_tokens_map.json":
        (folder / "tokenizer_config.json").unlink()
    (folder / told).write_text(json.dumps({"pad_token": pad}))
    tokenizer = PromptTokenizer(folder, length=12)
    ids = tokenizer.encode("red apple").ids.tolist()
    assert ids[3:] == [tokenizer.end] + [0] * 8
    assert tokenizer.encode("apple " * 20).ids[-1] == tokenizer.end


def test_special_tokens_in_a_prompt_are_plain_text(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.encode("<|endoftext|> apple").ids.tolist()
    assert tokenizer.start not in ids[1:]
    assert ids[1] != tokenizer.end


def test_a_long_prompt_is_cut_with_the_words_left_out(tokenizer: PromptTokenizer) -> None:
    prompt = "apple " * 10 + "blue heart"
    with pytest.warns(PromptCut, match="'blue heart'"):
        ids = tokenizer([prompt, "red"])
    assert ids.shape == (2, 12)
    assert tokenizer.encode(prompt).dropped == "blue heart"
    assert tokenizer.encode("apple " * 10).dropped == ""


@pytest.mark.parametrize("content", ["", "[]", '{"a": 0}', '{"<|startoftext|>": "x"}'])
def test_a_damaged_vocabulary_is_named(
    tokenizer_folder: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "vocab.json").write_text(content)
    (tmp_path / "merges.txt").write_bytes((tokenizer_folder / "merges.txt").read_bytes())
    with pytest.raises(InvalidModel, match=str(tmp_path)):
        PromptTokenizer(tmp_path, length=12)


def test_a_merge_outside_the_vocabulary_is_named(tokenizer_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes((tokenizer_folder / "vocab.json").read_bytes())
    merges = (tokenizer_folder / "merges.txt").read_text()
    (tmp_path / "merges.txt").write_text(merges + "never seen\n")
    with pytest.raises(InvalidModel, match=r"not CLIP's BPE.*vocabulary"):
        PromptTokenizer(tmp_path, length=12)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot read the tokenizer"):
        PromptTokenizer(tmp_path / "none", length=12)
