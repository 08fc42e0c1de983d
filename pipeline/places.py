"""A directory wherever pyarrow can reach: on this machine, a shared folder, or an object store by its URI.

`data/digits` and `file:///data/digits` are local; `s3://bucket/path`, `gs://...`, `abfs://...`, `hdfs://...` are not.
Options of the store are part of the URI (`s3://bucket/path?region=eu-west-1&endpoint_override=host:9000&scheme=http`);
keys come from where its own tools look for them, never from here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import OutputError, UserError, line_of

LOCK = ".lock"  # of whoever works in a folder
_LOGIN = re.compile(r"^([\w+.-]+://)[^/@?]*:[^/@?]*@")
_ATOMIC = ("s3", "gcs", "abfs")  # an object is there when its upload ends, or not at all


@dataclass(frozen=True)
class Place:
    """A directory on some filesystem.

    Args:
        filesystem: of pyarrow.
        base: the directory, as the filesystem names it.
        name: as the user typed it.

    Example:
        >>> Place.of("data/digits").local.name
        'digits'
    """

    filesystem: Any
    base: str
    name: str

    @classmethod
    def of(cls, where: str | Path | Place) -> Place:
        """A local path, or a URI.

        Raises:
            UserError: a URI that no filesystem is known for, or one with a password, which records would keep.
        """
        import pyarrow.fs as fs

        if isinstance(where, Place):
            return where
        text = os.fspath(where)
        if "://" not in text:
            return cls(fs.LocalFileSystem(), str(Path(text)), text)
        if (bare := _LOGIN.sub(r"\1", text)) != text:
            remedy = "Put them where the store's own tools look for them, such as AWS_ACCESS_KEY_ID."
            raise UserError(f"'{bare}' must be given without its keys, which every run would keep. {remedy}")
        try:
            filesystem, base = fs.FileSystem.from_uri(text)
        except (ValueError, OSError, NotImplementedError) as error:
            raise UserError(f"'{text}' must be a path or a URI that pyarrow can open. {line_of(error)[:200]}") from None
        return cls(filesystem, base, text)

    @property
    def local(self) -> Path | None:
        """The directory as a path of this machine; None if it is elsewhere."""
        return Path(self.base) if self.filesystem.type_name == "local" else None

    def __str__(self) -> str:
        return self.name

    def sizes(self, recursive: bool = False) -> dict[str, int]:
        """Bytes of the files in it by their path below it; empty if it is not there."""
        import pyarrow.fs as fs

        chosen = fs.FileSelector(self.base, allow_not_found=True, recursive=recursive)
        start = len(self.base.rstrip("/")) + 1
        infos = self.filesystem.get_file_info(chosen)
        return {info.path[start:]: info.size for info in infos if info.type == fs.FileType.File}

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with self.filesystem.open_input_stream(self._path(name)) as stream:
            return bytes(stream.read())

    @contextlib.contextmanager
    def fetched(self, name: str, folder: Path | None = None) -> Iterator[Path]:
        """The file as one of this machine: itself, or a copy that is removed afterwards.

        Args:
            name: of the file, below the directory.
            folder: where a copy may lie; None = the system's temporary directory.
        """
        if self.local is not None:
            yield self.local / name
            return
        with tempfile.NamedTemporaryFile(prefix="somgrad-", suffix=Path(name).suffix, dir=folder) as copy:
            with self.filesystem.open_input_stream(self._path(name)) as stream:
                shutil.copyfileobj(stream, copy, 8 << 20)
            copy.flush()
            yield Path(copy.name)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file: under its name stands the old content or the new one, never a part.

        In an object store an upload that breaks off on its way leaves nothing under the name.
        """
        if self.local is not None:
            self.local.mkdir(parents=True, exist_ok=True)
            write_atomically(self.local / name, content)
            return
        path = self._path(name)
        atomic = self.filesystem.type_name in _ATOMIC
        part = path if atomic else self._path(f".{name}.{uuid.uuid4().hex[:12]}.part")
        begun = False
        try:
            if not atomic:
                self.filesystem.create_dir(self.base, recursive=True)
            with self.filesystem.open_output_stream(part) as stream:
                begun = True
                stream.write(content)
            if not atomic:
                self.filesystem.move(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                if begun:  # what failed may have been closed as if it were whole; before, the old content stands there
                    self.filesystem.delete_file(part)
            raise

    def delete(self, name: str) -> None:
        """Removes a file; one that is not there is no matter."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.base.rstrip('/')}/{name}"


def absolute(where: str | Path) -> str:
    """The same place for a process with another working directory."""
    return str(where) if "://" in str(where) else str(Path(where).absolute())


def refuse_in_data_set(out: Path) -> None:
    """A directory for results must not lie in a prepared data set: whoever replaces that would delete it.

    Raises:
        OutputError: it is a prepared data set, or lies in one.
    """
    resolved = Path(os.path.realpath(out))
    for place in (resolved, *resolved.parents):
        if is_data_set(place):
            what = "is a prepared data set" if place == resolved else f"lies in the prepared data set '{place}'"
            raise OutputError(
                f"--out must be a directory outside of data sets. Got '{out}', which {what}. Give another."
            )


def check_writable(out: Path, what: str = "a directory") -> None:
    """Finds out before the work, not after it; makes nothing, for the settings may still be wrong.

    Args:
        out: as the user typed it.
        what: it is to be: "a directory", or "a file" in one.

    Raises:
        OutputError: nothing can be written there.
    """
    try:
        folders = out.parents if what == "a file" else (out, *out.parents)
        there = next(place for place in folders if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OutputError(
            f"--out must be {what} that can be written. Got '{out}': {error.strerror or error}."
        ) from None


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """A full disk is met while writing, and says no name: it gets this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        raise


def is_data_set(place: Path) -> bool:
    """Whether a manifest of ours is there; other programs have files of that name too.

    Args:
        place: a directory of this machine, or what is none.
    """
    try:
        content = json.loads((place / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"format", "splits"} <= set(content)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside the place, syncs, renames: `path` holds its old content or the new one, never a part."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if error.filename is None:  # a full disk is met while writing, and says no name
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    with contextlib.suppress(OSError):  # some filesystems cannot sync a directory
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, wait_s: float | None = None, busy: Exception | None = None) -> Iterator[bool]:
    """One process at a time; False on a filesystem without locks, where nobody can know.

    Args:
        path: of the lock's file, which is made, and stays.
        wait_s: how long to wait for another process; None = as long as it takes.
        busy: raised where that one holds it still.
    """
    with open(path, "ab") as file:  # whatever stands there, a link of somebody's too, keeps its content
        yield _lock(file, wait_s, busy)


def _lock(file: IO[bytes], wait_s: float | None, busy: Exception | None) -> bool:
    until = time.monotonic() + (wait_s or 0.0)
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait_s is None else fcntl.LOCK_NB))
            return True
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise (busy or error) from None
            time.sleep(0.1)
        except OSError:
            return False


@contextlib.contextmanager
def alone_in(folder: Path, what: str) -> Iterator[None]:
    """Holds the folder of a command, which is made if it is not there; one that leaves nothing leaves no folder.

    Args:
        folder: as the user typed it.
        what: works there, such as "a sweep".

    Raises:
        OutputError: another process works there, or nothing can be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    busy = OutputError(f"'{folder}' is in use by {what} that is running. Wait for its end, or give another --out.")
    with locked(folder / LOCK, 0.0, busy):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a folder that somebody else uses by now stays
                if made and [place.name for place in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                    for place in made:
                        place.rmdir()


def private_folder(path: Path) -> Path:
    """A folder below the system's temporary directory that nobody else could have put there or writes to.

    Raises:
        PermissionError: it belongs to somebody else, or all may write to it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & stat.S_IWOTH:
        raise PermissionError(errno.EACCES, "It must be a folder of your own", str(path))
    return path
