"""What is counted as a peer's own: its environment is not this one, so a stand-in draws here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.peers import Optimum

STAND_IN = """
import os, pathlib, time

class ORTStableDiffusionPipeline:
    @classmethod
    def from_pretrained(cls, folder, *, export=False, session_options=None):
        time.sleep(0.2 if export else 0)
        return cls()

    def save_pretrained(self, out):
        (pathlib.Path(out) / "pid").write_text(str(os.getpid()))

    def set_progress_bar_config(self, *, disable):
        pass
"""


def test_optimums_export_is_no_part_of_the_process_that_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optimum").mkdir()
    (tmp_path / "optimum" / "__init__.py").touch()
    (tmp_path / "optimum" / "onnxruntime.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)  # the process that exports is given the same path
    peer = Optimum(tmp_path)
    assert int((Path(peer._folder.name) / "pid").read_text()) != os.getpid()
    assert peer.build_s is not None
    assert peer.build_s > 0.2
    assert peer.pipeline is not None
