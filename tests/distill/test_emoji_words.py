"""What pictures are called in their captions."""

from __future__ import annotations

from distill.emoji_words import STYLE_WORDS, in_style


def test_styles_share_a_things_synonyms_among_them() -> None:
    ways = ["pizza", *(f"way {number}" for number in range(8))]
    taught = {style: in_style(ways, style, columns=8) for style in STYLE_WORDS}
    for texts in taught.values():
        assert [text.split(",")[0] for text in texts].count("pizza") == 4
    assert {text.split(",")[0] for texts in taught.values() for text in texts} == set(ways)


def test_one_name_fills_all_columns() -> None:
    assert {text.split(",")[0] for text in in_style(["key"], "flat", columns=8)} == {"key"}
