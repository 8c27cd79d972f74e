"""Where a result comes from: code, libraries, hardware, threads, time."""

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

LIBRARIES = ("torch", "torchvision", "timm", "adversarial-robustness-toolbox", "numpy", "pandas", "scipy")


@functools.cache
def code_version() -> str:
    """The last commit that changed the package, and the hash of its source, which is what a result depends on."""
    root = Path(__file__).parent.parent  # the package
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    try:
        git = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, timeout=10, check=True)
        commit = git(["git", "log", "-1", "--format=%h", "--", "."]).stdout.strip()
        commit += "-changed" if git(["git", "status", "--porcelain", "--", "."]).stdout.strip() else ""
    except (OSError, subprocess.SubprocessError):
        commit = "no-git"
    return f"{commit} source:{digest.hexdigest()[:12]}"


def provenance(device: torch.device) -> dict:
    """Code, libraries, hardware, threads; call it before a long run, since the source may change meanwhile."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {
        "code": code_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else (names or [platform.machine()])[0],
        "threads": torch.get_num_threads(),
    }
