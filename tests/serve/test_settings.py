from __future__ import annotations

import pytest

from serve.settings import Settings
from sidestep.errors import InvalidRequest


def test_defaults_and_variables() -> None:
    assert Settings.from_environment({"SIDESTEP_MODEL": ""}) == Settings()
    settings = Settings.from_environment({"SIDESTEP_MODEL": "m", "SIDESTEP_QUEUE_LIMIT": "32"})
    assert settings == Settings(model="m", queue_limit=32)


@pytest.mark.parametrize("value", ["3", "many", "1000000", "-1"])
def test_a_value_out_of_bounds_names_the_variable_and_its_bounds(value: str) -> None:
    with pytest.raises(InvalidRequest, match=r"SIDESTEP_QUEUE_LIMIT .* from 16 to 100,000"):
        Settings.from_environment({"SIDESTEP_QUEUE_LIMIT": value})
