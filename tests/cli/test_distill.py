"""`sidestep distill`: presets, flags that beat them, and what is refused before anything starts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from distill.folders import Teacher, write_teacher
from distill.presets import PRESETS
from distill.processes import Processes
from sidestep.cli.distill import command
from sidestep.errors import InvalidModel, InvalidTraining


@pytest.fixture
def arguments(tiny_teacher: Teacher, tmp_path: Path) -> list[str]:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    (tmp_path / "prompts.txt").write_text("red apple\nblue heart\nred apple\n")
    paths = {"--teacher": "teacher", "--prompts": "prompts.txt", "--out": "run"}
    return [word for key, name in paths.items() for word in (key, str(tmp_path / name))]


def run(arguments: list[str], *more: str) -> Result:
    return CliRunner().invoke(command, [*arguments, *more])


def resolved(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    settings, _ = json.JSONDecoder().raw_decode(result.stdout)
    assert isinstance(settings, dict)
    return settings


def test_a_dry_run_prints_the_presets_settings_and_the_memory(
    arguments: list[str], tmp_path: Path
) -> None:
    result = run(arguments, "--preset", "sd15", "--dry-run")
    settings = resolved(result)
    paper = PRESETS["sd15"].options
    assert settings["batch"] == paper.batch == 512
    assert settings["learning_rate"] == paper.learning_rate == 1e-6
    assert settings["guidance"] == {f"kappa{i}": 1.5 for i in range(1, 5)} | {"alpha": 1.0}
    assert "2 prompts; dropped 1 duplicates" in result.stderr
    assert re.search(r"activations +\d+\.\d\d GiB", result.stdout)
    assert not (tmp_path / "run").exists()


def test_one_of_several_processes_tells_the_plan(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.processes.current", lambda: Processes(1, 2))
    other = run(arguments, "--dry-run")
    assert (other.exit_code, other.output) == (0, "")


def activations(arguments: list[str], *more: str) -> float:
    told = run(arguments, "--batch", "4096", "--dry-run", *more).stdout
    found = re.search(r"activations +([\d.]+) GiB", told)
    assert found
    return float(found[1])


def test_recomputing_keeps_fewer_activations(arguments: list[str]) -> None:
    assert activations(arguments, "--recompute") < 0.5 * activations(arguments)


def test_the_critics_lower_half_is_kept_too(arguments: list[str], tmp_path: Path) -> None:
    """The generator, twice two passes of guided scores, and one lower half: a tenth, roughly."""
    more = activations(arguments, "--real-images", str(tmp_path)) / activations(arguments)
    assert 1.03 < more < 1.2


def test_flags_beat_their_preset(arguments: list[str]) -> None:
    flags = ("--strategy", "long", "--kappa", "3", "--kappa2", "0.5", "--alpha", "1.2")
    settings = resolved(run(arguments, *flags, "--precision", "fp32", "--dry-run"))
    assert settings["guidance"] == {
        "kappa1": 1,
        "kappa2": 0.5,
        "kappa3": 1,
        "kappa4": 3,
        "alpha": 1.2,
    }
    assert settings["precision"] == "fp32"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--kappa", "-1"), r"--kappa -1 is below 0, which only --strategy anti-cfg knows"),
        (("--kappa", "nan"), r"kappa\d is nan; choose a finite number"),
        (("--kappa4", "inf"), r"kappa4 is inf; choose a finite number"),
        (("--strategy", "short"), r"--kappa 1\.5 is too much for --strategy short"),
        (("--strategy", "none", "--kappa", "3"), r"--strategy none knows no guidance scale"),
        (("--batch", "6", "--per-device-batch", "4"), r"--per-device-batch 4 does not divide"),
        (("--device", "tpu"), r"--device tpu is unknown"),
        (("--exclude", "nowhere.txt"), r"--exclude nowhere\.txt cannot be read"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    arguments: list[str], more: tuple[str, ...], message: str
) -> None:
    result = run(arguments, *more)
    assert isinstance(result.exception, InvalidTraining)
    assert re.search(message, str(result.exception))


def test_a_teacher_that_is_not_there_is_named(arguments: list[str]) -> None:
    arguments[1] = "no/such/teacher"
    result = run(arguments)
    assert isinstance(result.exception, InvalidModel)
    assert "no/such/teacher" in str(result.exception)


@pytest.mark.parametrize("flag", ["--batch=0", "--init-timestep=1000", "--precision=int8"])
def test_bounds_are_the_settings_own(arguments: list[str], flag: str) -> None:
    result = run(arguments, flag)
    assert result.exit_code == 2
    assert flag.split("=")[0] in result.stderr


def test_help_lists_the_presets_with_the_published_results() -> None:
    told = CliRunner().invoke(command, ["--help"]).output
    assert "sd21-base" in told
    assert "1.5: 8.71/0.302" in told
    assert "--init-timestep INTEGER RANGE" in told
