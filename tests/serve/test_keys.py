from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.keys import KeyRing, add_key, read_keys, revoke_key
from sidestep.cli.main import main
from sidestep.errors import InvalidRequest


def test_a_key_opens_and_its_file_does_not_tell_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "anna")
    assert len(secret) == len("sk-sidestep-") + 43, "256 bits in base64"
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = KeyRing(path).find(secret)
    assert found is not None
    assert (found.name, found.admin) == ("anna", False)
    for wrong in (secret[:-1], secret + "a", "", "\udcff", found.sha256):
        assert KeyRing(path).find(wrong) is None


def test_a_ring_sees_changes_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    anna = add_key(path, "anna")
    ring = KeyRing(path)
    bert = add_key(path, "bert", admin=True)
    assert (found := ring.find(bert)) is not None
    assert found.admin
    assert revoke_key(path, found.id).name == "bert"
    assert ring.find(bert) is None
    assert ring.find(anna) is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


ODD = '{"keys": [{"name": "anna", "sha256": "é", "created": "today"}]}'


@pytest.mark.parametrize(
    "spoil", [lambda p: p.unlink(), lambda p: p.write_text("{"), lambda p: p.write_text(ODD)]
)
def test_a_file_that_cannot_be_read_lets_nobody_in(
    tmp_path: Path, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "anna")
    ring, whole = KeyRing(path), path.read_bytes()
    spoil(path)
    assert ring.find(secret) is None
    assert "all keys are refused" in caplog.text
    with pytest.raises(InvalidRequest, match=r"keys\.json"):
        KeyRing(path)
    path.write_bytes(whole)
    assert ring.find(secret) is not None


@pytest.mark.parametrize("name", ["", "  ", "a" * 65, "a\nb"])
def test_a_name_has_bounds(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 64"):
        add_key(tmp_path / "keys.json", name)


def test_names_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "anna")
    with pytest.raises(InvalidRequest, match="'anna'"):
        add_key(path, "anna")
    with pytest.raises(InvalidRequest, match="'bert'"):
        revoke_key(path, "bert")


def test_keys_added_at_once_are_all_there(tmp_path: Path) -> None:
    path, names = tmp_path / "keys.json", {f"key {number}" for number in range(24)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add_key(path, name), names))
    assert {key.name for key in read_keys(path)} == names


def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("SIDESTEP_KEYS", str(path))
    main(["keys", "add", "anna", "--admin"])
    secret = capsys.readouterr().out.strip()
    main(["keys", "list"])
    listed = capsys.readouterr().out
    (key,) = read_keys(path)
    assert listed == f"{key.id}  {key.created}  anna (admin)\n"
    assert secret not in listed
    main(["keys", "revoke", "anna"])
    assert read_keys(path) == []
    with pytest.raises(SystemExit) as left:
        main(["keys", "revoke", "anna"])
    assert left.value.code == 2
    assert list(tmp_path.iterdir()) == [path]
