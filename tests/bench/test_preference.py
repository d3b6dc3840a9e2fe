"""HPSv2 through a package with the shape of hpsv2 1.2.0, whose score is a picture's brightness."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from bench.quality.picture_files import list_pictures
from bench.quality.preference import HumanPreference, mean_preference
from sidestep.cli.evaluate_coco import command
from sidestep.errors import BackendUnavailable, InvalidData

# Its network answers with features whose cosine is brightness / 255 * words / 10.
IMG_SCORE = """
import numpy as np
import torch

device = "cpu"
model_dict = {}
loads = 0

def get_tokenizer(name):
    return lambda texts: torch.tensor([[len(text.split())] for text in texts])

def _network(pictures, words):
    image = pictures.mean(dim=(1, 2, 3))[:, None]
    return {"image_features": image, "text_features": words / 10}

def score(picture, prompt, hps_version="v2.0"):
    global loads
    loads += 1
    model_dict["model"] = _network
    model_dict["preprocess_val"] = lambda p: torch.from_numpy(np.array(p)) / 255
    pictures = model_dict["preprocess_val"](picture)[None]
    told = _network(pictures, get_tokenizer("ViT-H-14")([prompt]))
    return [(told["image_features"] * told["text_features"]).item()]
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, img_score: str = IMG_SCORE) -> None:
    """Make `import hpsv2` find a package of one module."""
    package, told = folder / "hpsv2", folder / "hpsv2-1.2.0.dist-info"
    package.mkdir()
    told.mkdir()
    (package / "__init__.py").touch()
    (package / "img_score.py").write_text(img_score)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: hpsv2\nVersion: 1.2.0\n")
    monkeypatch.syspath_prepend(folder)


@pytest.fixture(autouse=True)
def _forget_hpsv2() -> Iterator[None]:
    yield
    for name in ("hpsv2", "hpsv2.img_score"):
        sys.modules.pop(name, None)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Ten pictures: the brightness of picture i is 20 i."""
    folder = tmp_path / "drawn" / "pictures"
    folder.mkdir(parents=True)
    for number in range(10):
        Image.new("RGB", (8, 8), (20 * number,) * 3).save(folder / f"{number:06d}.png")
    return list_pictures(folder)


class Counting:
    """Scores 0.2 for each picture; stops after some."""

    identity = "counting"

    def __init__(self, at_most: int) -> None:
        self.left = at_most

    def prefer(self, files: Sequence[Path], captions: Sequence[str]) -> NDArray[np.float32]:
        self.left -= len(files)
        if self.left < 0:
            raise KeyboardInterrupt
        return np.full(len(captions), 0.2, np.float32)


def test_the_network_is_loaded_once_and_scores_as_the_package(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    preference = HumanPreference()
    captions = ["a dog", "a dog with a hat"] * 5
    found = mean_preference(preference, pictures, captions, batch=4)
    by_hand = [20 * i / 255 * (2 if i % 2 == 0 else 5) / 10 for i in range(10)]
    assert found == pytest.approx(100 * np.mean(by_hand), rel=1e-5)
    assert sys.modules["hpsv2.img_score"].loads == 1
    assert preference.identity == "hpsv2:v2.0:1.2.0"


def test_a_stopped_run_goes_on_where_it_was(pictures: list[Path]) -> None:
    captions = ["a dog"] * 10
    with pytest.raises(KeyboardInterrupt):
        mean_preference(Counting(6), pictures, captions, batch=3)  # 6 are scored
    rest = Counting(4)
    assert mean_preference(rest, pictures, captions, batch=3) == pytest.approx(20)
    assert rest.left == 0
    others = Counting(10)  # of other captions nothing is known
    mean_preference(others, pictures, ["a cat"] * 10, batch=3)
    assert others.left == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('model_dict["model"] = _network', "pass"),
        ('model_dict["model"] = _network', 'model_dict["model"] = lambda p, w: (p, w)'),
        (".item()]", ".item() / 2]"),
    ],
)
def test_a_package_that_works_otherwise_is_refused(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, IMG_SCORE.replace(old, new))
    with pytest.raises(InvalidData, match=r"works otherwise .* pip install --no-deps hpsv2=="):
        HumanPreference()


def test_weights_that_cannot_be_had_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = IMG_SCORE.replace(
        "    global loads\n", '    raise OSError("no network")\n    global loads\n'
    )
    install(tmp_path, monkeypatch, gone)
    with pytest.raises(InvalidData, match=r"cannot load its weights \(no network\).*--hps"):
        HumanPreference()


def test_the_words_that_its_wheel_lacks_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tmp_path / "hpsv2" / "bpe_simple_vocab_16e6.txt.gz"
    install(tmp_path, monkeypatch, f"open({str(words)!r})")
    with pytest.raises(InvalidData, match=r"without .*16e6\.txt\.gz; copy (.*) there") as refused:
        HumanPreference()
    assert Path(str(refused.value).split("copy ")[1].removesuffix(" there")).is_file()


def test_what_is_not_installed_is_told_with_its_command(
    built_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendUnavailable, match="pip install hpsv2"):
        HumanPreference()
    asked = [str(built_model), "--hps", "--coco", str(tmp_path), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(command, asked)  # before anything is read or drawn
    assert isinstance(refused.exception, BackendUnavailable)
    install(tmp_path, monkeypatch, "import a_package_of_its_own.part")
    with pytest.raises(BackendUnavailable, match="pip install a_package_of_its_own"):
        HumanPreference()
