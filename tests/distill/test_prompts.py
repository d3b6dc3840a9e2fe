"""Prompts from every kind of file, and every kind of file that holds none."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from distill.prompts import LONGEST, TrainingPrompts, read_prompts
from sidestep.errors import BackendUnavailable, InvalidTraining

TEXT = "red apple\n\n  blue heart \r\nred apple\ncafé au lait"
PROMPTS = ["red apple", "blue heart", "café au lait"]


def tar(path: Path, members: dict[str, str | bytes], links: tuple[str, ...] = ()) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(info)
    return path


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def text(folder: Path) -> Path:
    return write(folder / "prompts.txt", TEXT)


def text_with_bom(folder: Path) -> Path:
    return write(folder / "PROMPTS", b"\xef\xbb\xbf" + TEXT.encode())


def packed_text(folder: Path) -> Path:
    return write(folder / "prompts.txt.gz", gzip.compress(TEXT.encode()))


def archive(folder: Path) -> Path:
    members: dict[str, str | bytes] = {
        "./aesthetics_6_plus.txt": "red apple\nblue heart\n",
        "./._aesthetics_6_plus.txt": b"\0\5\26\7 what macOS adds",
        "./preview.png": b"\x89PNG",
        "./more/aesthetics_65_plus.txt": "red apple\ncafé au lait\n",
    }
    return tar(folder / "aesthetics.tar", members, links=("./link.txt",))


def packed_archive(folder: Path) -> Path:
    return write(folder / "prompts.tar.gz", gzip.compress(archive(folder).read_bytes()))


def table(folder: Path) -> Path:
    rows = 'url,TEXT\na,red apple\nb,"blue\nheart"\n\nc,red  apple\nd,café au lait\ne,\n'
    return write(folder / "prompts.csv", rows)


@pytest.mark.parametrize("make", [text, text_with_bom, packed_text, archive, packed_archive, table])
def test_every_kind_of_file_gives_the_same_prompts(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    read = read_prompts(make(tmp_path))
    assert read == TrainingPrompts(PROMPTS, duplicates=1, excluded=0)


def test_an_archive_is_not_extracted(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"../outside.txt": "red apple", "inside.txt": "blue heart"})
    assert read_prompts(path).texts == ["red apple", "blue heart"]
    assert list(tmp_path.iterdir()) == [path]
    assert not (tmp_path.parent / "outside.txt").exists()


def test_a_column_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "caption,title\nred apple,blue heart\n")
    assert read_prompts(path).texts == ["red apple"]
    assert read_prompts(path, column="title").texts == ["blue heart"]
    with pytest.raises(InvalidTraining, match="one column called name, and has: caption, title"):
        read_prompts(path, column="name")


@pytest.mark.parametrize("header", ["url,alt", "text,caption"])
def test_no_or_two_columns_of_prompts_ask_for_a_choice(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "a.csv", header + "\nred apple,blue heart\n")
    with pytest.raises(InvalidTraining, match="choose with --prompts-column"):
        read_prompts(path)


def test_captions_are_excluded_whatever_their_case_and_spaces(tmp_path: Path) -> None:
    path = write(tmp_path / "prompts.txt", "A  man on a HORSE\nred apple\na man\nRed apple\n")
    exclude = write(tmp_path / "coco.txt", "a man on a horse\n a  Man \n")
    read = read_prompts(path, exclude=exclude)
    assert read == TrainingPrompts(["red apple", "Red apple"], duplicates=0, excluded=2)
    assert str(read) == "2 prompts; dropped 0 duplicates and 2 excluded ones"


def test_excluding_everything_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "prompts.txt", "red apple\n")
    with pytest.raises(InvalidTraining, match=r"leaves nothing of --prompts .*prompts\.txt"):
        read_prompts(path, exclude=write(tmp_path / "exclude.txt", "Red Apple"))


def test_a_file_of_captions_to_exclude_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(InvalidTraining, match=r"^--exclude .*nowhere\.txt cannot be read"):
        read_prompts(text(tmp_path), exclude=tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a\.txt has no prompts; write one per line"),
        ("a.txt", b"\n \n", r"a\.txt has no prompts"),
        ("a.txt", b"red apple\ncaf\xe9\n", r"a\.txt is not UTF-8 text \(line 2: "),
        ("a.txt", b"\xff\xfer\0e\0d\0", r"a\.txt is binary, not text \(line 1 has a zero byte\)"),
        ("a.txt", b"red\n" + b"x" * 1_000_000, r"a\.txt line 2 has more than 10,000 characters"),
        ("a.txt", b"x" * (LONGEST + 1) + b"\n", r"a\.txt line 1 has more than 10,000 characters"),
        ("a.txt.gz", b"red apple", r"a\.txt\.gz cannot be read \(Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"red apple\n" * 99, mtime=0)[:20], r"a\.txt\.gz cannot be read"),
        ("a.tar", b"", r"a\.tar cannot be read"),
        ("a.tar", b"red apple\n" * 100, r"a\.tar cannot be read"),
        ("a.csv", b"", r"a\.csv must have one column .* and has: none"),
        ("a.csv", b"text\n", r"a\.csv has no prompts"),
        ("a.csv", b"a,text\n1,b\nc\n", r"a\.csv line 3 has 1 columns, not 2"),
        ("a.csv", b'text\n"red apple\n', r"a\.csv line 2 is not CSV"),
        ("a.csv", b"text\n" + b"x" * 10_001, r"a\.csv line 2 has more than 10,000 characters"),
        ("a.csv", b"text\n" + b"x" * 200_000, r"a\.csv line 2 is not CSV \(field larger"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(InvalidTraining, match=message) as raised:
        read_prompts(write(tmp_path / name, content))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("--prompts ")


def test_the_longest_line_is_accepted(tmp_path: Path) -> None:
    line = "é" * LONGEST
    assert read_prompts(write(tmp_path / "a.txt", line + "\r\nred apple")).texts[0] == line


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTraining, match="cannot be read"):
        read_prompts(tmp_path)


def test_an_archives_member_is_named(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"one.txt": "red apple\n", "two.txt": b"red\n\0"})
    with pytest.raises(InvalidTraining, match=r"a\.tar:two\.txt is binary, not text \(line 2"):
        read_prompts(path)
    with pytest.raises(InvalidTraining, match=r"b\.tar has no \.txt files"):
        read_prompts(tar(tmp_path / "b.tar", {"a.png": b"\x89PNG"}))


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"one.txt": "red apple\n" * 10_000})
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(InvalidTraining, match=r"a\.tar cannot be read"):
        read_prompts(path)


def test_a_missing_pyarrow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BackendUnavailable, match=r"run: pip install pyarrow$"):
        read_prompts(write(tmp_path / "a.parquet", b"PAR1"))


if find_spec("pyarrow"):  # no lock has it: a skip would be a missing tool

    def test_parquet_gives_the_same_prompts(tmp_path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        texts = ["red apple", None, " blue  heart", "red apple", "", "café au lait"]
        path = tmp_path / "a.parquet"
        parquet.write_table(pyarrow.table({"URL": list(range(6)), "TEXT": texts}), path)
        assert read_prompts(path) == TrainingPrompts(PROMPTS, duplicates=1, excluded=0)
        with pytest.raises(InvalidTraining, match="line 1 holds 0, not a text"):
            read_prompts(path, column="URL")
        with pytest.raises(InvalidTraining, match=r"b\.parquet is not Parquet"):
            read_prompts(write(tmp_path / "b.parquet", b"red apple\n"))
        long = pyarrow.table({"text": ["a", "b" * (LONGEST + 1)]})
        parquet.write_table(long, tmp_path / "c.parquet")
        with pytest.raises(InvalidTraining, match="line 2 has more than 10,000 characters"):
            read_prompts(tmp_path / "c.parquet")
