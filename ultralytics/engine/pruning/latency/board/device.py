# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which machine this is: what times depend on besides the runtime. Imports nothing but Python."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

CPUINFO = "/proc/cpuinfo"
PARTS = ("CPU implementer", "CPU part", "cpu family", "model", "stepping")  # lines of /proc/cpuinfo that name a design
BOARD_NAMES = ("/proc/device-tree/model", "/sys/devices/virtual/dmi/id/product_name")
CLOCKS = "/sys/devices/system/cpu/cpu0/cpufreq/"


def describe_device(root: str = "") -> dict[str, str | int]:
    """Return what is known of this machine.

    Args:
        root (str): Folder in front of /proc and /sys, for tests.

    Returns:
        (dict[str, str | int]): 'name' (of the board or CPU), 'board', 'cpu', 'part' (implementer and part of the CPU,
            or family, model and stepping), 'cores', 'clock_mhz' (highest, 0 if unknown), 'governor', 'gpu' and
            'machine' (architecture).
    """
    info = _cpuinfo(root + CPUINFO)
    # Virtual machines carry the product name of their hypervisor
    board = next(
        (name for file in BOARD_NAMES[: 2 if not info.get("hypervisor") else 1] if (name := _read(root + file))), ""
    )
    cpu = info.get("model name") or info.get("Hardware") or _mac_cpu() or platform.processor() or platform.machine()
    highest = _read(f"{root}{CLOCKS}cpuinfo_max_freq")
    return {
        "name": board or cpu,
        "board": board,
        "cpu": cpu,
        "part": " ".join(f"{key.split()[-1]} {info[key]}" for key in PARTS if key in info),
        "cores": os.cpu_count() or 0,
        "clock_mhz": int(highest) // 1000 if highest.isdigit() else 0,
        "governor": _read(f"{root}{CLOCKS}scaling_governor"),
        "gpu": _gpu(),
        "machine": platform.machine(),
    }


def device_slug(device: dict[str, str | int]) -> str:
    """Return a name for files that tells machines apart whose CPUs have one brand."""
    clock = f"{device['clock_mhz']}MHz" if device["clock_mhz"] else ""
    words = (device["name"], device["part"], f"{device['cores']}cores", clock)
    return re.sub(r"[^\w.+-]+", "_", "-".join(str(word) for word in words if word))


def _cpuinfo(file: str) -> dict[str, str]:
    """Return the lines of the first processor in /proc/cpuinfo, and whether it is a virtual one."""
    found: dict[str, str] = {}
    for line in _read(file).splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    if "hypervisor" in found.get("flags", "").split():
        found["hypervisor"] = "yes"
    return found


def _read(file: str) -> str:
    """Return the text of a file of the kernel, empty where there is none."""
    path = Path(file)
    return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") if os.access(path, os.R_OK) else ""


def _command(*words: str) -> str:
    """Return the first line that a command writes, empty if the machine has no such command or it fails."""
    if not shutil.which(words[0]):
        return ""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def _gpu() -> str:
    """Return the name of the first NVIDIA GPU."""
    return _command("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def _mac_cpu() -> str:
    """Return the name of an Apple CPU."""
    return _command("sysctl", "-n", "machdep.cpu.brand_string") if platform.system() == "Darwin" else ""
