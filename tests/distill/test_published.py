"""The authors' pickles become model folders equal to ours."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.folders import Teacher, load_teacher, write_student, write_teacher
from distill.published import PUBLISHED, import_checkpoint
from sidestep.errors import InvalidModel
from sidestep.generator import Generator
from sidestep.images import decode, read_recipe
from sidestep.model_folder import ModelCard
from sidestep.pipeline.model_card import write_model_card

KNOWN = "batch512_cfg4.54.54.5_t625_8380_v2.pkl"


@pytest.fixture
def base(tiny_teacher: Teacher, tmp_path: Path) -> Path:
    write_teacher(tmp_path / "base", tiny_teacher)
    return tmp_path / "base"


def other_unet(teacher: Teacher, **changes: Any) -> Any:
    """A UNet of the teacher's kind with other random weights, as a distilled one is."""
    torch.manual_seed(1)
    config = {key: value for key, value in teacher.unet.config.items() if key[0] != "_"}
    unet = type(teacher.unet)(**{**config, **changes}).eval().requires_grad_(False)
    unet.conv_out.weight.mul_(2)
    return unet


def write_pickle(path: Path, unet: Any) -> Path:
    path.write_bytes(pickle.dumps({"ema": unet}))
    return path


def test_an_imported_model_is_the_student_of_the_same_weights(
    tiny_teacher: Teacher, base: Path, tmp_path: Path
) -> None:
    unet = other_unet(tiny_teacher)
    pickled = write_pickle(tmp_path / KNOWN, unet)
    imported = import_checkpoint(pickled, base, tmp_path / "imported", name="ours")
    card = ModelCard(
        name="ours",
        latent_shape=tiny_teacher.latent_shape,
        image_size=tiny_teacher.image_size,
        tokens=tiny_teacher.tokens,
        schedule={**tiny_teacher.schedule, "init_timestep": 625},
    )
    ours = write_student(tmp_path / "ours", tiny_teacher, unet, card)
    wanted = {f: v for f, v in ours.card.files.items() if not f.startswith("teacher/")}
    assert imported.card.files == wanted
    assert imported.card.weights == ours.card.weights
    assert imported.card.schedule == ours.card.schedule
    assert imported.card.latent_shape == ours.card.latent_shape
    assert imported.card.image_size == ours.card.image_size
    assert imported.card.tokens == ours.card.tokens
    recipe = imported.card.recipe
    assert (recipe["base"], recipe["guidance"]["kappa4"]) == ("sd15", 4.5)
    assert recipe["images_seen"] == 8_380_000
    assert imported.card.licences
    imported.check()
    drawn, wanted_one = (
        Generator.load(folder.path, engine="pytorch")("red apple", seed=7).data
        for folder in (imported, ours)
    )
    assert np.array_equal(decode(drawn), decode(wanted_one))
    recipe_inside = read_recipe(drawn)
    assert recipe_inside is not None
    assert recipe_inside.licence == "Apache-2.0, OpenRAIL-M"


@pytest.mark.filterwarnings("ignore::sidestep.tokenizer.PromptCut")  # the tiny model reads little
def test_the_card_of_a_known_file_tells_its_guidance(
    tiny_teacher: Teacher, base: Path, tmp_path: Path
) -> None:
    pickled = write_pickle(tmp_path / KNOWN, other_unet(tiny_teacher))
    imported = import_checkpoint(pickled, base, tmp_path / "imported", name="theirs")
    text = write_model_card(imported).read_text()
    assert "| guidance κ1…κ4 | 4.5, 4.5, 4.5, 4.5 |" in text
    assert "that it trained from nothing" not in text


def test_an_imported_model_teaches_nothing(
    tiny_teacher: Teacher, base: Path, tmp_path: Path
) -> None:
    pickled = write_pickle(tmp_path / "x.pkl", other_unet(tiny_teacher).half())
    model = import_checkpoint(pickled, base, tmp_path / "imported", name="x")
    assert "guidance" not in model.card.recipe
    with pytest.raises(InvalidModel, match="is a one-step generator's; give the teacher"):
        load_teacher(model.path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"block_out_channels": (16, 24)},
            r"[\w.]+ is \[24[\d, ]*\] in the checkpoint and \[32[\d, ]*\] in the base",
        ),
        (
            {"cross_attention_dim": 24},
            r"attn2.to_k.weight is \[16, 24\] in the checkpoint and \[16, 16\] in the base",
        ),
        ({"attention_head_dim": 4}, "attention_head_dim is 4 in the checkpoint and 2 in the base"),
        ({"sample_size": 16}, "sample_size is 16 in the checkpoint and 8 in the base"),
        ({"time_cond_proj_dim": 8}, r"time_embedding.cond_proj.weight .* is not in the base"),
        ({"encoder_hid_dim": 8, "encoder_hid_dim_type": "text_proj"}, "is not in the base"),
    ],
)
def test_a_base_that_does_not_fit_is_refused_by_the_first_difference(
    tiny_teacher: Teacher, base: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    pickled = write_pickle(tmp_path / "x.pkl", other_unet(tiny_teacher, **changes))
    with pytest.raises(InvalidModel, match=words) as refused:
        import_checkpoint(pickled, base, tmp_path / "out", name="x")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("tokenizer/vocab.json", "{}", "the tokenizer is not CLIP's BPE"),
        (
            "unet/config.json",
            '{"cross_attention_dim": 16, "down_block_types": ["X"]}',
            "config.json is no UNet's config",
        ),
        ("vae/config.json", "[]", "vae/config.json is not a JSON object"),
    ],
)
def test_a_damaged_base_is_named(
    tiny_teacher: Teacher, base: Path, tmp_path: Path, file: str, content: str, words: str
) -> None:
    (base / file).write_text(content)
    pickled = write_pickle(tmp_path / "x.pkl", tiny_teacher.unet)
    with pytest.raises(InvalidModel, match=words):
        import_checkpoint(pickled, base, tmp_path / "out", name="x")
    assert not (tmp_path / "out").exists()


def test_a_base_of_another_prediction_is_refused(tiny_teacher: Teacher, tmp_path: Path) -> None:
    schedule = {**tiny_teacher.schedule, "prediction_type": "v_prediction"}
    teacher = Teacher(
        tiny_teacher.text_encoder,
        tiny_teacher.unet,
        tiny_teacher.vae,
        tiny_teacher.tokenizer,
        schedule,
    )
    write_teacher(tmp_path / "base", teacher)
    pickled = write_pickle(tmp_path / KNOWN, tiny_teacher.unet)
    with pytest.raises(InvalidModel, match="predicts epsilon and the base v_prediction"):
        import_checkpoint(pickled, tmp_path / "base", tmp_path / "out", name="x")


def test_the_table_says_what_the_names_say() -> None:
    assert len(PUBLISHED) == 9
    for name, known in PUBLISHED.items():
        kappas, _, rest = name.partition("cfg")[2].partition("_t625_")
        assert kappas == 3 * f"{known.kappa:g}"
        assert rest == f"{known.images_thousand}_v2.pkl"
        assert known.teacher == ("sd21-base" if "_sd21_" in name else "sd15")
