from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from serve.settings import Settings, variable
from sidestep.errors import InvalidRequest

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


def test_defaults_and_variables() -> None:
    assert Settings.from_environment({"SIDESTEP_MODEL": ""}) == Settings()
    environment = {
        "SIDESTEP_MODEL": "m, n=o",
        "SIDESTEP_QUEUE_LIMIT": "32",
        "SIDESTEP_RECIPE": "Off",
    }
    settings = Settings.from_environment(environment)
    assert settings == Settings(model=("m", "n=o"), queue_limit=32, recipe=False)
    assert Settings.from_environment(settings.to_environment()) == settings


@pytest.mark.parametrize("value", ["3", "many", "1000000", "-1", "9" * 5000])
def test_a_value_out_of_bounds_names_the_variable_and_its_bounds(value: str) -> None:
    with pytest.raises(InvalidRequest, match=r"SIDESTEP_QUEUE_LIMIT .* from 16 to 100,000"):
        Settings.from_environment({"SIDESTEP_QUEUE_LIMIT": value})


@pytest.mark.parametrize(
    ("name", "words"), [("SIDESTEP_ENGINE", "one of auto"), ("SIDESTEP_RECIPE", "true or false")]
)
def test_other_values_are_named_too(name: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"{name} must be {words}.* not 'maybe'"):
        Settings.from_environment({name: "maybe"})


def test_paths_are_made_absolute_for_the_worker() -> None:
    given = Settings(model=("m", "n=o"), keys="k.json", access_log="-")
    here = Path.cwd()
    settled = Settings(
        model=(f"{here}/m", f"n={here}/o"), keys=str(here / "k.json"), access_log="-"
    )
    assert given.settled() == settled == settled.settled()


def test_a_model_with_a_comma_is_refused_before_the_worker_reads_two() -> None:
    with pytest.raises(InvalidRequest, match=r"'/srv/a,b/model' has a comma.*rename"):
        Settings(model=("/srv/a,b/model",)).settled()


def test_the_documentation_lists_every_setting_as_it_is() -> None:
    rows = re.findall(r"^\| `(SIDESTEP_\w+)` \| (.*?) \| (.*?) \|$", DOCS.read_text(), re.M)
    wanted = []
    for option in fields(Settings):
        default = "" if option.default in (None, "", ()) else f"`{option.default}`"
        wanted.append((variable(option.name), default, option.metadata["help"]))
    assert rows == wanted
