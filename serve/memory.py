"""How much memory the GPUs have and use, as their driver tells; nothing where there is none."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

NVML = "libnvidia-ml.so.1"


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class DeviceMemory(Collector):
    """`sidestep_device_memory_bytes{device,kind}`, read when it is asked for.

    device: the driver's number, which CUDA_VISIBLE_DEVICES does not change; kind: used or total
    """

    def __init__(self) -> None:
        """Find the driver's library, if there is one."""
        try:
            self._nvml: ctypes.CDLL | None = ctypes.CDLL(NVML)
        except OSError:
            self._nvml = None
        if self._nvml is not None and self._nvml.nvmlInit_v2() != 0:
            self._nvml = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read all GPUs."""
        told = ("sidestep_device_memory_bytes", "Memory of a GPU, by all processes.")
        family = GaugeMetricFamily(*told, labels=["device", "kind"])
        for device, memory in enumerate(self._memories()):
            family.add_metric([str(device), "used"], memory.used)
            family.add_metric([str(device), "total"], memory.total)
        yield family

    def _memories(self) -> Iterator[_Memory]:
        nvml, count = self._nvml, ctypes.c_uint(0)
        if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return
        for number in range(count.value):
            handle, memory = ctypes.c_void_p(), _Memory()
            if nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)) != 0:
                continue
            if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0:
                yield memory
