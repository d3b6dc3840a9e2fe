"""`sidestep bench ablation`."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import writable_file
from sidestep.errors import InvalidRequest, needing


@click.command()
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    required=True,
    help="A teacher of emoji; prompts in its held-out.txt are judged apart, as it never saw them.",
)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    required=True,
    help="Training prompts, a line each.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs/ablation"),
    show_default=True,
    help="Folder of the trainings; the same command again goes on where it stopped.",
)
@click.option("--cases", default="", help="Some of the cases, separated by commas.  [default: all]")
@click.option(
    "--real-images",
    type=click.Path(path_type=Path),
    help="Folder of pictures, or of `sidestep data emoji`, for the adversarial cases.",
)
@click.option(
    "--images-seen", type=click.IntRange(32), help="By each student in training.  [default: 3840]"
)
@click.option(
    "--images", type=click.IntRange(4), default=1000, show_default=True, help="Judged of each."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=writable_file,
    help="Write the report here, as JSON, and a grid of pictures beside it.",
)
def command(
    teacher: Path,
    prompts: Path,
    runs: Path,
    cases: str,
    real_images: Path | None,
    images_seen: int | None,
    images: int,
    out: Path | None,
) -> None:
    """Distil a student for each strategy, timestep, batch and number format, and judge them all.

    The paper's Figures 3, 4, 5 and 10 and its Table 3 in miniature, and what its authors have gone
    on to: several steps, the adversarial term, Zero-CFG. Hours on a CPU.
    """
    with needing("eval"):
        from bench import ablation
        from bench.markdown import report_text
        from bench.quality.evaluate import EvaluateOptions
        from distill.measure import known_guidance
        from distill.prompts import read_prompts
        from sidestep.model_folder import HELD_OUT
    names = [name for name in cases.split(",") if name] or ablation.names(real_images)
    if unknown := [name for name in names if name not in ablation.CASES]:
        raise InvalidRequest(
            f"{unknown[0]!r} is no case; there are {', '.join(ablation.CASES)}", field="cases"
        )
    names = list(dict.fromkeys(["lsg1.5", *names]))  # which all others are compared with
    models = ablation.train(
        teacher,
        read_prompts(prompts).texts,
        runs,
        names,
        images=images_seen or ablation.IMAGES_SEEN,
        real_images=real_images,
    )
    guidance = known_guidance(teacher)
    held_out = teacher / HELD_OUT
    options = EvaluateOptions(
        images=images,
        engine="pytorch",
        start=True,
        guidance=guidance,
        held_out=held_out if held_out.is_file() else None,
    )
    qualities = ablation.judge(models, runs / "pictures", options)
    timed = {name: model for name, model in models.items() if name in ablation.timed(names)}
    report = ablation.report(qualities, ablation.engine_ms(timed))
    click.echo(report_text(report))  # first: it costs nothing, and writing may fail
    if out:
        report.write(out)
        ablation.save_pictures(models, out.with_name(f"{out.stem}-samples.png"))
