"""Two processes train what one trains."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from distill.checkpoints import last_step
from distill.folders import Teacher, write_teacher
from distill.processes import Processes, current, training_device
from sidestep.errors import InvalidTraining

SCRIPT = """
import sys
from pathlib import Path
from distill.guidance import strategy
from distill.options import DistillOptions
from distill.student import distil_folder

teacher, out, parallel, precision, *more = sys.argv[1:]
steps, iterations = (*map(int, more), *(1, 2)[len(more):])
options = DistillOptions(
    guidance=strategy("long", 3),
    iterations=iterations,
    batch=4,
    learning_rate=1e-6,
    parallel=parallel,
    precision=precision,
    steps=steps,
)
distil_folder(Path(teacher), ["red apple", "pizza"], Path(out), options)
"""

BY_THE_CLOCK = """
import sys, time
from pathlib import Path
import torch
from safetensors.torch import save_file
from distill.architectures import SCHEDULE
from distill.processes import current
from distill.teacher import (
    CaptionedLatents, TeacherOptions, new_text_encoder, new_unet, train_teacher
)
from sidestep.schedule import NoiseSchedule

out, rank = Path(sys.argv[1]), current().rank
if rank == 1:  # a clock that runs a hundred times as fast
    slow = time.monotonic
    time.monotonic = lambda: 100 * slow()
options = TeacherOptions(
    channels=(16, 32), text_width=16, text_layers=1, steps=10**6, batch=4, seconds=2
)
torch.manual_seed(0)
text = new_text_encoder(options, vocabulary=20, length=6)
unet = new_unet(options, latent_size=4)
ids = torch.zeros(8, 2, 6, dtype=torch.long)
data = CaptionedLatents(torch.randn(8, 4, 4, 4), ids, ids[0, 0])
networks = train_teacher((text, unet), data, NoiseSchedule.from_config(SCHEDULE), options, out)
weights = {name: w.detach().contiguous() for name, w in networks[1].named_parameters()}
save_file(weights, out / f"rank-{rank}.safetensors")
"""

OVERFLOWING = """
import torch
from distill.processes import current

weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float16))
weight.grad = torch.full_like(weight, 40_000)
current().average_gradients([weight])
assert weight.grad.tolist() == [40_000, 40_000], weight.grad
"""


def test_alone_there_is_one_process_which_writes() -> None:
    processes = current()
    assert (processes.rank, processes.count, processes.writes) == (0, 1, True)
    assert processes.rows(5) == slice(0, 5)


def test_rows_are_shared_evenly_or_refused() -> None:
    rows = [Processes(rank, 4).rows(8) for rank in range(4)]
    assert [i for part in rows for i in range(8)[part]] == list(range(8))
    with pytest.raises(InvalidTraining, match="--batch 6 cannot be shared evenly by 4"):
        Processes(0, 4).rows(6)


@pytest.mark.parametrize(("gpu", "backend"), [(False, "gloo"), (True, "cpu:gloo,cuda:nccl")])
def test_processes_on_gpus_agree_over_cpu_tensors(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, backend: str
) -> None:
    joined: list[object] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", joined.append)
    monkeypatch.setattr(dist, "init_process_group", lambda *given, **more: joined.extend(given))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl" if gpu else "gloo")
    monkeypatch.setattr(dist, "all_reduce", lambda values: joined.append(values.device.type))
    assert current().any(True)
    assert joined == [*([1] if gpu else []), backend, "cpu"]


def test_everyones_threads_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with Processes(0, 2).everyones_threads():
        assert torch.get_num_threads() == 2 * before
    assert torch.get_num_threads() == before


def start(tmp_path: Path, out: str, torchrun: list[str], *arguments: str) -> subprocess.Popen[str]:
    (tmp_path / "train.py").write_text(SCRIPT)
    return subprocess.Popen(
        [
            *(sys.executable, *(["-m", "torch.distributed.run", *torchrun] if torchrun else [])),
            *(str(tmp_path / "train.py"), str(tmp_path / "teacher"), str(tmp_path / out)),
            *arguments,
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(tmp_path: Path, out: str, processes: int, *arguments: str) -> dict[str, torch.Tensor]:
    torchrun = ["--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    done = start(tmp_path, out, torchrun, *arguments)
    told = done.communicate()[1]
    assert done.returncode == 0, told
    return load_file(max((tmp_path / out).glob("state-*.safetensors")))


# Of three steps the two updates run 2 and 3, and then 2 and 2 (`draw_k`).
@pytest.mark.parametrize(
    ("parallel", "steps"),
    [("ddp", "1"), pytest.param("fsdp", "1", marks=pytest.mark.slow), ("fsdp", "3")],
)
def test_two_processes_end_where_one_ends(
    tiny_teacher: Teacher, tmp_path: Path, parallel: str, steps: str
) -> None:
    unet = copy.deepcopy(tiny_teacher.unet)
    with torch.no_grad():  # no bias at 0, of which an Adam step would be a large part
        for weight in unet.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    write_teacher(tmp_path / "teacher", replace(tiny_teacher, unet=unet))
    one = run(tmp_path, "one", 1, parallel, "fp32", steps)
    two = run(tmp_path, "two", 2, parallel, "fp32", steps)
    assert one.keys() == two.keys()
    for key, value in one.items():
        # The weights tell whether the updates are the same (the floor is one rounded step), the
        # second moments whether the gradients are: averaged, not added, of the same rows.
        distance = torch.linalg.vector_norm((value - two[key]).float())
        most, floor = (1e-5, 1e-6) if key.startswith("module/") else (1e-3, 0.0)
        assert distance <= most * torch.linalg.vector_norm(value.float()) + floor, key


def run_two(tmp_path: Path, script: str) -> None:
    (tmp_path / "train.py").write_text(script)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(tmp_path / "train.py"), str(tmp_path)),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_a_mean_of_fp16_gradients_does_not_overflow_as_their_sum_does(tmp_path: Path) -> None:
    run_two(tmp_path, OVERFLOWING)


def test_the_first_clock_ends_the_training_of_two_processes(tmp_path: Path) -> None:
    run_two(tmp_path, BY_THE_CLOCK)
    first, second = (load_file(tmp_path / f"rank-{rank}.safetensors") for rank in range(2))
    assert last_step(tmp_path) > 2
    for name, weight in first.items():  # and so the rates were the same, too
        assert torch.equal(weight, second[name]), name


@pytest.mark.slow
def test_two_nodes_end_where_one_process_ends(
    tiny_teacher: Teacher, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    torchrun = ["--nnodes", "2", "--nproc-per-node", "1", *meeting, "--local-addr", "127.0.0.1"]
    nodes = [start(tmp_path, "two", torchrun, "ddp", "fp32") for _ in range(2)]
    told = [node.communicate()[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    two = load_file(tmp_path / "two" / "state-000002.safetensors")
    one = run(tmp_path, "one", 1, "ddp", "fp32")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-6)


def test_a_run_goes_on_with_another_number_of_processes(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    first = run(tmp_path, "out", 2, "fsdp", "fp16")
    again = run(tmp_path, "out", 1, "ddp", "fp16", "1", "3")
    for key in ("optimizer/theta/0/step", "scaler/theta/_growth_tracker"):
        assert again[key] == first[key] + 1


def test_passes_share_a_process_rows_evenly() -> None:
    assert Processes(1, 2).passes(8, 2) == [range(4, 6), range(6, 8)]
    assert Processes(1, 2).passes(8, 0) == [range(4, 8)]
    with pytest.raises(InvalidTraining, match="choose --batch a multiple of 6"):
        Processes(0, 2).passes(8, 3)


def test_a_device_that_is_not_there_is_named() -> None:
    assert training_device("cpu").type == "cpu"
    with pytest.raises(InvalidTraining, match="--device tpu is unknown; choose cpu or cuda"):
        training_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidTraining, match="finds no CUDA device; choose --device cpu"):
            training_device("cuda")


def test_more_processes_than_gpus_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert training_device("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InvalidTraining, match="process 3 of this machine has no GPU: there are 2"):
        training_device("cuda")
