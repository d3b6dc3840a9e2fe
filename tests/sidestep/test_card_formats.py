"""Cards of older and newer versions of sidestep."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidestep.card_formats import FORMAT
from sidestep.errors import InvalidModel
from sidestep.model_folder import CARD, ModelFolder


def change(folder: ModelFolder, **values: Any) -> None:
    path = folder.path / CARD
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(("autocast", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_card_of_format_1_is_read_and_left_as_it_is(
    tiny_model: ModelFolder, autocast: bool, precision: str
) -> None:
    change(tiny_model, format=1, recipe={"batch": 64, "autocast": autocast})
    before = (tiny_model.path / CARD).read_bytes()
    card = ModelFolder.open(tiny_model.path).card
    assert card.format == FORMAT
    assert card.recipe == {"batch": 64, "precision": precision}
    assert (tiny_model.path / CARD).read_bytes() == before


@pytest.mark.parametrize(
    ("found", "mend"),
    [(FORMAT + 1, "pip install --upgrade sidestep"), (0, "sidestep distill"), ("2", "no version")],
)
def test_other_formats_are_refused_with_the_command(
    tiny_model: ModelFolder, found: object, mend: str
) -> None:
    change(tiny_model, format=found)
    with pytest.raises(InvalidModel, match=mend):
        ModelFolder.open(tiny_model.path)
