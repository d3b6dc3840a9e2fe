"""A run's memory of what it has finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidestep.errors import InvalidTraining
from sidestep.pipeline.ledger import FILE, LOG, Finished, Ledger, fingerprint

DONE = Finished("a", "b", "5 images seen", 1.5, "2026-01-01T00:00:00+00:00")


def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "run", {"kappa": 2}).keep("distil", DONE)
    again = Ledger.open(tmp_path / "run", {"kappa": 2})
    assert again.finished("distil") == DONE
    assert again.finished("card") is None


def test_another_runs_folder_is_refused_by_what_differs(tmp_path: Path) -> None:
    Ledger.open(tmp_path, {"preset": "emoji", "kappa": 2}).keep("distil", DONE)
    with pytest.raises(InvalidTraining, match=r"another run: kappa \(2 -> 3\); choose another"):
        Ledger.open(tmp_path, {"preset": "emoji", "kappa": 3})


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidTraining, match="holds something else"):
        Ledger.open(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_of_another_recipe_that_finished_nothing_is_taken_over(tmp_path: Path) -> None:
    """Its training may have had too little memory; one with checkpoints refuses by itself."""
    Ledger.open(tmp_path, {"precision": "fp32"}).begin()
    Ledger.open(tmp_path, {"precision": "fp16-weights"}).keep("distil", DONE)
    with pytest.raises(InvalidTraining, match=r"precision \(fp16-weights -> fp32\)"):
        Ledger.open(tmp_path, {"precision": "fp32"})


@pytest.mark.parametrize("left", ["distil-1a2b3c4d", LOG])
def test_what_is_told_of_a_damaged_file_does_every_stage_again(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir()
    (tmp_path / FILE).write_text("{")
    with pytest.raises(InvalidTraining, match="delete it to do every stage again"):
        Ledger.open(tmp_path, {})
    (tmp_path / FILE).unlink()
    assert Ledger.open(tmp_path, {}).finished("distil") is None


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 1, "identity": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InvalidTraining, match=rf"{FILE} cannot be read"):
        Ledger.open(tmp_path, {})


def test_the_order_of_keys_does_not_change_a_fingerprint() -> None:
    assert fingerprint({"a": 1, "b": [2, Path("c")]}) == fingerprint({"b": [2, "c"], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
