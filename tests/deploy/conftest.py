"""Services as they are deployed: started outside the checkout, from copies of its files."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest

START_S = 60
# An editable install puts the checkout on every path; the service must find its own files without.
WITHOUT_THE_CHECKOUT = """
import os, sys
sys.path[:] = [place for place in sys.path if not os.path.exists(place + "/pyproject.toml")]
"""


@pytest.fixture(scope="session")
def checkout() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def helper(checkout: Path) -> Callable[[str], ModuleType]:
    """Import a module of this folder by name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, checkout / f"tests/deploy/{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look themselves up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def containerfile(helper: Callable[[str], ModuleType]) -> ModuleType:
    """The reader of Containerfiles, which `try_containerfile.py` uses too."""
    return helper("containerfile")


@pytest.fixture
def without_the_checkout(tmp_path: Path) -> Path:
    """A folder that, first on PYTHONPATH, takes the checkout out of a process's path."""
    customize = tmp_path / "customize"
    customize.mkdir()
    (customize / "sitecustomize.py").write_text(WITHOUT_THE_CHECKOUT, "utf-8")
    return customize


@pytest.fixture
def started(
    without_the_checkout: Path,
) -> Callable[..., AbstractContextManager[tuple[httpx.Client, subprocess.Popen[str]]]]:
    """Start a command in a folder, and wait until the service that it is draws."""

    @contextmanager
    def start(
        command: list[str], cwd: Path, port: int, **environment: str
    ) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
        path = os.pathsep.join([str(without_the_checkout), environment.pop("PYTHONPATH", "")])
        scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PATH": scripts, **environment, "PYTHONPATH": path.rstrip(":")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
                wait_until_ready(http, process)
                yield http, process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)

    return start


def wait_until_ready(http: httpx.Client, process: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    while process.poll() is None and time.monotonic() < began + START_S:
        try:
            if http.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"it did not start: {process.communicate()[0]}")
