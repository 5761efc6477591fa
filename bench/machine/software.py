"""Versions of what was run, read from installed packages' metadata: none of them is imported."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import bench
from bench.machine.files import ROOT, read

PACKAGES = ("torch", "transformers", "diffusers", "peft", "numpy", "triton", "nvidia-ml-py",
            "torch-neuronx", "neuronx-cc", "torch-xla")

GIT_TIMEOUT_S = 2.0


def package_version(name: str) -> str | None:
    """Return an installed distribution's version, or None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def software() -> dict[str, str | None]:
    """Return versions of Python and of the packages that results depend on; None: not installed."""
    return {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES}


def system(root: Path = ROOT) -> dict[str, Any]:
    """Return the operating system and what stands around it; unknown is None.

    `virtualised`: True or False only where something says so. `container`: "none" where no marker
    of one was seen.
    """
    linux = platform.system() == "Linux"
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "name": _os_release(root) or platform.platform(),
        "libc": _libc(),
        "virtualised": _virtualised(root),
        "platform_vendor": read(root, "sys/class/dmi/id/sys_vendor") or None,
        "container": _container(root) if linux else None,
    }


def tool(source: Path | None = None) -> dict[str, Any]:
    """Return {"version", "commit", "dirty"} of trnbench; the last two None outside a git checkout.

    `dirty`: files of bench/ or workloads/ differ from the commit, or are new.
    """
    source = source or Path(bench.__file__).resolve().parents[1]
    version = {"version": bench.__version__, "commit": None, "dirty": None}
    if not (source / ".git").exists():
        return version
    command = ["git", "-C", str(source), "status", "--porcelain=v2", "--branch", "--", "bench", "workloads"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True,
                              env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"})
    except (OSError, subprocess.SubprocessError):  # no git, or it refuses another user's checkout
        return version
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    if commit is None or commit == "(initial)":  # a repository without a commit
        return version
    return version | {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def _os_release(root: Path) -> str | None:
    """PRETTY_NAME of /etc/os-release, e.g. "Debian GNU/Linux 12 (bookworm)"."""
    for line in (read(root, "etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'") or None
    return None


def _libc() -> str | None:
    """The C library, e.g. "glibc 2.36"; only glibc says."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):
        return None


def _virtualised(root: Path) -> bool | None:
    """x86 has a CPU flag for it; elsewhere a device tree or Amazon's product name may say so."""
    info = read(root, "proc/cpuinfo") or ""
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), None)
    if flags is not None:
        return "hypervisor" in flags
    if any((root / path).exists() for path in ("proc/device-tree/hypervisor", "sys/hypervisor/type")):
        return True
    if read(root, "sys/class/dmi/id/sys_vendor") == "Amazon EC2":
        return "metal" not in (read(root, "sys/class/dmi/id/product_name") or "")
    return None


def _container(root: Path) -> str:
    groups = (read(root, "proc/1/cgroup") or "") + (read(root, "proc/self/cgroup") or "")
    kubernetes = root / "var/run/secrets/kubernetes.io"
    hosts = read(root, "etc/hosts") or ""  # the kubelet's own, where a pod has no service account's token
    told = root == ROOT and "KUBERNETES_SERVICE_HOST" in os.environ  # every pod of a cluster has it
    signs = {"kubernetes": (told or kubernetes.exists() or "kubepods" in groups
                            or hosts.startswith("# Kubernetes-managed")),
             "podman": (root / "run/.containerenv").exists() or "libpod" in groups,
             "apptainer": (root / ".singularity.d").exists(),
             "docker": (root / ".dockerenv").exists() or "/docker" in groups,
             "lxc": "/lxc" in groups}
    return next((name for name, seen in signs.items() if seen), "none")
