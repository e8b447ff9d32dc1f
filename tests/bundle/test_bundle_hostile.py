"""Archives that nobody packed: each is refused by name, and whatever is in one, nothing is written elsewhere."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue import bundle
from loads_queue.bundle import BundleError, Member, pack, unpack
from tests.bundle.archives import entry, read, tar, write


def forged(*names: str) -> bytes:
    """Empty files with headers as ``pack`` writes them, whatever their names and order."""
    return b"".join(bundle._header(Member(name, 0, False)) for name in names) + bytes(1024)


def honest(name: str = "a", size: int = 3, of: int = 3) -> bytes:
    """One file whose header says ``size``, and that has ``of`` bytes."""
    return bundle._header(Member(name, size, False)) + b"x" * of + bytes(-of % 512) + bytes(1024)


def pax(text: str) -> bytes:
    """A file with a pax header of that text."""
    record = text.encode()
    return bundle._ustar(b"././@PaxHeader", len(record), False, b"x") + record + bytes(-len(record) % 512) + honest()


def with_global_header() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "/etc/passwd"}) as archive:
        archive.addfile(entry("a"))
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../a", b"")
    return out.getvalue()


HOSTILE = {
    "absolute": (forged("/etc/cron.d/x"), "'/etc/cron.d/x' is an absolute name"),
    "parent": (forged("../x"), "'../x' leads out of the folder"),
    "parent inside": (forged("a/../../x"), "'a/../../x' leads out of the folder"),
    "parent at the end": (forged("a/.."), "'a/..' leads out of the folder"),
    "parent in a pax header": (forged("../" + "x" * 120), "'../x+' leads out"),
    "a dot": (forged("./x"), "'./x' is not a plain name"),
    "an empty part": (forged("a//x"), "'a//x' is not a plain name"),
    "a folder by its slash": (forged("a/"), "'a/' is not a plain name"),
    "backslash": (forged("..\\x"), r"is not a plain name"),
    "no name": (forged(""), "'' is no name"),
    "escape codes": (forged("\x1b[2J"), r"'\\x1b\[2J' has letters in its name that can't be shown"),
    "not UTF-8": (tar([entry("\udcff")]), r"can't be shown"),
    "symbolic link": (tar([entry("a", tarfile.SYMTYPE, "/etc")]), "'a' is a symbolic link: a bundle has files only"),
    "hard link": (tar([entry("a"), entry("b", tarfile.LNKTYPE, "a")]), "header of 'a'"),
    "hard link alone": (tar([entry("b", tarfile.LNKTYPE, "/etc/passwd")]), "'b' is a hard link"),
    "pipe": (tar([entry("a", tarfile.FIFOTYPE)]), "'a' is a named pipe"),
    "character device": (tar([entry("a", tarfile.CHRTYPE)]), "'a' is a device"),
    "block device": (tar([entry("a", tarfile.BLKTYPE)]), "'a' is a device"),
    "folder": (tar([entry("a", tarfile.DIRTYPE)]), "'a/?' is a folder"),
    "unknown kind": (tar([entry("a", b"Z")]), "'a' is of an unknown kind"),
    "GNU tar": (tar([entry("a")], tarfile.GNU_FORMAT), "not an archive that Loads made"),
    "GNU long name": (tar([entry("x" * 200)], tarfile.GNU_FORMAT), "not an archive that Loads made"),
    "global pax header": (with_global_header(), "is of an unknown kind"),
    "pax size": (pax("18 size=99999999\n"), "the header of 'a' is not one that Loads writes"),
    "pax path twice": (pax("10 path=b\n12 path=/b\n"), "can't be shown"),
    "pax path for a short name": (pax("10 path=b\n"), "the header of 'b' is not one that Loads writes"),
    "pax header without end": (bundle._ustar(b"x", 1 << 30, False, b"x"), "pax header of 1073741824 bytes is too long"),
    "two pax headers": (pax("10 path=b\n")[:1024] * 2 + honest(), "'b' is of an unknown kind"),
    "twice": (forged("a", "a"), "'a' stands there twice"),
    "twice apart from capitals": (forged("A", "a"), "'A' and 'a' are one name on some file systems"),
    "twice apart from accents": (forged("e\u0301", "é"), "are one name on some file systems"),
    "folders apart from capitals": (forged("A/x", "a/y"), "'A' and 'a' are one name on some file systems"),
    "file and folder": (forged("a", "a/b"), "'a' is a file and a folder"),
    "out of order": (forged("b", "a"), "'a' is not in its place"),
    "a tar file's own times": (tar([entry("a")]), "the header of 'a' is not one that Loads writes"),
    "setuid": (honest().replace(b"0000644", b"0004755", 1), "the header of 'a' is not one that Loads writes"),
    "bomb by its size": (honest(size=1 << 32), "'a' with its 4294967296 bytes is too much"),
    "negative size": (honest().replace(b"00000000003", b"-0000000003", 1), "'a' has a size that can't be read"),
    "size in base 256": (honest().replace(b"00000000003\0", b"\x80" + bytes(10) + b"\x03", 1), "'a' has a size"),
    "compressed": (gzip.compress(honest()), "not an archive that Loads made|ends too early"),
    "zip": (zipped(), "ends too early"),
    "empty": (b"", "it ends too early: it is not whole"),
    "no end": (honest()[:-512], "does not end where it should"),
    "cut off": (honest()[:700], "it ends too early"),
    "something behind": (honest() + b"x", "it does not end where it should"),
    "something between": (honest(of=3)[:515] + b"#" + honest()[516:], "there is something between 'a' and"),
    "text": (b"import os\n" * 200, r"not an archive that Loads made \(at byte 0\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_it_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, reason = HOSTILE[case]
    archive = tmp_path / "evil"
    archive.write_bytes(content)
    with pytest.raises(BundleError, match=rf"^bundle evil: .*({reason})"):
        unpack(archive, tmp_path / "to")
    assert [path.name for path in tmp_path.iterdir()] == ["evil"]


def test_the_forger_can_write_honestly(tmp_path: Path) -> None:
    """Else the cases above would be refused for another reason than theirs."""
    (tmp_path / "archive").write_bytes(honest())
    unpack(tmp_path / "archive", tmp_path / "to")
    assert read(tmp_path / "to") == {"a": (b"xxx", False)}
    assert honest() == pack(tmp_path / "to", ["a"])
    assert forged("a", "b/c") == pack(write(tmp_path / "from", {"a": (b"", False), "b/c": (b"", False)}), ["a", "b/c"])


PARTS = st.sampled_from(["..", ".", "", "a", "b", "A", "link", "outside", "\\", "x" * 120, "\n"])
EVIL_NAMES = st.one_of(
    st.lists(PARTS, min_size=1, max_size=4).map("/".join), st.sampled_from(["/evil-member", "../outside/evil"])
)
KINDS = st.sampled_from([b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S"])
EVIL_MEMBERS = st.builds(entry, EVIL_NAMES, KINDS, EVIL_NAMES, st.sampled_from([0, 0, 1, 600]))
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def _written(members: list[tarfile.TarInfo], form: int) -> bytes:
    try:
        return tar(members, form)
    except (ValueError, OSError):
        return tar([], form)  # Not even Python's module writes that.


HOSTILE_BYTES = st.one_of(
    st.builds(_written, st.lists(EVIL_MEMBERS, max_size=4), FORMATS),
    st.lists(EVIL_NAMES, max_size=4).map(lambda names: forged(*names)),
    st.lists(EVIL_NAMES, max_size=4).map(lambda names: forged(*sorted(set(names)))),
    st.lists(st.one_of(EVIL_NAMES.map(forged), EVIL_MEMBERS.map(lambda one: _written([one], 0)))).map(b"".join),
    st.binary(max_size=1200),
)  # fmt: skip


@given(content=HOSTILE_BYTES)
def test_nothing_is_ever_written_elsewhere(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        write(base / "outside", {"here": (b"as it was", False)})
        (base / "archive").write_bytes(content)
        before = read(base / "outside")
        try:
            unpack(base / "archive", base / "deep" / "to")
        except BundleError:
            assert not (base / "deep" / "to").exists()
        else:
            found = read(base / "deep" / "to")
            assert pack(base / "deep" / "to", found) == content
        assert not os.path.lexists("/evil-member")
        assert read(base / "outside") == before
        assert {path.name for path in base.iterdir()} <= {"outside", "archive", "deep"}
        assert {path.name for path in (base / "deep").glob("*")} <= {"to"}
