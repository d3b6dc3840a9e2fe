"""`sidestep doctor` and `sidestep models` as a user meets them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "models" / "emoji"
CARD = json.loads((EMBEDDED / "sidestep.json").read_text())
PIXELS = "x".join(map(str, CARD["image_size"]))


def sidestep(*words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    code = "from sidestep.cli.main import main; main()"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIDESTEP_")}
    path = os.pathsep.join(filter(None, [variables.pop("PYTHONPATH", ""), str(ROOT)]))
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=cwd,
        env={**kept, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sound_machine(tmp_path: Path, free_port: Callable[[], int]) -> None:
    done = sidestep("doctor", cwd=tmp_path, SIDESTEP_PORT=str(free_port()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "note"}
    subjects = {line[8:26].strip() for line in lines}
    wanted = "python packages [train] gpu tensorrt settings port disk memory model"
    assert set(wanted.split()) <= subjects
    assert f"{EMBEDDED}: emoji, {PIXELS}, 1 step" in done.stdout


def test_problems_are_told_to_people_and_machines(tmp_path: Path) -> None:
    place = tmp_path / "site" / "sidestep-0.1.0.dist-info"
    place.mkdir(parents=True)
    head = "Metadata-Version: 2.1\nName: sidestep\nVersion: 0.1.0\n"
    (place / "METADATA").write_text(f"{head}Requires-Python: >=3.11\nRequires-Dist: absent>=2\n")
    variables = {"PYTHONPATH": str(place.parent), "SIDESTEP_PORT": "none"}
    done = sidestep("doctor", cwd=tmp_path, **variables)
    assert done.returncode == 1
    told = "problem packages           absent is missing; run: pip install 'absent>=2'"
    assert told in done.stdout.splitlines()
    assert done.stderr == "ProblemsFound: 2 in packages, settings\n"

    done = sidestep("doctor", "--json", cwd=tmp_path, **variables)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["sound"] is False
    assert {
        "level": "problem",
        "subject": "packages",
        "text": "absent is missing",
        "mend": "pip install 'absent>=2'",
    } in told["findings"]


def test_a_missing_package_stops_its_checks_alone(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('broken', name='numpy.core')\n")
    done = sidestep("doctor", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ok      python" in done.stdout
    told = "problem models             not checked, because numpy cannot be imported (broken)"
    assert f"{told}; run: pip install numpy" in done.stdout


def test_the_doctor_imports_neither_torch_nor_an_engine(tmp_path: Path) -> None:
    code = (
        "import json, sys; from sidestep.doctor.diagnosis import diagnose; list(diagnose());"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    heavy = {"torch", "diffusers", "transformers", "onnxruntime", "openvino", "gradio", "bentoml"}
    assert not heavy & set(json.loads(told))


@pytest.mark.parametrize(
    "command", [["doctor", "--model"], ["models", "check"], ["models", "show"]]
)
def test_a_folder_that_is_no_model_is_bad_input(tmp_path: Path, command: list[str]) -> None:
    done = sidestep(*command, "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("InvalidModel: nowhere is not a folder")
    assert done.stderr.count("\n") == 1


def test_models_are_listed(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED, tmp_path / "models" / "mine")
    (tmp_path / "runs" / "half" / "model").mkdir(parents=True)
    (tmp_path / "runs" / "half" / "model" / "sidestep.json").write_text("{}")
    done = sidestep("models", "list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    head, embedded, mine, half = (line.split(maxsplit=6) for line in done.stdout.splitlines())
    assert head == ["name", "folder", "pixels", "steps", "weights", "MB", "compiled"]
    assert embedded[:5] == ["emoji", str(EMBEDDED), PIXELS, "1", CARD["weights"][:12]]
    assert mine[1:5] == ["models/mine", PIXELS, "1", CARD["weights"][:12]]
    size = sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file())
    if not (EMBEDDED / "engines").exists():
        assert mine[5:] == [f"{size / 1e6:.1f}", "onnx"]
    assert half[1] == "runs/half/model"
    assert "has format None, which no version of sidestep wrote" in half[-1]
    nothing = sidestep("models", "list", tmp_path / "runs" / "half" / "model" / "x", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "holds none" in nothing.stderr


def test_a_card_is_shown(tmp_path: Path) -> None:
    done = sidestep("models", "show", EMBEDDED, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    titles = [line for line in lines[1:] if not line.startswith(" ")]
    wanted = ["Pictures", "Recipe", "Quality", "Certificates", "Licences", "Limits"]
    assert [title for title in titles if title != "Small decoder"] == wanted
    assert f"  weights: {CARD['weights']}" in lines
    assert f"  images seen: {CARD['recipe']['images_seen']:,}" in lines
    for name, value in CARD["quality"].items():
        if isinstance(value, int | float):
            told = f"{value:,}" if isinstance(value, int) else value
            assert f"  {name.replace('_', ' ')}: {told}" in lines
    assert any(line.startswith("  onnx: fp32, up to 1/255 from PyTorch") for line in lines)
    assert lines[-1].strip() == CARD["limits"]

    done = sidestep("models", "show", EMBEDDED, "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    certificate = json.loads((EMBEDDED / "onnx" / "certificate.json").read_text())
    assert told.pop("certificates")["onnx"] == certificate
    kept = ("name", "weights", "files", "quality", "limits")
    assert {name: told[name] for name in kept} == {name: CARD[name] for name in kept}


def test_a_model_is_checked(tmp_path: Path) -> None:
    copy = shutil.copytree(EMBEDDED, tmp_path / "copy")
    done = sidestep("models", "check", copy, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "files are those of sidestep.json" in done.stdout
    data = bytearray((copy / "onnx" / "generator.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "onnx" / "generator.onnx").write_bytes(data)
    done = sidestep("models", "check", copy, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("InvalidModel: ")
    assert done.stderr.endswith(
        "generator.onnx does not match sidestep.json (damaged); copy the model again\n"
    )


def test_a_plan_from_elsewhere_is_no_whole_model(tmp_path: Path) -> None:
    copy = shutil.copytree(EMBEDDED, tmp_path / "copy", ignore=shutil.ignore_patterns("engines"))
    place = copy / "engines" / "tensorrt-rtx-sm89-fp16"
    place.mkdir(parents=True)
    (place / "manifest.json").write_text("{}")
    done = sidestep("models", "check", copy, cwd=tmp_path)
    assert done.returncode == 2
    assert "manifest.json is damaged" in done.stderr
    assert "run: sidestep export" in done.stderr
