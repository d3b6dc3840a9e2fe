from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench.quality.evaluate import EvaluateOptions, evaluate
from bench.quality.judge_data import Labelled
from bench.quality.ranking import Ranking
from bench.quality.report import goals, write_report
from bench.quality.result import Judged, Quality
from sidestep.cli.main import main
from sidestep.engines.pytorch import TorchEngine
from sidestep.errors import InvalidData
from sidestep.generator import Generator
from sidestep.model_folder import ModelFolder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("held-out") / "prompts.txt"
    file.write_text("cat face\nblue heart, noto\n")
    return file


@pytest.fixture(scope="module")
def options(tiny_judge: Path, held_out: Path) -> EvaluateOptions:
    return EvaluateOptions(
        images=6, engine="pytorch", guidance=1.5, held_out=held_out, judge=tiny_judge
    )


@pytest.fixture(scope="module")
def quality(built_model: Path, store: Path, options: EvaluateOptions) -> Quality:
    return evaluate(built_model, store, options)


def test_everything_is_measured_of_all_sources(quality: Quality) -> None:
    assert quality.teacher is not None
    for judged in (quality.real, quality.student, quality.teacher):
        assert judged.seen.pictures == 6
        assert judged.fit.prompts == 6
        assert -1 <= judged.fit.clip <= 1
        assert judged.fit.styled is not None
    for judged in (quality.student, quality.teacher):
        assert judged.held_out is not None
        assert judged.held_out.prompts == 2
        assert judged.diversity is not None
    assert len(quality.nearest) == 6
    assert [one.number for one in quality.examples] == list(range(1, len(quality.examples) + 1))


def test_the_judge_tells_real_pictures_from_a_random_models(quality: Quality) -> None:
    assert quality.real.seen.frechet < quality.student.seen.frechet / 2
    assert quality.real.fit.named > quality.student.fit.named
    assert quality.real.fit.clip > quality.student.fit.clip + 0.2
    assert quality.real.nearest < quality.student.nearest


def test_what_is_drawn_is_not_drawn_again(
    built_model: Path,
    store: Path,
    options: EvaluateOptions,
    quality: Quality,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(TorchEngine, "__call__", refuse)
    monkeypatch.setattr("bench.quality.evaluate.ManyStepTeacher.draw", refuse)
    again = evaluate(built_model, store, options)
    assert again.student == quality.student
    assert again.teacher == quality.teacher


def test_the_best_guidance_is_one_of_the_papers(
    built_model: Path, store: Path, options: EvaluateOptions
) -> None:
    found = evaluate(built_model, store, replace(options, guidance=None))
    assert found.guidance in (1.5, 2.0, 3.0, 4.5)


def test_a_guidance_of_0_is_a_guidance(
    built_model: Path, store: Path, options: EvaluateOptions
) -> None:
    found = evaluate(built_model, store, replace(options, guidance=0.0, brief=True))
    assert found.guidance == 0


def test_a_brief_report_has_the_comparison_alone(
    built_model: Path, store: Path, options: EvaluateOptions, world: Labelled, tmp_path: Path
) -> None:
    """As `sidestep run --budget` asks for."""
    found = evaluate(built_model, store, replace(options, brief=True))
    told = write_report(found, tmp_path, command="sidestep run", real=world.pictures).read_text()
    assert f"| {found.student.seen.frechet:.4f} |" in told
    assert ".png" not in told
    assert {file.name for file in tmp_path.iterdir()} == {"quality.json", "quality.md"}


def test_the_share_that_was_closed_needs_a_teacher_nearer_than_the_start(quality: Quality) -> None:
    def at(frechet: float) -> Judged:
        return replace(quality.real, seen=replace(quality.real.seen, frechet=frechet))

    run = replace(quality, start=at(0.5), student=at(0.3), teacher=at(0.1))
    assert run.closed == pytest.approx(0.5)
    worse = replace(run, student=at(0.7), teacher=at(0.6))  # of which it would be 200%
    assert worse.closed is None
    assert replace(run, teacher=at(0.5)).closed is None


def test_a_student_alone(built_model: Path, store: Path, options: EvaluateOptions) -> None:
    found = evaluate(built_model, store, replace(options, teacher=False))
    assert found.teacher is None
    assert found.guidance is None
    assert goals(found) == {}


def test_the_report_holds_what_was_measured(
    quality: Quality, world: Labelled, tmp_path: Path
) -> None:
    told = write_report(quality, tmp_path, command="sidestep evaluate", real=world.pictures)
    values = json.loads((tmp_path / "quality.json").read_text())
    assert values["format"] == 1
    assert values["student"]["seen"]["frechet"] == quality.student.seen.frechet
    assert values["weights"] == quality.weights
    assert set(values["goals"]) == set(goals(quality))
    assert values["made"]["command"] == "sidestep evaluate"
    assert values["prompts"]["count"] == 6
    assert values["prompts"]["first"][0] in {
        f"{name}, {style}" for name, style in zip(world.names, world.styles, strict=True)
    }
    assert values["held_out_prompts"]["source"] == "prompts.txt"
    lines = hashlib.sha256(b"cat face\nblue heart, noto\n").hexdigest()
    assert values["held_out_prompts"]["sha256"] == lines
    assert values["ranking"]["real"] == pytest.approx(quality.real.seen.frechet)
    assert values["ranking"]["pictures"] == quality.student.seen.pictures
    text = told.read_text()
    assert f"| {quality.student.seen.frechet:.4f} |" in text
    assert "missed" in text
    size = quality.pictures["student"].shape[1]
    with Image.open(tmp_path / "samples.png") as grid:
        assert grid.size == (6 * (size + 2) - 2, 2 * (size + 2) - 2)
    assert (tmp_path / "nearest.png").exists()
    assert (tmp_path / "examples.png").exists()
    assert [one["prompt"] for one in values["examples"]] == [e.prompt for e in quality.examples]
    riddle = text[text.index("prompts of the model's card") : text.index("| sample |")]
    assert not any(example.prompt in riddle for example in quality.examples)


def test_what_is_shown_has_seed_0(built_model: Path, world: Labelled, quality: Quality) -> None:
    generator = Generator.load(built_model, engine="pytorch")
    prompts = quality.prompts["first"]
    drawn = generator.engine(generator.tokenizer(prompts), generator.noise([0] * len(prompts)))
    assert (quality.pictures["student"] == drawn).all()
    assert set(quality.pictures) == {"student", "teacher", "examples"}
    row = quality.nearest[-1]["row"]
    assert quality.nearest[-1]["nearest"] == f"{world.names[row]}, {world.styles[row]}"


def test_goals_are_compared_with_their_bounds(quality: Quality) -> None:
    assert quality.teacher is not None
    met = goals(replace(quality, student=quality.real, teacher=quality.real))
    assert [goal["met"] for goal in met.values()] == [True, True, True]
    assert [goal["value"] for goal in met.values()] == [1.0, 1.0, 0.0]
    missed = goals(replace(quality, teacher=quality.real))
    assert not missed["student's distance, in teacher's"]["met"]


def test_all_are_ranked_and_a_judge_that_does_not_is_told(quality: Quality, tmp_path: Path) -> None:
    assert quality.teacher is not None
    ranking = Ranking(pictures=6, real=0.1, blurred=0.3, noise=0.4)

    def told(teacher: float, student: float, **changes: float | None) -> str:
        at = [
            replace(quality.real, seen=replace(quality.real.seen, frechet=apart))
            for apart in (teacher, student)
        ]
        ranks = replace(ranking, **changes)
        case = replace(quality, teacher=at[0], student=at[1], ranking=ranks)
        return write_report(case, tmp_path, command="sidestep evaluate").read_text()

    order = "real 0.1000 < student 0.1500 < teacher 0.2000 < blurred real 0.3000 < noise 0.4000"
    assert f"6 pictures each: {order}; as a judge must." in told(0.2, 0.15)
    assert "as a judge must." in told(0.2, 0.5)  # a student may be as bad as it likes
    assert "**not as a judge must, real < teacher < blurred real < noise" in told(0.35, 0.15)
    assert not json.loads((tmp_path / "quality.json").read_text())["ranked"]
    assert "**not as a judge must, real < teacher < noise" in told(0.45, 0.15, blurred=None)


def test_a_models_own_list_of_held_out_prompts(
    tiny_model: ModelFolder, tiny_judge: Path, tmp_path: Path
) -> None:
    (tiny_model.path / "held-out.txt").write_text("red cat\nblue cat\nfire cat\n")
    options = EvaluateOptions(images=4, engine="pytorch", teacher=False, judge=tiny_judge)
    found = evaluate(tiny_model.path, tmp_path, options)
    assert found.student.held_out is not None
    assert found.student.held_out.prompts == 3


def test_too_many_images_are_refused(built_model: Path, tiny_judge: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="from 4 to 6"):
        evaluate(built_model, tmp_path, EvaluateOptions(images=7, judge=tiny_judge))


def test_the_command_prints_the_table(
    built_model: Path,
    tiny_judge: Path,
    store: Path,
    held_out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "quality"
    options = ["--images", "6", "--engine", "pytorch", "--guidance", "1.5", "--out", str(out)]
    folders = ["--judge", str(tiny_judge), "--held-out", str(held_out), "--store", str(store)]
    main(["evaluate", str(built_model), *options, *folders])
    printed = capsys.readouterr().out
    assert "| Fréchet distance |" in printed
    assert (out / "quality.md").read_text() in printed
    assert (out / "samples.png").is_file()


def test_the_command_names_a_missing_judge(
    built_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(built_model), "--judge", str(tmp_path / "nowhere")])
    assert stop.value.code == 2
    assert "nowhere" in capsys.readouterr().err
