"""The command line as a user meets it: real processes, one line for an error, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sidestep.cli.bench import COMMANDS as BENCH
from sidestep.cli.main import COMMANDS
from sidestep.cli.models import COMMANDS as MODELS
from sidestep.generator import Generator
from sidestep.images import decode, encode, read_recipe
from sidestep.model_folder import ONNX, ModelFolder


def sidestep(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from sidestep.cli.main import main; main()"
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {root!r}); {code}",
            *map(str, arguments),
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_generate_writes_what_the_library_draws(tiny_model: ModelFolder, tmp_path: Path) -> None:
    done = sidestep(
        "generate",
        "red apple",
        "--seed",
        "7",
        "--count",
        "2",
        "--model",
        tiny_model.path,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["red-apple-7.png", "red-apple-8.png"]
    data = (tmp_path / "out" / "red-apple-7.png").read_bytes()
    expected = Generator.load(tiny_model.path)("red apple", seed=7)
    assert data == expected.data
    recipe = read_recipe(data)
    assert recipe is not None
    assert recipe.seed == 7


def test_prompts_that_look_alike_are_all_written(tiny_model: ModelFolder, tmp_path: Path) -> None:
    prompts = ["red apple", "Red apple!", "red apple", "blue heart"]
    done = sidestep("generate", *prompts, "--seed", "7", "--model", tiny_model.path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = {path.name: read_recipe(path.read_bytes()) for path in (tmp_path / "out").iterdir()}
    assert {name: recipe.prompt for name, recipe in drawn.items() if recipe} == {
        "red-apple-7.png": "red apple",
        "red-apple-7-2.png": "Red apple!",
        "red-apple-7-3.png": "red apple",
        "blue-heart-7.png": "blue heart",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", ""], "prompt must be a text of 1 to 2,000 characters"),
        (["generate", "x" * 10_000], "prompt must be a text of 1 to 2,000 characters"),
        (["generate", "a", "--seed=-1"], "seed must be a whole number from 0 to 2^64 - 1"),
        (["generate", "a", "--seed", str(2**64)], "seed must be a whole number"),
        (["generate", "a", "--count", "1000"], "count must be a whole number from 1 to 16"),
        (["generate", "a", "--format", "gif"], "format must be one of png, jpeg, webp"),
        (["verify", "nowhere.png"], "nowhere.png cannot be read"),
        (["generate", "a", "--model", "nowhere"], "nowhere is not a folder"),
        (["export", "nowhere", "--to", "coreml"], "to is 'coreml'; it must be one of onnx"),
        (["export", "nowhere", "--target", "sm90"], "target is 'sm90'; it must be one of current"),
        (["export", "nowhere", "--buckets", "8,1"], "ascending batch sizes of 1 to 64"),
        (["export", "nowhere", "--target", "sm89"], "--target is about a plan (--to"),
        (["generate", "a", "--batch", "4"], "--batch is about a series"),
        (["export", "nowhere"], "nowhere is not a folder"),
        (["data", "emoji", "--size", "9999"], "between 16 and 512"),
        (["card", "nowhere", "--guidance", "3"], "--guidance is about --data; give that too"),
        (["card", "nowhere", "--captions", "9"], "--captions is about --data; give that too"),
        (["train", "--data", "nowhere"], "sidestep data emoji --out nowhere"),
        (
            ["distill", "--teacher", "nowhere", "--prompts", "nowhere.txt"],
            "nowhere.txt cannot be read",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = sidestep(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["missing", "truncated", "mismatching"])
def test_a_damaged_model_is_one_line(tiny_model: ModelFolder, tmp_path: Path, damage: str) -> None:
    path = tiny_model.path / ONNX
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else data + b"x")
    done = sidestep("generate", "a", "--model", tiny_model.path, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("InvalidModel: ")
    assert "generator.onnx" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_cannot_be_written_is_one_line(tiny_model: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    draw = ["generate", "a", "--model", str(tiny_model.path)]
    for arguments, code in (
        ([*draw, "--out", "file"], 2),
        ([*draw, "--out", "file/out"], 1),
        (["keys", "add", "anna", "--keys", "file/keys.json"], 1),
    ):
        done = sidestep(*arguments, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert "file" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_prompts_of_one_name_have_a_file_each(tiny_model: ModelFolder, tmp_path: Path) -> None:
    prompts = ["\N{RED APPLE}", "\N{FIRE ENGINE}", "red apple", "Red apple!"]
    model = ["--model", tiny_model.path, "--seed", "7"]
    done = sidestep("generate", *prompts, *model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = ["picture-7.png", "picture-7-2.png", "red-apple-7.png", "red-apple-7-2.png"]
    for name, prompt in zip(names, prompts, strict=True):
        recipe = read_recipe((tmp_path / "out" / name).read_bytes())
        assert recipe is not None
        assert recipe.prompt == prompt


def test_a_picture_is_verified(tiny_model: ModelFolder, tmp_path: Path) -> None:
    data = Generator.load(tiny_model.path)("red apple", seed=7).data
    (tmp_path / "a.png").write_bytes(data)
    done = sidestep("verify", "a.png", "--model", tiny_model.path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a.png is 'red apple' with seed 7 by tiny: largest difference 0/255" in done.stdout
    forged = encode(255 - decode(data), "png", read_recipe(data))
    (tmp_path / "a.png").write_bytes(forged)
    done = sidestep("verify", "a.png", "--model", tiny_model.path, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("VerificationFailed: ")
    assert done.stderr.count("\n") == 2  # before it, which engine was chosen and why


def test_a_cut_prompt_is_said(tiny_model: ModelFolder, tmp_path: Path) -> None:
    prompt = "apple " * 10 + "blue heart"
    done = sidestep("generate", prompt, "--model", tiny_model.path, cwd=tmp_path)
    assert done.returncode == 0
    assert "PromptCut: the prompt is longer than 12 tokens; left out: 'blue heart'" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([name, "--help"] for name in COMMANDS),
        ["data", "emoji", "--help"],
        *(["bench", name, "--help"] for name in BENCH),
        *(["models", name, "--help"] for name in MODELS),
    ],
)
def test_help_needs_no_extra(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import json, sys; from sidestep.cli.main import cli;"
        "cli(standalone_mode=False, args=sys.argv[1:]);"
        " print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    *help_lines, modules = done.stdout.strip().splitlines()
    assert help_lines[0].startswith("Usage:")
    heavy = {"torch", "diffusers", "transformers", "onnxruntime", "gradio", "bentoml", "matplotlib"}
    assert not heavy & set(json.loads(modules))


def test_export_prints_its_proof(tiny_model: ModelFolder, tmp_path: Path) -> None:
    drawn = decode(Generator.load(tiny_model.path)("red apple", seed=7).data)
    done = sidestep("export", tiny_model.path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout
    again = decode(Generator.load(tiny_model.path)("red apple", seed=7).data)
    np.testing.assert_array_equal(drawn, again)
