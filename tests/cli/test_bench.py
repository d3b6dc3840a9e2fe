"""`sidestep bench` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from bench.distillation import HERE, Measured, Result, Task
from sidestep.cli.main import main
from sidestep.model_folder import ModelFolder

ROOT = Path(__file__).parents[2]


def bench(
    *arguments: str | Path, cwd: Path, file_blocks: str = "unlimited"
) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    code += "from sidestep.cli.main import main; main()"
    limited = ["sh", "-c", f'ulimit -f {file_blocks}; exec "$@"', "sh"]
    return subprocess.run(
        [*limited, sys.executable, "-c", code, "bench", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_engine_then_compare_then_report(tiny_model: ModelFolder, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    options = ["--engine", "onnx", "--batches", "1,2", "--calls", "12", "--no-peak"]
    done = bench("engine", tiny_model.path, *options, "--out", reports / "a.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| onnx-cpu | 1 |" in done.stdout
    told = json.loads((reports / "a.json").read_text())
    assert told["command"].startswith("sidestep bench engine")
    assert [row["latency_ms"]["n"] for row in told["rows"]] == [20, 20]
    done = bench("compare", reports / "a.json", reports / "a.json", cwd=tmp_path)
    assert "no difference shown" in done.stdout
    done = bench("report", reports, "-o", tmp_path / "page.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "onnx-cpu" in (tmp_path / "page.md").read_text()


def test_http_starts_a_service_of_its_own(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "denied.txt").touch()
    variables = {"DECODER": "small", "HOST": "::1", "QUEUE_LIMIT": "64", "DENY_LIST": "denied.txt"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SIDESTEP_{name}", value)
    options = ["--rate", "20", "--seconds", "1", "--slo-ms", "60000", "--slo-percent", "50"]
    options += ["--gate", "recognised>=0.8"]
    done = bench("http", "--model", tiny_model.path, *options, "--out", "a.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["model"]["engine"] == "onnx-cpu"
    gate = "quality gate recognised>=0.8: recognised was not measured on this model"
    assert told["invalid_because"] == [gate]
    assert f"**These speeds are invalid:**\n- {gate}" in done.stdout
    assert told["rows"][0]["codes"] == {"200": 20}
    (note,) = told["notes"]
    assert note == "The service had these variables: SIDESTEP_QUEUE_LIMIT=64, SIDESTEP_DENY_LIST."


def test_a_service_that_is_down_is_exit_code_1(tmp_path: Path) -> None:
    done = bench("http", "http://127.0.0.1:9", "--out", "a.json", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("BenchmarkFailed: 127.0.0.1:9 cannot be reached: refused")
    assert json.loads((tmp_path / "a.json").read_text())["failed"]
    assert "21 x refused" in done.stdout or "20 x refused" in done.stdout


def test_what_was_measured_is_told_where_it_cannot_be_written(tmp_path: Path) -> None:
    """No file may have a byte, as on a full disk: only writing finds out."""
    done = bench("http", "127.0.0.1:9", "--out", "a.json", cwd=tmp_path, file_blocks="0")
    assert done.returncode == 1
    assert "x refused" in done.stdout
    assert done.stderr.startswith("OSError: [Errno 27]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["engine", "nowhere"], "nowhere is not a folder"),
        (["engine", "--batches", "0"], "they must be sizes of 1 to 256"),
        (["engine", "--against", "midjourney"], "'midjourney' is no peer; there are diffusers"),
        (["engine", "--python", "optimum=nowhere"], "it must be PEER=PYTHON"),
        (["engine", "--gate", "fid"], "it must be NAME>=NUMBER"),
        (["http", "ftp://a"], "is not an address"),
        (["http", "http://127.0.0.1:9", "--model", "nowhere"], "a service of our own, not both"),
        (["http", "http://127.0.0.1:9", "--engine", "onnx"], "a service of our own, not both"),
        (["http", "http://127.0.0.1:9", "--decoder", "small"], "a service of our own, not both"),
        (["http", "http://127.0.0.1:9", "--gate", "fid<=1"], "a service of our own, not both"),
        (["http", "--gate", "fid"], "it must be NAME>=NUMBER"),
        (["http", "--decoder", "small"], "emoji has no small decoder"),
        (["http", "--body", "[]"], "it must be a JSON object"),
        (["http", "http://127.0.0.1:9", "--out", "."], "--out is ., where no file can be written"),
        (["http", "http://127.0.0.1:9", "--out", "log.jsonl/a.json"], "Not a directory"),
        (["compare", "a.json", "b.json"], "a.json cannot be read"),
        (["report", "nowhere", "-o", "a.md"], "nowhere is not a folder of reports"),
        (["report", "log.jsonl", "-o", "a.png"], "log.jsonl is not a training's log"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.jsonl").write_text("no log")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main replaces it
    with pytest.raises(SystemExit) as left:
        main(["bench", *arguments])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.strip().splitlines()) == 1


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(["bench", *arguments])
    return capsys.readouterr().err


def test_a_peers_python_is_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "python"
    file.write_text("no program")
    told = refused(capsys, "engine", "--against", "optimum", "--python", f"optimum={file}")
    assert "it must be PEER=PYTHON" in told


def test_a_batch_in_one_pass_is_not_a_batch_of_0(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--preset", "sd15", "--per-device-batch", "0", "--device", "cuda"]
    told = refused(capsys, "distill", *options, "--teacher", "nowhere")  # without a GPU or with one
    assert "--batch 0" not in told


def test_a_distillation_that_failed_is_reported_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def died(task: Task, **_: object) -> Result:
        return Result(task, {HERE: Measured(failed="out of memory")}, {"matmul_tflops": 1.0})

    monkeypatch.setattr("bench.distillation.measure", died)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main replaces it
    with pytest.raises(SystemExit) as left:
        main(["bench", "distill", "--out", str(tmp_path / "a.json")])
    assert left.value.code == 1
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == "BenchmarkFailed: as here: out of memory"
    assert "| as here | - |" in told.out
    assert json.loads((tmp_path / "a.json").read_text())["failed"] == "as here: out of memory"
