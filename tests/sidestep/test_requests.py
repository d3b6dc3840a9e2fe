from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestep.errors import InvalidRequest
from sidestep.requests import BOUNDS, GenerateRequest, Picture, format_of, read_server_timing


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({}, "prompt", "prompt is missing"),
        ({"prompt": ""}, "prompt", "1 to 2,000 characters"),
        ({"prompt": " \n"}, "prompt", "not blank"),
        ({"prompt": "x" * 10_000}, "prompt", "1 to 2,000 characters"),
        ({"prompt": 5}, "prompt", "a text"),
        ({"prompt": "\ud800"}, "prompt", "a text"),
        ({"prompt": "a", "seed": -1}, "seed", r"0 to 2\^64 - 1"),
        ({"prompt": "a", "seed": 2**64}, "seed", r"0 to 2\^64 - 1"),
        ({"prompt": "a", "seed": 1.5}, "seed", "a whole number"),
        ({"prompt": "a", "seed": "1"}, "seed", "a whole number"),
        ({"prompt": "a", "seed": 2**64 - 1, "count": 2}, "seed", r"seed \+ count at most 2\^64"),
        ({"prompt": "a", "count": 0}, "count", "1 to 16"),
        ({"prompt": "a", "count": 1000}, "count", "1 to 16"),
        ({"prompt": "a", "count": True}, "count", "a whole number"),
        ({"prompt": "a", "format": "gif"}, "format", "png, jpeg, webp"),
        ({"prompt": "a", "sede": 1}, "sede", "the fields are prompt, seed, count, format"),
    ],
)
def test_bad_values_give_one_sentence(values: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        GenerateRequest.parse(values)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)
    assert "\n" not in str(caught.value)


@given(seed=st.integers(0, 2**64 - 1), count=st.integers(1, 16))
def test_seeds_are_consecutive_and_in_range(seed: int, count: int) -> None:
    values = {"prompt": "a", "seed": seed, "count": count}
    if seed + count > 2**64:
        with pytest.raises(InvalidRequest):
            GenerateRequest.parse(values)
    else:
        assert list(GenerateRequest.parse(values).seeds) == [seed + i for i in range(count)]


def test_a_missing_seed_is_drawn_once() -> None:
    request = GenerateRequest.parse({"prompt": "a"})
    drawn = {request.with_seed().seed for _ in range(8)}
    assert len(drawn) > 1
    assert all(seed is not None and 0 <= seed < 2**32 for seed in drawn)
    assert request.with_seed().with_seed().seed is not None
    with pytest.raises(InvalidRequest):
        request.seeds  # noqa: B018


def test_a_picture_is_saved_under_a_name_that_tells_the_truth(tmp_path: Path) -> None:
    picture = Picture(b"data", seed=1, format="jpeg")
    assert picture.save(tmp_path / "new" / "a.jpg").read_bytes() == b"data"
    with pytest.raises(InvalidRequest, match=r"a\.png is not a name for jpeg"):
        picture.save(tmp_path / "a.png")
    with pytest.raises(InvalidRequest, match="gif"):
        format_of(Path("a.gif"))


def test_the_documentation_lists_every_field_with_its_bounds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    table = page[page.index("| field of `/generate` |") :]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", table[: table.index("\n\n")], re.M)
    fields = GenerateRequest.model_fields.items()
    assert rows == [(name, BOUNDS[name], field.description) for name, field in fields]


def test_a_server_timing_is_read() -> None:
    told = read_server_timing(
        'queue;dur=1.5, engine;dur=20, encode;dur=0.25, total;dur=21.75, batch;desc="2"'
    )
    assert told == {"queue": 1.5, "engine": 20, "encode": 0.25, "total": 21.75, "batch": 2}
