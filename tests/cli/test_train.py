"""`sidestep train`: which options go together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sidestep.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--budget", "cpu", "--steps", "5"], "--budget sets --steps itself"),
        (["--budget", "gpu", "--seed", "1", "--size", "64"], "--budget sets --seed, --size itself"),
        (["--minutes", "9"], "--minutes, --times and --default need --budget"),
        (["--times", "0.1"], "--minutes, --times and --default need --budget"),
        (["--default", "3"], "--minutes, --times and --default need --budget"),
        (["--budget", "cpu", "--default", "2"], "no student; there are 1.5, 3, 4.5"),
        (["--budget", "cpu", "--minutes", "0"], "minutes"),
        (["--budget", "tpu"], "tpu"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", "--out", str(tmp_path / "run"), *arguments])
    assert left.value.code == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["--budget", "gpu"], ["--device", "cuda"]])
def test_a_gpu_that_is_not_there_is_told_in_one_line(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as left:
        main(["train", *arguments, "--data", str(tmp_path), "--out", str(tmp_path / "run")])
    assert left.value.code == 2
    assert "PyTorch finds no CUDA device; choose --device cpu" in capsys.readouterr().err


def test_a_missing_bundle_names_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "bundle.safetensors"
    with pytest.raises(SystemExit) as left:
        main(["train", "--budget", "cpu", "--data", str(data), "--out", str(tmp_path / "run")])
    assert left.value.code == 2
    assert f"sidestep data bundle --out {data}" in capsys.readouterr().err
