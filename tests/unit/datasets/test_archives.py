"""Archives: unpacked whole or not at all, and nothing leaves the directory."""

import io
import tarfile
import zipfile

import pytest

from mtl.datasets.archives import is_archive, unpack
from mtl.errors import DataError


def write_zip(path, names, link=None):
    with zipfile.ZipFile(path, "w") as bundle:
        for name in names:
            bundle.writestr(name, name)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            bundle.writestr(info, "/etc/passwd")
    return path


def write_tar(path, names, link=None, hard=False):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as bundle:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            bundle.addfile(info, io.BytesIO(name.encode()))
        if link:
            info = tarfile.TarInfo(link)
            info.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
            info.linkname = "/etc/passwd"
            bundle.addfile(info)
    return path


WRITERS = {".zip": write_zip, ".tar": write_tar, ".tgz": write_tar}


@pytest.mark.parametrize("suffix", WRITERS)
def test_members_come_out(suffix, tmp_path):
    archive = WRITERS[suffix](tmp_path / f"a{suffix}", ["one.txt", "deep/er/two.txt", "./three.txt"])
    assert is_archive(archive)
    unpack(archive, tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")): p.read_text() for p in (tmp_path / "out").rglob("*.txt")}
    assert found == {"one.txt": "one.txt", "deep/er/two.txt": "deep/er/two.txt", "three.txt": "./three.txt"}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_a_path_that_leads_out_is_refused_by_name(suffix, name, tmp_path):
    archive = WRITERS[suffix](tmp_path / f"a{suffix}", ["fine.txt", name])
    with pytest.raises(DataError, match=r"a\.(zip|tar|tgz)` was not unpacked: its member `.*evil.txt` leads out"):
        unpack(archive, tmp_path / "deep" / "out")
    assert not (tmp_path / "deep" / "out").exists()
    assert not list(tmp_path.parent.glob("evil.txt")) + list(tmp_path.rglob("*evil.txt"))


@pytest.mark.parametrize("suffix", WRITERS)
def test_links_are_refused(suffix, tmp_path):
    archive = WRITERS[suffix](tmp_path / f"a{suffix}", ["fine.txt"], link="door")
    with pytest.raises(DataError, match=r"`door` is a link or a device"):
        unpack(archive, tmp_path / "out")
    if suffix != ".zip":
        archive = write_tar(tmp_path / f"b{suffix}", [], link="door", hard=True)
        with pytest.raises(DataError, match=r"`door` is a link or a device"):
            unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_truncated_archive_is_refused_and_leaves_nothing(suffix, tmp_path):
    archive = WRITERS[suffix](tmp_path / f"a{suffix}", [f"{i}{'x' * 90}.txt" for i in range(200)])
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=r"is damaged"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_was_replaced_is_unpacked_again(tmp_path):
    archive = write_zip(tmp_path / "a.zip", ["bad.txt"])
    unpack(archive, tmp_path / "out")
    (tmp_path / "out" / "bad.txt").write_text("touched")
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "bad.txt").read_text() == "touched"  # the same archive: left as it is
    archive.unlink()
    unpack(write_zip(archive, ["good, downloaded again.txt"]), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.txt")] == ["good, downloaded again.txt"]


def test_a_directory_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="out` is in the way"):
        unpack(write_zip(tmp_path / "a.zip", ["one.txt"]), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_encrypted_archive_is_refused(tmp_path):
    content = bytearray(write_zip(tmp_path / "a.zip", ["one.txt"]).read_bytes())
    content[content.find(b"PK\x03\x04") + 6] |= 1
    content[content.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip` is encrypted"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
