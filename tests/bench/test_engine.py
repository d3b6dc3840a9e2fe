"""Engines and a peer on a small real model, in processes of their own."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from bench.certificates import certificate_of, faults_of, gate_faults
from bench.contender import Contender, Entry, Task
from bench.costs import device_of
from bench.engine import Plan, measure
from bench.engine_rows import Timed, row_of
from bench.markdown import report_text
from bench.ours import EngineDrawer
from bench.plots import plot_report
from bench.reports import Report
from sidestep.errors import BenchmarkFailed, InvalidModel, InvalidRequest
from sidestep.model_folder import ONNX_CERTIFICATE, ModelFolder, write_card
from sidestep.noise import latent_noise
from sidestep.pipeline.card_tables import certificates

SCHEMA = Path(__file__).parents[2] / "docs" / "bench-schema.json"


def check_schema(report: Report, folder: Path) -> None:
    path = folder / "report.json"
    report.write(path)
    schema = json.loads(SCHEMA.read_text())
    jsonschema_rs.validator_for(schema).validate(json.loads(path.read_text()))
    again = Report.read(path)
    assert report_text(again) == report_text(report)


@pytest.fixture(scope="module")
def measured(built_model: Path) -> Report:
    entries = [Entry("engine:onnx"), Entry("diffusers")]
    plan = Plan(batches=(1, 3), calls=20, seconds=600, stage_calls=1, peak_s=0.02)
    return measure(ModelFolder.open(built_model), entries, plan)


def test_every_contender_has_a_row_for_each_batch(measured: Report, tmp_path: Path) -> None:
    assert measured.failed is None
    names = [one["name"] for one in measured.figures["contenders"]]
    assert names == ["onnx-cpu", "diffusers"]
    assert [(r["name"], r["batch"]) for r in measured.rows] == [
        (name, batch) for batch in (1, 3) for name in names
    ]
    for row in measured.rows:
        assert row["latency_ms"]["n"] == 20
        assert row["latency_ms"]["p50"]["low"] <= row["latency_ms"]["p50"]["value"]
        assert row["latency_ms"]["p95"] is None
        assert (row["times_as_long"] is None) == (row["name"] == names[0])
        assert {"text", "unet", "decoder"} <= set(row["stages_ms"])
    check_schema(measured, tmp_path)
    assert "p95 needs 72 samples" in report_text(measured)
    assert plot_report(measured, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_all_drew_the_same_pictures(measured: Report) -> None:
    assert [c["largest_difference"] <= 2 for c in measured.figures["contenders"]] == [True] * 2
    assert [c["faults"] for c in measured.figures["contenders"]] == [[], []]
    assert measured.valid


def test_memory_and_cold_start_are_each_contenders_own(measured: Report) -> None:
    light, heavy = measured.figures["contenders"]
    assert light["rss_peak_mib"] < heavy["rss_peak_mib"]
    for one in measured.figures["contenders"]:
        assert one["cold_start_s"] >= one["open_s"] + one["first_call_s"]


def test_the_floor_is_operations_by_peak(measured: Report) -> None:
    flops, peak = sum(measured.figures["flops"].values()), measured.figures["peak"]
    best = 1e12 * max(peak["matmul_tflops"], peak["convolution_tflops"])
    for row in measured.rows:
        assert row["floor_ms"] == pytest.approx(1e3 * row["batch"] * flops / best, rel=1e-3)
        median_s = 1e-3 * np.median(np.concatenate(row["rounds_ms"]))
        assert row["tflops"] == pytest.approx(row["batch"] * flops / median_s / 1e12, rel=1e-3)


def change_certificate(folder: ModelFolder, **values: Any) -> None:
    path = folder.path / ONNX_CERTIFICATE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    write_card(folder.path, folder.card)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"largest_difference": 9}, "largest_difference is 9 levels of 255, above 1"),
        ({"batch_invariance": 2}, "batch_invariance is 2 levels"),
        ({"psnr_db": 20.0}, "PSNR is 20.0 dB, below 48"),
        ({"weights": "other"}, "of other weights"),
        ({"tolerance": None}, "is damaged"),
    ],
)
def test_a_failed_certificate_makes_speeds_invalid(
    tiny_model: ModelFolder, values: dict[str, Any], words: str
) -> None:
    assert faults_of(tiny_model, "onnx-cpu") == []
    change_certificate(tiny_model, **values)
    (fault,) = faults_of(tiny_model, "onnx-cpu")
    assert words in fault


def test_a_plans_certificate_is_its_own_and_not_another_plans(tiny_model: ModelFolder) -> None:
    told = json.loads((tiny_model.path / ONNX_CERTIFICATE).read_text())
    for name in ("aoti-current-fp16", "tensorrt-rtx-sm80-fp32", "tensorrt-current-fp32"):
        place = tiny_model.path / "engines" / name
        place.mkdir(parents=True)
        (place / "certificate.json").write_text(json.dumps({**told, "precision": name[-4:]}))
    assert faults_of(tiny_model, "tensorrt-fp32") == []
    for engine, place in (
        ("tensorrt-rtx-fp16", "tensorrt-rtx-current-fp16"),
        ("tensorrt-fp16", "tensorrt-current-fp16"),
        ("aoti-cpu-fp32", "aoti-current-fp32"),
    ):
        (fault,) = faults_of(tiny_model, engine)
        assert fault == f"engines/{place}/certificate.json: it is missing; run sidestep export"


def test_a_plan_that_never_drew_has_no_valid_speed(tiny_model: ModelFolder) -> None:
    told = json.loads((tiny_model.path / ONNX_CERTIFICATE).read_text())
    place = tiny_model.path / "engines" / "tensorrt-rtx-current-fp16" / "certificate.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({**told, "proof": {"plan": {"run": False}}}))
    (fault,) = faults_of(tiny_model, "tensorrt-rtx-fp16")
    assert "it is of the graph alone" in fault
    assert "-fp16`, its graph |" in certificates(tiny_model)
    place.write_text(json.dumps({**told, "proof": {"plan": {"run": True}}}))
    assert faults_of(tiny_model, "tensorrt-rtx-fp16") == []
    assert "its graph" not in certificates(tiny_model)


def test_an_invalid_speed_is_marked(tiny_model: ModelFolder) -> None:
    change_certificate(tiny_model, largest_difference=9)
    folder = ModelFolder.open(tiny_model.path)
    plan = Plan(batches=(1,), calls=2, stage_calls=1, peak_s=0, gates=("recognised>=0.9",))
    report = measure(folder, [Entry("engine:onnx")], plan)
    assert not report.valid
    assert len(report.invalid_because) == 2
    assert report_text(report).startswith("**These speeds are invalid:**")


@pytest.mark.parametrize(
    ("engine", "place"),
    [
        ("onnx-cpu", "onnx"),
        ("onnx-cuda", "onnx"),
        ("onnx-cuda-fp16", "onnx-fp16"),
        ("openvino-bf16", "openvino-bf16"),
        ("tensorrt-fp16", "engines/tensorrt-current-fp16"),
    ],
)
def test_a_missing_certificate_is_told_by_its_place(
    tiny_model: ModelFolder, engine: str, place: str
) -> None:
    path = certificate_of(tiny_model, engine)
    assert path == tiny_model.path / place / "certificate.json"


@pytest.mark.parametrize(
    ("precision", "device", "floor"),
    [("fp32", "cpu", 1.0), ("fp16", "cpu", None), ("fp32", "cuda", None)],
)
def test_who_computes_otherwise_is_not_compared_with_the_peak(
    precision: str, device: str, floor: float | None
) -> None:
    timed = Timed(Contender(Entry("engine:onnx"), name="onnx-cpu"), 1, [[1.0] * 6])
    peak = {"matmul_tflops": 1.0, "convolution_tflops": 0.5}
    costs = {"flops": {"unet": 1e9}, "peak": {**peak, "precision": precision, "device": device}}
    assert row_of(timed, [timed], costs, {})["floor_ms"] == floor


@pytest.mark.parametrize(
    ("contender", "device"),
    [
        ("onnx-cpu-small", "cpu"),
        ("pytorch-cpu", "cpu"),
        ("optimum", "cpu"),
        ("openvino-bf16", "cpu"),
        ("pytorch-cuda", "cuda"),
        ("tensorrt-rtx-fp16", "cuda"),
    ],
)
@pytest.mark.parametrize("there", [[], [{"name": "a GPU"}]])
def test_a_name_tells_where_its_engine_computes(
    contender: str, device: str, there: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.costs.gpus", lambda: there)  # as nvidia-smi may be missing
    assert device_of(contender) == device


def test_gates_read_the_cards_figures(tiny_model: ModelFolder) -> None:
    tiny_model.card.quality["recognised"] = 0.8
    assert gate_faults(tiny_model, ["recognised>=0.8", "recognised<=1"]) == []
    assert gate_faults(tiny_model, ["recognised>=0.9"]) == [
        "quality gate recognised>=0.9: recognised is 0.8"
    ]
    assert "was not measured" in gate_faults(tiny_model, ["fid<=20"])[0]
    for unreadable in ("recognised=1", "recognised>=0.8.1", "recognised>=."):
        with pytest.raises(InvalidRequest, match="NAME>=NUMBER"):
            gate_faults(tiny_model, [unreadable])


def task_of(folder: ModelFolder, prompts: Sequence[str] = ("red apple",)) -> Task:
    return Task(folder, prompts, latent_noise(range(len(prompts)), folder.card.latent_shape))


def test_our_broken_engine_is_our_error(tiny_model: ModelFolder) -> None:
    (tiny_model.path / "onnx" / "generator.onnx").unlink()
    with Contender(Entry("engine:onnx")) as contender, pytest.raises(InvalidModel, match="missing"):
        contender.start(task_of(tiny_model))


def test_a_peer_that_cannot_start_is_left_out(tiny_model: ModelFolder) -> None:
    plan = Plan(batches=(1,), calls=2, stage_calls=1, peak_s=0)
    report = measure(tiny_model, [Entry("engine:onnx"), Entry("optimum")], plan)
    (absent,) = report.figures["absent"]
    assert absent["name"] == "optimum"
    assert "No module named 'optimum'" in absent["why"]
    assert "optimum was left out" in report_text(report)


def test_a_contender_that_is_killed_is_told(tiny_model: ModelFolder) -> None:
    with Contender(Entry("engine:onnx")).start(task_of(tiny_model)) as contender:
        assert contender.pictures(1).shape == (1, *tiny_model.card.image_size, 3)
        contender._process.kill()
        with pytest.raises(BenchmarkFailed, match="engine:onnx died"):
            contender.order("time", batch=1, calls=2, warmup=2, threads=None)


def test_a_contender_that_dies_in_mid_run_leaves_what_was_measured(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Timed.block

    def dies(one: Timed, calls: int, warmup: int) -> None:
        if one.name == "fake" and len(one.rounds) == 3:
            one.contender._process.kill()
        block(one, calls, warmup)

    monkeypatch.setattr(Timed, "block", dies)
    plan = Plan(batches=(1, 2), calls=20, stage_calls=1, peak_s=0)
    report = measure(tiny_model, [Entry("engine:onnx"), Entry("engine:fake")], plan)
    assert report.failed is not None
    assert "at batch 1 engine:fake died" in report.failed
    assert [row["latency_ms"]["n"] for row in report.rows] == [20, 6, 20, 0]
    assert report.invalid_because == [
        "fake: the fake engine draws nothing",
        *(fault for fault in report.invalid_because if "draws other pictures" in fault),
    ]
    check_schema(report, tmp_path)


def test_a_gpus_fault_in_mid_run_is_told_as_a_failed_order() -> None:
    """What a dying order raises leaves the rows before it, see above; NoGpu would end the run."""
    told = {"error": "cudaGraphLaunch failed: cudaErrorIllegalAddress", "kind": "NoGpu"}
    contender = Contender(Entry("engine:tensorrt"))
    contender._process = SimpleNamespace(
        stdin=io.StringIO(), stdout=io.StringIO(json.dumps(told) + "\n")
    )
    with pytest.raises(BenchmarkFailed, match="engine:tensorrt: NoGpu: cudaGraphLaunch failed"):
        contender.order("time", batch=16, calls=2, warmup=2)


def test_a_contender_that_dies_at_a_larger_batch_keeps_its_smaller_ones(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Timed.block

    def dies(one: Timed, calls: int, warmup: int) -> None:
        if one.name == "fake" and one.batch == 2:
            one.contender._process.kill()
        block(one, calls, warmup)

    monkeypatch.setattr(Timed, "block", dies)
    plan = Plan(batches=(1, 2), calls=20, stage_calls=1, peak_s=0)
    report = measure(tiny_model, [Entry("engine:onnx"), Entry("engine:fake")], plan)
    assert report.failed is not None
    assert report.failed.startswith("at batch 2 engine:fake died")
    assert [row["latency_ms"]["n"] for row in report.rows] == [20, 20, 20, 0]
    assert [bool(row["stages_ms"]) for row in report.rows] == [True, False] * 2


@pytest.mark.parametrize("order", ["stages", "pictures"])
def test_a_contender_that_dies_over_an_order_loses_no_other_row(
    order: str, tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    obey = Contender.order

    def dies(one: Contender, do: str, **details: Any) -> dict[str, Any]:
        if (one.entry.kind, do) == ("engine:fake", order):
            one._process.kill()
        return obey(one, do, **details)

    monkeypatch.setattr(Contender, "order", dies)
    monkeypatch.setattr(Entry, "is_ours", property(lambda entry: entry.kind != "engine:fake"))
    plan = Plan(batches=(1,), calls=20, stage_calls=1, peak_s=0)
    report = measure(tiny_model, [Entry("engine:onnx"), Entry("engine:fake")], plan)
    assert report.rows[0]["stages_ms"]
    if order == "stages":
        assert report.failed is not None
        assert report.failed.startswith("in the stages of batch 1 engine:fake died")
        assert [row["latency_ms"]["n"] for row in report.rows] == [20, 20]
    else:
        (absent,) = report.figures["absent"]
        assert absent["why"].startswith("engine:fake died")


def test_a_batch_above_the_engines_is_drawn_in_parts(tiny_model: ModelFolder) -> None:
    drawer = EngineDrawer(tiny_model.path, "onnx")
    prompts = ["red apple", "octopus"] * 10
    noise = latent_noise(range(20), tiny_model.card.latent_shape)
    drawn = drawer.draw(prompts, noise)
    np.testing.assert_array_equal(drawn[17:18], drawer.draw(prompts[17:18], noise[17:18]))
    stages = drawer.stages(prompts[:2], noise[:2])
    assert list(stages) == ["tokenise", "noise", "text", "unet", "decoder", "png", "jpeg"]


def test_the_cut_graph_draws_what_the_whole_does(tiny_model: ModelFolder) -> None:
    from bench.onnx_stages import OnnxStages

    drawer = EngineDrawer(tiny_model.path, "onnx")
    noise = latent_noise([1, 2], tiny_model.card.latent_shape)
    stages = OnnxStages(tiny_model)
    assert list(stages(drawer._tokenizer(["red apple", "pizza"]), noise)) == [
        *("text", "unet", "decoder")
    ]
    np.testing.assert_array_equal(stages.pixels, drawer.draw(["red apple", "pizza"], noise))
