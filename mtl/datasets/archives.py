"""Unpacking of archives that nobody has to trust."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from mtl.errors import DataError

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz")
ORIGIN = ".unpacked_from"
"""File of an unpacked directory that says which archive it came from."""


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive we unpack."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a .zip, .tar or .tgz file into a directory.

    Done in `<target>.partial`, which gets its name at the end: an existing `target` is complete. It is left as it is if
    it came from this archive (name, size and time of change), and replaced if it came from another.

    Args:
        archive: The file.
        target: New directory.

    Raises:
        DataError: the archive is damaged or encrypted, has a member that is a link, a device, or leads out of the
            directory, or `target` is something else.
    """
    origin = f"{archive.name} {archive.stat().st_size} {archive.stat().st_mtime_ns}"
    if target.exists():
        marker = target / ORIGIN
        if not marker.is_file():
            raise DataError(f"`{target}` is in the way and was not unpacked by us. Remove it, or give another `out=`.")
        if marker.read_text(encoding="utf-8") == origin:
            return
        shutil.rmtree(target)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, stream in _members(archive):
            path = partial.joinpath(*_safe(archive, name).parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with stream, path.open("xb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, FileExistsError, NotImplementedError) as error:
        raise DataError(f"`{archive}` is damaged: {error}. Get it again.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"`{archive}` is damaged: {error}. Get it again.") from error  # gzip's own
    (partial / ORIGIN).write_text(origin, encoding="utf-8")
    partial.rename(target)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every regular file; the others but directories are refused."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                mode = info.external_attr >> 16
                if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _refused(archive, info.filename, "is a link or a device")
                if info.flag_bits & 1:
                    raise DataError(f"`{archive}` is encrypted. Unpack it yourself, and give the directory.")
                if not info.is_dir():
                    yield info.filename, bundle.open(info)
                else:
                    _safe(archive, info.filename)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if not (member.isfile() or member.isdir()):
                raise _refused(archive, member.name, "is a link or a device")
            if member.isfile():
                stream = tar.extractfile(member)
                assert stream is not None
                yield member.name, stream
            else:
                _safe(archive, member.name)
    if not archive.name.lower().endswith("gz"):
        _check_end(archive)


def _check_end(archive: Path) -> None:
    """A plain tar ends with blocks of zeros; cut between two members it would read as a shorter one."""
    with archive.open("rb") as stream:
        stream.seek(max(0, archive.stat().st_size - tarfile.BLOCKSIZE))
        if any(stream.read()):
            raise tarfile.ReadError("unexpected end of data")


def _safe(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    drive = bool(path.parts) and ":" in path.parts[0]
    if path.is_absolute() or ".." in path.parts or drive:
        raise _refused(archive, name, "leads out of the directory it is unpacked in")
    return path


def _refused(archive: Path, name: str, why: str) -> DataError:
    return DataError(f"`{archive}` was not unpacked: its member `{name}` {why}. Use the official archive.")
