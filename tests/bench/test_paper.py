"""The paper's protocol at small size: the real extractors' classes, with weights of chance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from bench.quality import extractors
from bench.quality.extractors import Inception, OpenClip
from bench.quality.judge import Judge
from bench.quality.paper import features_of, score
from bench.quality.paper_report import CocoOptions, evaluate_coco
from bench.quality.picture_files import batches, list_pictures
from bench.quality.published import TABLE_3, tables_1_and_2
from sidestep.errors import InvalidData, InvalidRequest

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}


class Seeing:
    """A tiny judge as both extractors; counts what it sees."""

    identity = "judge:tiny"

    def __init__(self, judge: Judge) -> None:
        self.judge, self.seen = judge, 0

    def see(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen += len(pictures)
        return self.judge.see(pictures)

    def read(self, texts: list[str]) -> NDArray[np.float32]:
        return self.judge.read(texts)


class Preferring:
    """Likes every picture as well."""

    identity = "preferring"

    def __init__(self, score: float) -> None:
        self.score = score

    def prefer(self, files: Sequence[Path], captions: Sequence[str]) -> NDArray[np.float32]:
        if np.isnan(self.score):
            raise KeyboardInterrupt
        return np.full(len(files), self.score, np.float32)


@pytest.fixture
def eyes(tiny_judge: Path) -> Seeing:
    return Seeing(Judge.load(tiny_judge))


def fill(folder: Path, pictures: NDArray[np.uint8]) -> Path:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")
    return folder


@pytest.fixture
def real(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    return fill(tmp_path / "real" / "pictures", draw.integers(0, 256, (12, 40, 40, 3), np.uint8))


def test_the_same_pictures_are_at_no_distance(real: Path, eyes: Seeing) -> None:
    scores = score(real, ["red apple"] * 12, real, (eyes, eyes))
    assert scores.pictures == 12
    assert scores.fid == pytest.approx(0.0, abs=1e-6)
    assert (scores.precision, scores.recall) == (1.0, 1.0)
    expected = eyes.judge.see(
        np.concatenate(list(batches(list_pictures(real), size_px=256, batch=4)))
    )
    assert scores.clip == pytest.approx(
        (expected @ eyes.judge.read(["red apple"]).T).mean(), abs=1e-5
    )


def test_features_are_kept_until_a_picture_changes(real: Path, eyes: Seeing) -> None:
    first = features_of(list_pictures(real), eyes, batch=5)
    assert (features_of(list_pictures(real), eyes, batch=5) == first).all()
    assert eyes.seen == 12
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(real / "000003.png")
    changed = features_of(list_pictures(real), eyes, batch=5)
    assert eyes.seen == 24
    assert [i for i in range(12) if not np.allclose(first[i], changed[i])] == [3]


def test_captions_that_do_not_match_are_counted(real: Path, eyes: Seeing) -> None:
    with pytest.raises(InvalidData, match="12 pictures and its captions are 11"):
        score(real, ["red apple"] * 11, real, (eyes, eyes))


def test_mixed_sizes_are_named(real: Path, eyes: Seeing) -> None:
    Image.fromarray(np.zeros((40, 41, 3), np.uint8)).save(real / "000007.png")
    with pytest.raises(InvalidData, match=r"000000\.png is 40x40, 000007\.png is 41x40"):
        score(real, ["red apple"] * 12, real, (eyes, eyes))


def test_folders_without_pictures_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="not a folder"):
        list_pictures(tmp_path / "nowhere")
    with pytest.raises(InvalidData, match="has no pictures"):
        list_pictures(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InvalidData, match=r"a\.png is not a picture"):
        list_pictures(tmp_path)


def test_coco_is_drawn_scored_and_set_beside_the_paper(
    built_model: Path, real: Path, eyes: Seeing, tmp_path: Path
) -> None:
    coco = real.parent
    captions = ["red apple", "blue heart", "fire engine", "cat face"]
    (coco / "captions.txt").write_text("\n".join(captions) + "\n")
    (coco / "prepared.json").write_text("{}")
    options = CocoOptions(built_model, coco, tmp_path / "out", "onnx", 2, command="sidestep x")
    text = evaluate_coco(options, lambda: (eyes, eyes), lambda: Preferring(0.25))
    assert text == (tmp_path / "out" / "paper.md").read_text()
    assert "| LSG, κ = 1.5 | 8.71 | 0.302 | 0.590 | 0.520 |" in text
    assert "(4 pictures, not 30,000)" in text
    values = json.loads((tmp_path / "out" / "paper.json").read_text())
    assert values["scores"]["pictures"] == 4
    assert values["scores"]["hps"] == 25.0
    assert values["extractors"] == ["judge:tiny", "judge:tiny", "preferring"]
    assert values["engine"] == "onnx-cpu"
    drawn_from = hashlib.sha256((tmp_path / "out/pictures/captions.txt").read_bytes()).hexdigest()
    assert (values["captions"]["count"], values["captions"]["sha256"]) == (4, drawn_from)
    before = eyes.seen
    assert evaluate_coco(options, lambda: (eyes, eyes)) is not None
    assert eyes.seen == before  # nothing was drawn or seen again
    with pytest.raises(InvalidRequest, match="another series"):
        evaluate_coco(replace(options, engine="fake"), lambda: (eyes, eyes))
    for number, engine in enumerate(("onnx", "fake"), 2):  # as in a run, whose engine may change
        own = replace(options, engine=engine, apart=True)
        assert evaluate_coco(own, lambda: (eyes, eyes)) is not None
        assert len(list((tmp_path / "out").glob("pictures*"))) == number


def test_what_is_scored_is_written_before_a_preference_that_fails(
    built_model: Path, real: Path, eyes: Seeing, tmp_path: Path
) -> None:
    (real.parent / "captions.txt").write_text("red apple\n" * 4)
    (real.parent / "prepared.json").write_text("{}")
    options = CocoOptions(built_model, real.parent, tmp_path / "out", "onnx", 2)
    with pytest.raises(KeyboardInterrupt):
        evaluate_coco(options, lambda: (eyes, eyes), lambda: Preferring(float("nan")))
    values = json.loads((tmp_path / "out" / "paper.json").read_text())
    assert values["scores"]["fid"] > 0
    assert values["scores"]["hps"] is None
    assert (tmp_path / "out" / "paper.md").is_file()


def test_the_real_pictures_are_not_taken_for_drawn_ones(
    built_model: Path, real: Path, tmp_path: Path
) -> None:
    (real.parent / "captions.txt").write_text("red apple\n" * 12)
    (real.parent / "prepared.json").write_text("{}")

    def refuse() -> tuple[Seeing, Seeing]:
        raise AssertionError("opened")

    (tmp_path / "linked").symlink_to(real.parent)
    for out in (real.parent, tmp_path / "linked"):
        with pytest.raises(InvalidData, match="is the folder of --coco"):
            evaluate_coco(CocoOptions(built_model, real.parent, out, "onnx"), refuse)
    assert not (real / "series.json").exists()


def test_other_processes_draw_and_do_not_score(
    built_model: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (real.parent / "captions.txt").write_text("red apple\nblue heart\nfire engine\n")
    (real.parent / "prepared.json").write_text("{}")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def refuse() -> tuple[Seeing, Seeing]:
        raise AssertionError("opened")

    options = CocoOptions(built_model, real.parent, tmp_path / "out", "onnx", 1)
    assert evaluate_coco(options, refuse) is None
    drawn = [path.name for path in (tmp_path / "out" / "pictures").glob("*.png")]
    assert drawn == ["000001.png"]


def test_the_published_rows_are_whole() -> None:
    for preset in ("sd15", "sd21-base"):
        rows = tables_1_and_2(preset)
        assert [row.kappas[0] for row in rows] == [1.5, 2, 3, 4.5]
        assert all(row.hps and row.precision and row.recall for row in rows)
    assert len(TABLE_3) == 14
    assert TABLE_3[0].label == "long, κ1…κ4 = 1, 1, 1, 2"
    assert min(TABLE_3, key=lambda row: row.fid or 99).fid == 10.01


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A small model that open_clip knows by name for the time of these tests, and its weights."""
    from open_clip import factory

    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "tiny-clip.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    weights = folder / "weights.pt"
    torch.save(open_clip.create_model("tiny-clip").state_dict(), weights)
    yield "tiny-clip", weights
    factory._MODEL_CONFIG_PATHS.pop()
    del factory._MODEL_CONFIGS["tiny-clip"]


def test_open_clip_sees_and_reads(clip_weights: tuple[str, Path]) -> None:
    name, weights = clip_weights
    clip = OpenClip(name, str(weights))
    seen = clip.see(np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8))
    read = clip.read(["red apple", "a dog"])
    assert (seen.shape, read.shape) == ((3, 16), (2, 16))
    for rows in (seen, read):
        assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)
    assert clip.identity.startswith("open_clip:tiny-clip:weights.pt:")


def test_other_weights_in_a_file_of_the_same_name_are_seen_anew(
    clip_weights: tuple[str, Path], real: Path, tmp_path: Path
) -> None:
    """open_clip's weights are all called open_clip_pytorch_model.bin."""
    name, weights = clip_weights
    torch.manual_seed(1)
    torch.save(open_clip.create_model(name).state_dict(), tmp_path / weights.name)
    files = list_pictures(real)
    first, other = (
        features_of(files, OpenClip(name, str(path)), batch=12)
        for path in (weights, tmp_path / weights.name)
    )
    assert not np.allclose(first, other)


def test_unknown_names_of_open_clip_are_told_with_known_ones() -> None:
    with pytest.raises(InvalidData, match=r"no model 'ViT-g-15'; did you mean .*ViT-g-14"):
        OpenClip("ViT-g-15")
    with pytest.raises(InvalidData, match=r"neither a file nor one of .*laion2b_s12b_b42k"):
        OpenClip("ViT-g-14", "laion")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 5000])
def test_damaged_weights_of_open_clip_are_named(
    name: str, kept: int, clip_weights: tuple[str, Path], tmp_path: Path
) -> None:
    """Empty, of a few bytes and cut in the middle."""
    state = torch.load(clip_weights[1], weights_only=True)
    file = tmp_path / name
    torch.save(state, file) if file.suffix == ".pt" else save_file(state, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InvalidData, match=rf"{name} does not hold .*tiny-clip .*copy them again"):
        OpenClip(clip_weights[0], str(file))


def test_weights_of_another_model_are_named(clip_weights: tuple[str, Path], tmp_path: Path) -> None:
    for values in ({}, {"a": torch.zeros(1)}, torch.zeros(1)):
        torch.save(values, tmp_path / "other.pt")
        with pytest.raises(InvalidData, match=r"other\.pt does not hold weights of tiny-clip"):
            OpenClip(clip_weights[0], str(tmp_path / "other.pt"))


def test_a_tag_that_cannot_be_downloaded_or_read_is_told_with_its_mend(
    clip_weights: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, weights = clip_weights
    (tmp_path / "cached.pt").touch()
    tags = {
        "gone": {"url": "http://127.0.0.1:1/weights.pt"},  # where nothing listens
        "cut": {"file": str(tmp_path / "cached.pt")},
        "whole": {"file": str(weights)},
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)
    monkeypatch.setenv("HOME", str(tmp_path))  # which open_clip's cache is in
    with pytest.raises(InvalidData, match=r"'gone' of tiny-clip could not be .*--clip-weights"):
        OpenClip(name, "gone")
    with pytest.raises(InvalidData, match=r"cached\.pt does not hold .*; delete them"):
        OpenClip(name, "cut")
    assert OpenClip(name, "whole").identity == "open_clip:tiny-clip:whole"


def test_inception_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its real class with weights of chance, as a file of torch-fidelity's."""
    kind = extractors.FeatureExtractorInceptionV3
    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(kind, "load_state_dict", lambda self, state: None)
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url",
            lambda *_, **__: {},
        )
        weights = kind("inception-v3-compat", ["2048"]).state_dict()
    torch.save(weights, tmp_path / "inception.pth")
    seen = Inception(tmp_path / "inception.pth").see(np.zeros((2, 64, 64, 3), np.uint8))
    assert seen.shape == (2, 2048)
    assert (seen[0] == seen[1]).all()


def test_other_files_are_not_taken_for_inception(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InvalidData, match=r"other\.pth does not hold Inception"):
        Inception(tmp_path / "other.pth")
    with pytest.raises(InvalidData, match=r"nowhere\.pth"):
        Inception(tmp_path / "nowhere.pth")
    whole = (tmp_path / "other.pth").read_bytes()
    for kept in (0, 10, len(whole) // 2):
        (tmp_path / "cut.pth").write_bytes(whole[:kept])
        with pytest.raises(InvalidData, match=r"cut\.pth does not hold Inception"):
            Inception(tmp_path / "cut.pth")


class _Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harmed"),)  # type: ignore[return-value]


def test_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(InvalidData, match="does not hold Inception"):
        Inception(tmp_path / "harmful.pth")
    assert not (tmp_path / "harmed").exists()
