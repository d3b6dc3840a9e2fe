"""Which edit a painted picture is of."""

from __future__ import annotations

import sys

import pytest

from bench.typing import KEYS, latencies_ms, main


def test_an_edit_ends_with_its_text_or_a_later_one() -> None:
    pressed = [("r", 0.0), ("re", 10.0), ("red", 20.0)]
    painted = [("r, seed 7", 15.0), ("red, seed 7", 50.0)]
    assert latencies_ms(pressed, painted) == [15.0, 40.0, 30.0]


def test_no_text_comes_twice() -> None:
    assert len({text[: at + 1] for text, at in KEYS}) == len(KEYS)


@pytest.mark.parametrize("edits", [0, len(KEYS) + 1])
def test_more_keys_than_texts_have_are_refused(
    edits: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.typing", "--edits", str(edits)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert f"it must be 1 to {len(KEYS)}" in capsys.readouterr().err
