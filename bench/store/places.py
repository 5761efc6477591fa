"""The two kinds of place that hold files: a folder, and an object store by its fsspec URL."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any, Protocol

from bench.errors import BenchError


class Place(Protocol):
    """Files by their name under one location. Names use `/`; failures are OSErrors."""

    def names(self) -> Iterator[str]:
        """Names ending in `.json`, hidden ones left out; none where the location is not there."""

    def exists(self) -> bool: ...

    def read(self, name: str) -> bytes: ...

    def write_new(self, name: str, content: bytes) -> str:
        """Write a file whole or not at all; return its path. FileExistsError where it is there."""

    def try_writing(self) -> None:
        """OSError unless a file can be written here."""

    def shown(self, name: str) -> str:
        """The name as a user would type it."""


def place_for(location: str) -> Place:
    """Return the place that a folder's path or a URL names."""
    if location.startswith("file://"):
        return Folder(location.removeprefix("file://"))
    return ObjectStore(location) if "://" in location else Folder(location)


class Folder:
    """A folder on a file system."""

    def __init__(self, root: str) -> None:
        self.root = os.path.expanduser(root)

    def exists(self) -> bool:
        return os.path.isdir(self.root)

    def names(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in sorted(files):
                if file.endswith(".json") and not file.startswith("."):
                    yield os.path.relpath(os.path.join(folder, file), self.root).replace(os.sep, "/")

    def read(self, name: str) -> bytes:
        path = self.shown(name)
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(None, "not a regular file")  # opening a named pipe would wait for ever
        with open(path, "rb") as file:
            return file.read()

    def write_new(self, name: str, content: bytes) -> str:
        path = self.shown(name)
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        temporary = self._write_temporary(folder, content)
        try:
            _publish(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        for changed in (folder, os.path.dirname(folder), self.root):
            _sync_folder(changed)
        return path

    def try_writing(self) -> None:
        os.makedirs(self.root, exist_ok=True)
        os.unlink(self._write_temporary(self.root, b"trnbench was here\n"))

    def shown(self, name: str) -> str:
        return os.path.join(self.root, *name.split("/"))

    def _write_temporary(self, folder: str, content: bytes) -> str:
        """Write to a hidden file that no reader takes for a record; return its path."""
        handle, path = tempfile.mkstemp(prefix=".writing-", suffix=".tmp", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 would hide records from other users
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            os.unlink(path)
            raise
        return path


class ObjectStore:
    """Whole objects under a URL, through fsspec: a reader sees an object complete or not at all."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            found: tuple[Any, str] = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise BenchError(f"{url} cannot be opened: {error}.",
                             fix="install the fsspec package for it (s3:// needs s3fs), or use a folder.") from error
        self._fs, self._root = found[0], found[1].rstrip("/")

    def exists(self) -> bool:
        return bool(self._fs.exists(self._root))

    def names(self) -> Iterator[str]:
        self._fs.invalidate_cache()  # another process may have written since the last listing
        for path in sorted(self._fs.find(self._root) if self._fs.exists(self._root) else ()):
            name = path[len(self._root):].lstrip("/")
            if name.endswith(".json") and not any(part.startswith(".") for part in name.split("/")):
                yield name

    def read(self, name: str) -> bytes:
        content: bytes = self._fs.cat_file(f"{self._root}/{name}")
        return content

    def write_new(self, name: str, content: bytes) -> str:
        path = f"{self._root}/{name}"
        if self._fs.exists(path):
            raise FileExistsError(path)
        self._fs.pipe_file(path, content)
        return self.shown(name)

    def try_writing(self) -> None:
        path = f"{self._root}/.trnbench-was-here"
        self._fs.pipe_file(path, b"")
        self._fs.rm_file(path)

    def shown(self, name: str) -> str:
        return f"{self.url}/{name}"


def _publish(temporary: str, path: str) -> None:
    """Give a finished file its name. A link refuses a name that is taken, where a rename overwrites."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.exists(path):
            raise FileExistsError(path) from None
        os.rename(temporary, path)


def _sync_folder(folder: str) -> None:
    """Make new names in a folder outlast a power cut."""
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems sync no folders; the file itself is whole
            os.fsync(handle)
    finally:
        os.close(handle)
