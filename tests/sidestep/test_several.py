"""Several devices as one, with fake engines."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serve.batcher import Batcher
from serve.device import Device
from serve.loading import load_generators
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.engines.several import SeveralDevices
from sidestep.errors import EngineMismatch, InvalidRequest, NoGpu
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise

IDS = np.zeros((2, 24), np.int64)


def noise(*seeds: int) -> np.ndarray:  # type: ignore[type-arg]
    return latent_noise(list(seeds), (4, 16, 16))


def test_calls_that_overlap_run_on_different_devices() -> None:
    together = threading.Barrier(3, timeout=60)
    selected: dict[int, int] = {}

    def meet(_: object) -> None:
        together.wait()

    engines = [FakeEngine(before=meet) for _ in range(3)]

    def select(number: int) -> None:
        selected[threading.get_ident()] = number

    several = SeveralDevices(list(enumerate(engines)), select)
    assert several.spec.workers == 3
    with ThreadPoolExecutor(3) as pool:
        for _ in range(4):
            drawn = list(pool.map(lambda _: several(IDS, noise(1, 2)), range(3)))
            assert sorted(selected.values()) == [0, 1, 2]
            assert all((one == drawn[0]).all() for one in drawn)
    assert [engine.batches for engine in engines] == [[2] * 4] * 3


def test_a_call_that_fails_gives_its_device_back() -> None:
    fails = True

    def before(_: object) -> None:
        if fails:
            raise RuntimeError("a fault")

    several = SeveralDevices([(0, FakeEngine(before=before))], lambda _: None)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="a fault"):
            several(IDS, noise(1, 2))
    fails = False
    assert several(IDS, noise(1, 2)).shape == (2, 32, 32, 3)


def test_engines_of_different_kinds_are_refused() -> None:
    with pytest.raises(EngineMismatch, match="device 1"):
        SeveralDevices([(0, FakeEngine()), (1, FakeEngine(buckets=(1, 2)))])


def test_every_device_is_warmed_up_for_every_bucket_and_has_a_thread() -> None:
    engines = [FakeEngine(delay_s=0.002 * n) for n in range(3)]
    several = SeveralDevices(list(enumerate(engines)), lambda _: None)
    batcher = Batcher(Device(several, lambda: several), queue_limit=16)
    batcher.start()
    batcher.stop()
    assert len(batcher._threads) == 3
    for engine in engines:
        assert set(Counter(engine.batches)) == {1, 2, 4, 8}


def test_the_service_opens_a_model_on_each_device(tiny_model: ModelFolder) -> None:
    settings = Settings(model=(str(tiny_model.path),), engine="fake", devices=("0", "2"))
    (generator,) = load_generators(settings)
    assert generator.engine.spec.workers == 2
    assert generator.again().engine.spec.workers == 2
    alone = load_generators(Settings(model=settings.model, engine="fake"))[0]
    assert generator("red apple", seed=7).data == alone("red apple", seed=7).data


@pytest.mark.parametrize("devices", [("0", "a"), ("1", "1"), ("-1",), ("\u0663",)])
def test_devices_are_numbers(tiny_model: ModelFolder, devices: tuple[str, ...]) -> None:
    settings = Settings(model=(str(tiny_model.path),), engine="fake", devices=devices)
    with pytest.raises(InvalidRequest, match="numbers of GPUs"):
        load_generators(settings)


def test_a_cpu_is_no_device(tiny_model: ModelFolder) -> None:
    settings = Settings(model=(str(tiny_model.path),), engine="onnx", devices=("0",))
    # Without a GPU it is CUDA that says so.
    with pytest.raises((InvalidRequest, NoGpu), match=r"onnx-cpu runs on none|cudaSetDevice"):
        load_generators(settings)
