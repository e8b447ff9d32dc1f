"""What machine this is, and the versions of what Loads stands on."""

from __future__ import annotations

import os
import platform
import ssl
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from .clients import versions as of_clients


def machine() -> dict[str, str]:
    """Processor, memory, system."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor_model(Path("/proc/cpuinfo").read_text()),
        "cores": str(os.cpu_count()),
        "memory": f"{pages * size / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
    }


def processor_model(text: str) -> str:
    """From the text of ``/proc/cpuinfo``."""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return models[0] if models else platform.machine()


def versions() -> Mapping[str, str]:
    """By name."""
    ours = {"loads": version("loads-cluster"), "python": platform.python_version(), "gevent": version("gevent")}
    return {**ours, "python's OpenSSL": ssl.OPENSSL_VERSION, **of_clients()}
