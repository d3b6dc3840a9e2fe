"""Requirements against what is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from sidestep import __version__
from sidestep.doctor.packages import check, check_extra, check_requirements, fault_of


def test_this_environment_is_as_its_metadata_wants() -> None:
    findings = {finding.subject: finding for finding in check()}
    assert findings["python"].level == "ok"
    assert findings["packages"].level == "ok"
    extras = metadata.metadata("sidestep").get_all("Provides-Extra") or []
    assert {f"[{extra}]" for extra in extras} <= set(findings)
    assert findings["[train]"].text == "complete, 6 packages"


def test_what_is_missing_or_out_of_range_is_told_with_its_mend() -> None:
    wanted = [
        "numpy>=2,<99",
        "numpy>=99",
        "surely-absent>=1,<2",
        'absent-elsewhere; os_name == "x"',
    ]
    first, second = check_requirements(wanted)
    assert {first.level, second.level} == {"problem"}
    assert first.text == f"numpy is {metadata.version('numpy')}, outside >=99"
    assert first.mend == "pip install 'numpy>=99'"
    assert second.text == "surely-absent is missing"
    assert second.mend == "pip install 'surely-absent<2,>=1'"
    (fine,) = check_requirements(wanted[:1])
    assert fine.level == "ok"


@pytest.mark.parametrize(
    ("extra", "level", "text", "mend"),
    [
        ("whole", "ok", "complete, 1 package", ""),
        ("half", "note", "surely-absent is missing", "pip install 'sidestep[half]'"),
        ("old", "note", "outside >=99", "pip install 'sidestep[old]'"),
    ],
)
def test_an_extra_is_complete_or_tells_what_brings_it(
    extra: str, level: str, text: str, mend: str
) -> None:
    found = check_extra(
        extra,
        [
            "click>=8",
            "numpy>=2; extra == 'whole'",
            "numpy>=2; extra == 'half'",
            "surely-absent; extra == 'half'",
            "numpy>=99; extra == 'old'",
        ],
    )
    assert (found.level, found.mend) == (level, mend)
    assert text in found.text


def test_an_extra_may_bring_nothing_here() -> None:
    found = check_extra("gpu", ["numpy; sys_platform == 'plan9' and extra == 'gpu'"])
    assert found.level == "note"
    assert "brings nothing" in found.text


def test_onnxruntime_gpu_stands_in_for_onnxruntime(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidestep.doctor.packages.STANDS_IN", {"absent": "absent-gpu"})
    assert fault_of(Requirement("absent>=1")) == "is missing"
    install("absent-gpu", "1.5")
    assert fault_of(Requirement("absent>=1")) == ""
    assert fault_of(Requirement("absent>=2")) == "is 1.5, outside >=2"


def test_the_metadata_of_another_version_is_told(install: Callable[..., None]) -> None:
    install("sidestep", "0.0.1", "Requires-Python: >=99", "Requires-Dist: surely-absent")
    python, version, missing = check()
    assert (python.level, version.level, missing.level) == ("problem", "note", "problem")
    assert "outside >=99" in python.text
    assert f"of sidestep 0.0.1, the code is {__version__}" in version.text
    assert missing.text == "surely-absent is missing"
