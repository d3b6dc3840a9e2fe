from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.quality.coco import crop, draw_captions, prepare, read_captions
from bench.quality.paper import check_prepared
from sidestep.cli.main import main
from sidestep.errors import InvalidData


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures of COCO's kind, with ten captions."""
    folder = tmp_path_factory.mktemp("coco")
    draw = np.random.default_rng(0)
    images, notes = [], []
    (folder / "val2014").mkdir()
    for number in range(5):
        name = f"COCO_val2014_{number:012d}.jpg"
        size = (320 + 20 * number, 300)
        pixels = draw.integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / "val2014" / name, quality=90)
        images.append({"id": 100 - number, "file_name": name, "width": size[0], "height": 300})
        notes += [
            {
                "id": 10 * number + k,
                "image_id": 100 - number,
                "caption": f" No {number}\n is {k}",
            }
            for k in (1, 0)
        ]
    _write(folder, {"images": images, "annotations": notes})
    return folder


def _write(folder: Path, values: Any) -> None:
    (folder / "captions_val2014.json").write_text(json.dumps(values))


@pytest.fixture
def own(coco: Path, tmp_path: Path) -> Path:
    return shutil.copytree(coco, tmp_path / "coco")


def prepared(folder: Path, out: Path, *, count: int = 4) -> Path:
    return prepare(folder / "captions_val2014.json", folder / "val2014", out, count=count)


def test_pictures_are_cropped_and_captions_drawn_once_for_ever(coco: Path, tmp_path: Path) -> None:
    out = prepared(coco, tmp_path / "out")
    files = sorted((out / "pictures").iterdir())
    assert [file.name for file in files] == [f"{n:06d}.png" for n in range(5)]
    for file in files:
        with Image.open(file) as picture:
            assert picture.size == (256, 256)
    captions = check_prepared(out)
    assert len(captions) == 4
    assert len({caption.split()[1] for caption in captions}) == 4  # of different pictures
    again = prepared(coco, tmp_path / "again")
    assert (again / "captions.txt").read_bytes() == (out / "captions.txt").read_bytes()


def test_the_crop_is_the_largest_square_of_the_centre() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255
    assert (np.asarray(crop(Image.fromarray(pixels))) == 255).all()
    tall = Image.fromarray(pixels.transpose(1, 0, 2))
    assert (np.asarray(crop(tall)) == 255).all()


def test_a_stopped_preparation_goes_on(coco: Path, tmp_path: Path) -> None:
    out = prepared(coco, tmp_path / "out")
    kept, lost = (out / "pictures" / f"{n:06d}.png" for n in (0, 3))
    before = lost.read_bytes()
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    prepared(coco, out)
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp


def test_pictures_of_other_captions_are_not_mixed_in(own: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", own / "captions_val2014.json"
    damaged = own / "val2014" / "COCO_val2014_000000000002.jpg"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"no picture")
    with pytest.raises(InvalidData, match="is not a picture"):
        prepared(own, out)  # stops in the middle
    damaged.write_bytes(whole)
    right = file.read_text()
    values = json.loads(right)
    file.write_text(json.dumps({**values, "images": values["images"][::-1]}))
    with pytest.raises(InvalidData, match="holds pictures of other captions"):
        prepared(own, out)
    file.write_text(right)
    assert len(check_prepared(prepared(own, out))) == 4
    assert len(check_prepared(prepared(own, out, count=5))) == 5


def test_pictures_of_unknown_origin_are_not_taken_for_crops(own: Path, tmp_path: Path) -> None:
    """Such as those that `evaluate-coco` drew into the same folder."""
    drawn = tmp_path / "out" / "pictures" / "000000.png"
    drawn.parent.mkdir(parents=True)
    drawn.write_bytes(b"drawn")
    with pytest.raises(InvalidData, match=r"no begun\.json .*choose another --out, or move"):
        prepared(own, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").rglob("*.*")] == ["000000.png"]


def test_captions_come_in_their_own_order(coco: Path) -> None:
    files, texts = read_captions(coco / "captions_val2014.json")
    assert texts[100] == ["No 0 is 0", "No 0 is 1"]
    assert files[96] == "COCO_val2014_000000000004.jpg"
    assert set(draw_captions(texts, 5)) <= {text for own in texts.values() for text in own}


def test_missing_pictures_are_counted(own: Path, tmp_path: Path) -> None:
    (own / "val2014" / "COCO_val2014_000000000002.jpg").unlink()
    with pytest.raises(InvalidData, match=r"lacks 1 of the 5 pictures .*000000000002"):
        prepared(own, tmp_path / "out")


def test_a_damaged_picture_is_named(own: Path, tmp_path: Path) -> None:
    (own / "val2014" / "COCO_val2014_000000000002.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidData, match=r"000000000002\.jpg is not a picture"):
        prepared(own, tmp_path / "out")


def test_too_many_captions_are_refused(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="captions of 5 pictures; --count 6"):
        prepared(coco, tmp_path / "out", count=6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"images": []}, "KeyError"),
        ([], "TypeError"),
        ({"images": [], "annotations": []}, "no captions"),
        (
            {"images": [], "annotations": [{"id": 1, "image_id": 7, "caption": "a"}]},
            "captions of 1 pictures that it does not list, such as 7",
        ),
        (
            {
                "images": [{"id": 7, "file_name": "../a.jpg"}],
                "annotations": [{"id": 1, "image_id": 7, "caption": "a"}],
            },
            "outside of one folder",
        ),
    ],
)
def test_other_files_are_not_taken_for_captions(
    values: Any, words: str, own: Path, tmp_path: Path
) -> None:
    _write(own, values)
    with pytest.raises(InvalidData, match=words):
        prepared(own, tmp_path / "out")


def test_what_is_not_prepared_is_told_with_the_command(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"prepared\.json is missing; run: sidestep data coco"):
        check_prepared(tmp_path)
    out = prepared(coco, tmp_path / "out")
    (out / "captions.txt").unlink()
    with pytest.raises(InvalidData, match=r"captions\.txt is missing"):
        check_prepared(out)


def test_the_command_tells_a_missing_file_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = str(tmp_path / "captions.json")
    with pytest.raises(SystemExit) as stop:
        main(["data", "coco", "--captions", captions, "--images", str(tmp_path)])
    assert stop.value.code == 2
    assert "captions.json is not COCO's captions" in capsys.readouterr().err
