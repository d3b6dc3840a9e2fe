from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidestep.errors import InvalidRequest
from sidestep.generator import Generator
from sidestep.images import decode, read_recipe
from sidestep.series import (
    Series,
    draw_series,
    parse_seeds,
    picture_path,
    read_lines,
    use_own_gpu,
)

PROMPTS = ["red apple", "blue heart", "fire engine", "red apple", "soccer ball"]


def test_seeds_are_lists_and_ranges() -> None:
    assert parse_seeds("8,8,2,0-3, 057") == [8, 8, 2, 0, 1, 2, 3, 57]
    assert parse_seeds(str(2**64 - 1)) == [2**64 - 1]
    assert len(parse_seeds("0-29999")) == 30_000


@pytest.mark.parametrize("text", ["", "1,,2", "3-1", "-1", "a", "1.5", str(2**64), "0-9999999"])
def test_bad_seeds_are_named(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--seeds has"):
        parse_seeds(text)


def test_one_prompt_takes_all_seeds_and_one_seed_all_prompts() -> None:
    assert Series.of(["a"], [1, 1, 2]) == Series(["a", "a", "a"], [1, 1, 2])
    assert Series.of(["a", "b"], [7]) == Series(["a", "b"], [7, 7])


@pytest.mark.parametrize(("prompts", "seeds"), [(2, 3), (3, 2), (0, 1), (1, 0)])
def test_numbers_that_do_not_match_are_told(prompts: int, seeds: int) -> None:
    with pytest.raises(InvalidRequest, match=f"{prompts} prompts and {seeds} seeds"):
        Series.of(["a"] * prompts, range(seeds))


def test_prompts_are_read_with_their_repeats(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("red apple\r\n red apple \nblue heart\n\n", encoding="utf-8-sig")
    assert read_lines(file) == ["red apple", "red apple", "blue heart"]


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "no prompts"), (b"a\n\nb\n", "line 2 is empty"), (b"\xff\xfe", "cannot be read")],
)
def test_bad_prompt_files_are_told(data: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(data)
    with pytest.raises(InvalidRequest, match=words):
        read_lines(file)


def test_a_missing_prompt_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.txt cannot be read"):
        read_lines(tmp_path / "nowhere.txt")


@pytest.fixture(scope="module")
def generator(built_model: Path) -> Generator:
    return Generator.load(built_model, engine="onnx")


def test_a_series_is_numbered_and_drawn_as_asked(generator: Generator, tmp_path: Path) -> None:
    series = Series.of(PROMPTS, [8, 8, 2, 3, 9])
    assert draw_series(generator, series, tmp_path, batch=2) == 5
    for index, (prompt, seed) in enumerate(zip(series.prompts, series.seeds, strict=True)):
        data = picture_path(tmp_path, index).read_bytes()
        recipe = read_recipe(data)
        assert recipe is not None
        assert (recipe.prompt, recipe.seed) == (prompt, seed)
        assert (decode(data) == decode(generator(prompt, seed=seed).data)).all()
    assert (tmp_path / "captions.txt").read_text().splitlines() == PROMPTS


def test_a_stopped_series_goes_on(generator: Generator, tmp_path: Path) -> None:
    series = Series.of(PROMPTS, range(5))
    draw_series(generator, series, tmp_path / "whole", batch=2)
    draw_series(generator, series, tmp_path / "stopped", batch=2)
    for index in (1, 4):
        picture_path(tmp_path / "stopped", index).unlink()
    assert draw_series(generator, series, tmp_path / "stopped", batch=2) == 2
    assert _files(tmp_path / "stopped") == _files(tmp_path / "whole")
    assert draw_series(generator, series, tmp_path / "stopped", batch=2) == 0


def test_another_series_is_not_mixed_in(generator: Generator, tmp_path: Path) -> None:
    draw_series(generator, Series.of(PROMPTS, range(5)), tmp_path, batch=2)
    with pytest.raises(InvalidRequest, match="other series; choose another --out"):
        draw_series(generator, Series.of(PROMPTS, range(1, 6)), tmp_path, batch=2)
    (tmp_path / "series.json").write_text("{")
    with pytest.raises(InvalidRequest, match="damaged"):
        draw_series(generator, Series.of(PROMPTS, range(5)), tmp_path, batch=2)


@pytest.mark.parametrize("name", ["000000.png", "000003.png", "000009.png", "1000000.png"])
def test_pictures_of_unknown_origin_are_not_taken_for_ours(
    name: str, generator: Generator, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"of someone else")
    with pytest.raises(InvalidRequest, match=r"no series\.json .*choose another --out, or move"):
        draw_series(generator, Series.of(PROMPTS, range(5)), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]  # nothing is claimed or drawn


def test_other_files_are_no_hindrance(generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "apple-0.png").write_bytes(b"of sidestep generate, without a series")
    assert draw_series(generator, Series.of(PROMPTS, range(5)), tmp_path) == 5


def test_two_processes_draw_what_one_draws(built_model: Path, tmp_path: Path) -> None:
    """With torchrun itself, on the CPU."""
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS) + "\n")
    for count in (1, 2):
        options = ["--model", built_model, "--engine", "onnx", "--prompts", file]
        options += ["--seeds", "3,3,2-4", "--batch", "2", "--out", tmp_path / str(count)]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        done = subprocess.run(
            [sys.executable, *launcher, "-m", "sidestep", "generate", *map(str, options)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        drawn = sum(int(line.split(": ")[1].split()[0]) for line in done.stdout.splitlines())
        assert drawn == 5
    assert _files(tmp_path / "1") == _files(tmp_path / "2")
    assert json.loads((tmp_path / "1" / "series.json").read_text())["pictures"] == 5


@pytest.mark.parametrize(
    ("visible", "local", "expected"),
    [(None, "1", "1"), ("4,5,6", "2", "6"), ("4", None, "4"), ("", "1", "")],
)
def test_each_process_sees_its_own_gpu(
    visible: str | None, local: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("LOCAL_RANK", local)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    use_own_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
