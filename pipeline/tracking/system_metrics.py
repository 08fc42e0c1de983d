"""What the machine of the driver is doing, under the names that MLflow shows as system metrics."""

from __future__ import annotations

import time

import psutil

_EVERY_S = 10.0
_MEGA = 1e6  # as in MLflow's own numbers of these names


class SystemMetrics:
    """Samples processor, memory, disk and network, at most every ten seconds."""

    def __init__(self) -> None:
        self._last = -_EVERY_S
        self._process = psutil.Process()
        self._began = psutil.net_io_counters()
        psutil.cpu_percent()  # the first call only begins to measure

    def sample(self) -> dict[str, float]:
        """The numbers, or nothing where the last ones are recent."""
        now = time.monotonic()
        if now - self._last < _EVERY_S:
            return {}
        self._last = now
        memory, disk, network = psutil.virtual_memory(), psutil.disk_usage("/"), psutil.net_io_counters()
        numbers = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": memory.used / _MEGA,
            "system/system_memory_usage_percentage": memory.percent,
            "system/process_memory_megabytes": self._process.memory_info().rss / _MEGA,
            "system/disk_usage_percentage": disk.percent,
        }
        if network is not None and self._began is not None:  # a machine may have none
            numbers["system/network_receive_megabytes"] = (network.bytes_recv - self._began.bytes_recv) / _MEGA
            numbers["system/network_transmit_megabytes"] = (network.bytes_sent - self._began.bytes_sent) / _MEGA
        return numbers
