"""`sidestep run`: from a teacher to a model that serves."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.decoder_options import DecoderOptions
from distill.presets import describe
from distill.settings import declared
from sidestep.cli.options import refuse_idle
from sidestep.cli.recipes import PRESET, recipe_flags, recipe_of
from sidestep.errors import InvalidModel, InvalidRequest, InvalidTraining, needing
from sidestep.model_folder import PROMPTS, find_model
from sidestep.pipeline.options import EMOJI, STAGES, RunOptions, within

if TYPE_CHECKING:
    from sidestep.pipeline.ledger import Ledger
    from sidestep.pipeline.stages import Stage


@click.command(epilog=f"\b\nPresets; a flag beats its preset:\n{describe()}")
@PRESET
@click.option(
    "--teacher",
    metavar="DIR|HUB_ID",
    help="Stable-Diffusion-like model.  [default, with the preset emoji: the embedded one]",
)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help="Training prompts: .txt (one per line), .tar of such, .csv or .parquet; or .gz of it.  "
    "[default, with the preset emoji: all names in all styles]",
)
@click.option("--prompts-column", metavar="NAME", help="Column of a table.")
@click.option(
    "--exclude", type=click.Path(path_type=Path), help="Captions that must not be trained on."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Run folder; the same command again goes on where it stopped.  [default: runs/PRESET]",
)
@click.option(
    "--to",
    default="onnx",
    show_default=True,
    help="What to compile, separated by commas: onnx, openvino, aoti, tensorrt-rtx, tensorrt.",
)
@click.option(
    "--engine-precision",
    metavar="FORMAT",
    help="Of what is compiled: fp32, fp16 or bf16.  [default: fp32 for emoji, else fp16]",
)
@click.option(
    "--buckets", default="1,2,4,8", show_default=True, help="Batch sizes a plan is made for."
)
@click.option(
    "--small-decoder", is_flag=True, help="Also distil a lighter decoder, and compile it."
)
@click.option(
    "--decoder-steps",
    type=click.IntRange(1),
    default=declared(DecoderOptions)["steps"].default,
    show_default=True,
    help="Updates of the lighter decoder.",
)
@click.option(
    "--coco",
    type=click.Path(path_type=Path),
    help="Folder of `sidestep data coco`, to score on other models than those of emoji.",
)
@click.option(
    "--budget",
    type=float,
    metavar="MINUTES",
    help="A short run, to see everything work: less training, fewer pictures judged.",
)
@click.option("--until", type=click.Choice(STAGES), help="Stop after this stage.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="That distil together, under torchrun.  [default: one per GPU, on a CPU one]",
)
@click.option("--serve", "serving", is_flag=True, help="Serve the model when all is done.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3000,
    show_default=True,
    help="Of --serve, whose other settings are the variables of `sidestep serve`.",
)
@click.option("--dry-run", is_flag=True, help="Print the stages, the settings and the memory.")
@recipe_flags
def command(**given: Any) -> None:
    """Distil, compile, certify, judge and time a model, and write its card.

    Every stage is skipped where what it is made from is unchanged: run the same command again
    after a stop, or with another --to. OUT/model is what `sidestep serve --model` takes.

    \b
    sidestep run --budget 5 --serve
    sidestep run --preset sd15 --device cuda --to tensorrt --prompts prompts.txt \\
      --teacher stable-diffusion-v1-5/stable-diffusion-v1-5 --out runs/sd15 --serve
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidTraining("sidestep run starts torchrun by itself; give it --processes instead")
    with needing("export"):
        from bench.reports import told_command
        from sidestep.pipeline.ledger import Ledger
        from sidestep.pipeline.recipe import Recipe
        from sidestep.pipeline.stages import run_stages
        from sidestep.pipeline.work import check_judge
    _refuse_idle(given)
    options = _options(given)
    ledger = Ledger.open(options.out, options.identity)
    stages = _until(Recipe(options).stages(), given["until"])
    if given["dry_run"]:
        _describe(options, stages, ledger)
        return
    if any(stage.name == "evaluate" for stage in stages):
        check_judge(options)  # now, and not when hours of training are over
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # beside the training, as Ctrl-C
    tell: Callable[[str], None] = partial(click.echo, err=True)
    run_stages(stages, ledger, options.out, tell=tell, command=told_command())
    model = options.out / "model"
    click.echo(model)
    if given["serving"]:
        from serve.run import serve
        from serve.settings import Settings

        settings = Settings.from_environment()
        serve(replace(settings, model=(str(model),), port=given["port"]))


def _refuse_idle(given: dict[str, Any]) -> None:
    """Refuse flags that change nothing, because the one that they are about is not there."""
    if not given["serving"]:
        refuse_idle({"port": "--port"}, "--serve")
    if not given["small_decoder"]:
        refuse_idle({"decoder_steps": "--decoder-steps"}, "--small-decoder")
    if given["preset"] == EMOJI:
        refuse_idle({"coco": "--coco"}, "a preset of other models than emoji's (--preset)")
    if given["serving"] and given["until"] is not None:
        raise InvalidRequest("--until ends before --serve; leave one out", field="until")


def _options(given: dict[str, Any]) -> RunOptions:
    """Resolve what was given, down to the prompts themselves."""
    from bench.quality.paper import check_prepared
    from distill.hub import teacher_folder
    from export.options import parse_buckets

    preset = given["preset"]
    recipe = recipe_of(preset, given)
    processes = given["processes"] or _gpus(given["device"])
    if given["budget"] is not None:
        processes = given["processes"] or 1  # its small batches are not worth sharing
        recipe = within(given["budget"], recipe)
    if preset != EMOJI and not (given["teacher"] and given["prompts"]):
        raise InvalidRequest(
            f"the preset {preset} needs --teacher DIR and --prompts FILE", field="teacher"
        )
    if given["coco"]:
        check_prepared(given["coco"])
    decoder = DecoderOptions(steps=given["decoder_steps"]) if given["small_decoder"] else None
    teacher = teacher_folder(given["teacher"]) if given["teacher"] else _embedded_teacher()
    options = RunOptions(
        preset=preset,
        distil=recipe,
        teacher=teacher,
        prompts=_prompts(given, teacher),
        out=given["out"] or Path("runs") / preset,
        to=tuple(given["to"].split(",")),
        precision=given["engine_precision"],
        buckets=parse_buckets(given["buckets"]),
        decoder=decoder,
        coco=given["coco"],
        device=given["device"],
        processes=processes,
        minutes=given["budget"] or 0.0,
    )
    assert options.exports  # which checks them
    return options


def _embedded_teacher() -> Path:
    folder = find_model()
    if not (folder / "teacher").is_dir():
        raise InvalidModel(
            f"{folder} carries no teacher, which an installed package leaves out; run this in a "
            "clone of the repository, or give --teacher"
        )
    return folder


def _prompts(given: dict[str, Any], teacher: Path) -> tuple[str, ...]:
    """Read the prompts; those of emoji are what the model with the teacher was distilled on.

    Where it does not tell, the captions of the judge's real pictures, without those that the
    teacher never saw, so that evaluations can ask for them.
    """
    from distill.prompts import read_prompts

    if given["prompts"]:
        read = read_prompts(
            given["prompts"], column=given["prompts_column"], exclude=given["exclude"]
        )
        click.echo(read, err=True)
        return tuple(read.texts)
    if given["exclude"] or given["prompts_column"]:
        raise InvalidRequest(
            "--exclude and --prompts-column are about --prompts FILE; give that too",
            field="prompts",
        )
    if (own := teacher / PROMPTS).is_file():
        return tuple(read_prompts(own).texts)
    with needing("eval"):
        from bench.quality.judge import Reference
        from distill.folders import read_held_out
    real = Reference.load()
    unseen = set(read_held_out(teacher))
    told = zip(real.names, real.styles, strict=True)
    seen = [(name, style) for name, style in told if name not in unseen]
    return tuple(sorted({text for name, style in seen for text in (name, f"{name}, {style}")}))


def _gpus(device: str) -> int:
    if not device.startswith("cuda"):
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def _until(stages: list[Stage], last: str | None) -> list[Stage]:
    """Leave out the stages behind `last`, of which there may be several, or none in this run."""
    if last is None:
        return stages
    wanted = STAGES[: STAGES.index(last) + 1]
    return [stage for stage in stages if stage.name.split()[0] in wanted]


def _describe(options: RunOptions, stages: list[Stage], ledger: Ledger) -> None:
    from distill.plan import describe_plan
    from sidestep.pipeline.stages import plan

    for number, (stage, state) in enumerate(plan(stages, ledger), 1):
        click.echo(f"{number}. {stage.name}: {stage.about} ({state})")
    click.echo(f"into {options.out / 'model'}")
    exports = [asdict(one) for one in options.exports]
    click.echo(json.dumps(exports))
    click.echo(describe_plan(options.teacher, len(options.prompts), options.distil))
