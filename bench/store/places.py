"""The two kinds of place that hold files: a folder, and an object store by its fsspec URL."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from bench.errors import BenchError

COMPACTED = re.compile(r"compact-[0-9a-f]+\.parquet")
"""What a file of many records is named, see `bench.store.compacted`."""

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")
"""What may name a record and its file."""


class Place(Protocol):
    """Files by their name under one location; the name "" is the location itself, where it is a file.

    Names are parted by `/`. Every failure is an OSError.
    """

    def exists(self) -> bool: ...

    def names(self) -> Iterator[str]:
        """Names of `.json` and compacted files in order, hidden ones left out; none where nothing is there."""

    def top_names(self) -> list[str]:
        """Those of `names` that lie in no folder below the location."""

    def read(self, name: str) -> bytes: ...

    def open(self, name: str) -> BinaryIO:
        """Open a file to be read here and there."""

    def write_new(self, name: str, content: bytes) -> str:
        """Write a file whole or not at all; return its path. FileExistsError where it is there."""

    def remove(self, name: str) -> None: ...

    def try_writing(self) -> None:
        """OSError unless a file can be written here."""

    def shown(self, name: str) -> str:
        """The path as a user would type it."""


def place_for(location: str) -> Place:
    """Return the place that a folder's path or a URL names; BenchError for a URL nobody can open."""
    if location.startswith("file://"):
        return Folder(location.removeprefix("file://"))
    return ObjectStore(location) if "://" in location else Folder(location)


def is_compacted(path: str) -> bool:
    """Whether a file of this path holds many records; one that a user names may have any name."""
    return path.endswith(".parquet")


def _is_record_file(file: str) -> bool:
    return not file.startswith(".") and (file.endswith(".json") or COMPACTED.fullmatch(file) is not None)


class Folder:
    """A folder on a file system."""

    def __init__(self, root: str) -> None:
        self.root = os.path.expanduser(root)

    def exists(self) -> bool:
        return os.path.exists(self.root)

    def names(self) -> Iterator[str]:
        if os.path.isdir(self.root):
            yield from self._below("")
        elif os.path.isfile(self.root):
            yield ""

    def _below(self, folder: str) -> Iterator[str]:
        """Names under a folder, its own files first. Links to folders are not followed.

        A folder that cannot be listed is named itself, so that `read` says why.
        """
        files, folders = [], []
        try:
            with os.scandir(self.shown(folder)) as entries:
                for entry in entries:
                    if not entry.is_dir():
                        files += [entry.name] if _is_record_file(entry.name) else []
                    elif not entry.name.startswith(".") and not entry.is_symlink():
                        folders.append(entry.name)
        except OSError:
            yield folder
        inside = f"{folder}/" if folder else ""
        for file in sorted(files):
            yield inside + file
        for below in sorted(folders):
            yield from self._below(inside + below)

    def top_names(self) -> list[str]:
        if os.path.isfile(self.root):
            return [""]
        found = os.listdir(self.root) if os.path.isdir(self.root) else []
        return sorted(file for file in found if _is_record_file(file))

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> BinaryIO:
        path = self.shown(name)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would wait for ever
        kind = os.fstat(handle).st_mode
        if not stat.S_ISREG(kind):
            os.close(handle)
            if stat.S_ISDIR(kind):
                os.listdir(path)
            raise OSError(None, "not a regular file")
        return io.FileIO(handle)

    def write_new(self, name: str, content: bytes) -> str:
        path = self.shown(name)
        folder = os.path.dirname(path)
        _make_folder(folder)
        temporary = _temporary_in(folder)
        try:
            _write_synced(temporary, content)
            _publish(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        for changed in (folder, os.path.dirname(folder), self.root):
            _sync_folder(changed)
        return path

    def remove(self, name: str) -> None:
        os.unlink(self.shown(name))

    def try_writing(self) -> None:
        _make_folder(self.root)
        temporary = _temporary_in(self.root)
        try:
            _write_synced(temporary, b"trnbench was here\n")
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def shown(self, name: str) -> str:
        return os.path.join(self.root, name) if name else self.root


class ObjectStore:
    """Whole objects under a URL, through fsspec: a reader sees an object complete or not at all."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url if url.endswith("/") else url + "/"
        try:
            found: tuple[Any, str] = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            fix = "install fsspec's package for it (s3:// needs s3fs), or use a folder."
            raise BenchError(f"{url} cannot be opened: {error}.", fix=fix) from error
        self._fs, self._root = found[0], found[1].rstrip("/")

    def exists(self) -> bool:
        with _as_oserror():
            return bool(self._fs.exists(self._root))

    def names(self) -> Iterator[str]:
        with _as_oserror():
            self._fs.invalidate_cache()  # another process may have written since the last listing
            paths = self._fs.find(self._root) if self._fs.exists(self._root) else []
        for path in sorted(paths):
            name = path[len(self._root):].lstrip("/")
            *folders, file = name.split("/")
            hidden = any(folder.startswith(".") for folder in folders)
            if not name or (_is_record_file(file) and not hidden):
                yield name

    def top_names(self) -> list[str]:
        with _as_oserror():
            self._fs.invalidate_cache()
            paths = self._fs.ls(self._root, detail=False) if self._fs.exists(self._root) else []
        names = [path.rstrip("/")[len(self._root):].lstrip("/") for path in paths]
        return sorted(name for name in names if not name or _is_record_file(name))

    def read(self, name: str) -> bytes:
        with _as_oserror():
            content: bytes = self._fs.cat_file(self._path(name))
        return content

    def open(self, name: str) -> BinaryIO:
        with _as_oserror():
            file: BinaryIO = self._fs.open(self._path(name), "rb")
        return file

    def remove(self, name: str) -> None:
        with _as_oserror():
            self._fs.rm_file(self._path(name))

    def write_new(self, name: str, content: bytes) -> str:
        path = self._path(name)
        with _as_oserror():
            if self._fs.exists(path):
                raise FileExistsError(path)
            self._fs.pipe_file(path, content)
        return self.shown(name)

    def try_writing(self) -> None:
        path = self._path(".trnbench-was-here")
        with _as_oserror():
            self._fs.pipe_file(path, b"trnbench was here\n")
            self._fs.rm_file(path)

    def shown(self, name: str) -> str:
        return self.url + name if name else self.url.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


@contextlib.contextmanager
def _as_oserror() -> Iterator[None]:
    """Any failure inside as an OSError: each cloud's library raises errors of its own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(None, f"{type(error).__name__}: {error}") from error


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError as error:  # to a caller, that would mean that the record is there
        raise NotADirectoryError(None, f"{error.filename} is a file, not a folder") from error


def _temporary_in(folder: str) -> str:
    """A fresh name that no reader takes for a record."""
    return os.path.join(folder, f".writing-{os.urandom(8).hex()}.tmp")


def _write_synced(path: str, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _publish(temporary: str, path: str) -> None:
    """Give a finished file its name. A link refuses a name that is taken; a rename overwrites."""
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
