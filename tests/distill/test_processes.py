"""Two processes train what one trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.folders import Teacher, write_teacher
from distill.processes import Processes, current
from sidestep.errors import InvalidTraining

SCRIPT = """
import sys
from pathlib import Path
from distill.sid_lsg import DistillOptions
from distill.student import distil_folder

teacher, prompts, out = map(Path, sys.argv[1:])
options = DistillOptions(iterations=2, batch=4, learning_rate=1e-3, autocast=False)
distil_folder(teacher, prompts, out, options)
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


def test_two_processes_end_where_one_ends(tiny_teacher: Teacher, tmp_path: Path) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    (tmp_path / "prompts.txt").write_text("red apple\npizza\n")
    (tmp_path / "train.py").write_text(SCRIPT)
    arguments = [str(tmp_path / name) for name in ("train.py", "teacher", "prompts.txt")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("one", []), ("two", torchrun)):
        command = [sys.executable, *launcher, *arguments, str(tmp_path / name)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        if key.startswith("module/"):
            distance = torch.linalg.vector_norm((value - two[key]).float())
            assert distance <= 1e-4 * torch.linalg.vector_norm(value.float()) + 1e-6, key
