"""Reading /proc and /sys: a file that is missing, forbidden or garbled is None, never an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def read(root: Path, path: str) -> str | None:
    """Return a file's stripped text, or None where it can't be had; `path` is relative to `root`."""
    try:
        return (root / path).read_text("utf-8", errors="replace").strip()
    except OSError:
        return None


def read_int(root: Path, path: str) -> int | None:
    """Return a file that holds one whole number, or None."""
    text = read(root, path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def fields(text: str | None) -> dict[str, str]:
    """Return `key: value` lines as a dict; lines without a colon are left out."""
    pairs = (line.partition(":") for line in (text or "").splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def kib(values: dict[str, str], key: str) -> int | None:
    """Return bytes of a `key: 1234 kB` field (the kernel's kB are KiB), or None."""
    words = values.get(key, "").split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else None


def cpu_list(text: str | None) -> set[int] | None:
    """Return the CPUs of a kernel list such as "0-3,8", or None where there is none to read."""
    cpus: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return None
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and its ancestors, for version 2 and version 1.

    A container may show the host's path but mount its own group at the top, so the top is always
    among them. Source: cgroups(7), /proc/[pid]/cgroup.
    """
    for line in (read(root, "proc/self/cgroup") or "").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        mounts = {names, controller} if names else {"", "unified"}
        inner = PurePosixPath("/") if ".." in path else PurePosixPath(path)
        for mount in sorted(mounts):
            for folder in (inner, *inner.parents):
                yield root / "sys/fs/cgroup" / mount / str(folder).lstrip("/")
