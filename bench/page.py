"""docs/benchmarks.md: every figure that was measured, and what was not, from reports on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.markdown import report_text
from bench.plots import plot_report
from bench.reports import Report
from sidestep.errors import InvalidData
from sidestep.files import write_bytes


@dataclass(frozen=True)
class Section:
    """A part of the page: its report's file name, heading, what it shows, how to measure it."""

    name: str
    heading: str
    text: str
    command: str


_SD15 = " && ".join(
    (
        "sidestep new --arch sd15 --random --out sd15",
        "sidestep export sd15 --precision fp16",
        "sidestep export sd15 --to aoti --precision fp16",
        "sidestep export sd15 --to tensorrt --precision fp16",
        "sidestep bench engine sd15 --engine tensorrt --engine onnx-cuda --engine aoti "
        "--against diffusers,torch-compile",
    )
)
SECTIONS = (
    Section(
        "engines-cpu",
        "Engines on a CPU, beside others",
        "The embedded model, 128x128. All draw the same weights, prompts and noise, each in a "
        "process of its own, in alternating blocks of calls; peers with the best of several "
        "thread counts, torch.compile, where it is among them, with all cores. `times as long` is "
        "the ratio of medians to the first engine's. optimum-onnx wants transformers 4, so it has "
        "an environment of its own: `python -m venv .venv-optimum && .venv-optimum/bin/pip install "
        "optimum-onnx onnxruntime 'diffusers<0.40' 'transformers<5'`.",
        "sidestep export models/emoji --to openvino && "
        "sidestep bench engine --engine onnx --engine openvino --batches 1,8 "
        "--against diffusers,torch-compile,optimum --out docs/benchmarks/engines-cpu.json",
    ),
    Section(
        "http-cpu",
        "The service on a CPU",
        "`sidestep serve` with the embedded model; service and load generator share the cores.",
        "sidestep bench http --engine onnx --callers 2 --out docs/benchmarks/http-cpu.json",
    ),
    Section(
        "batching-cpu",
        "Beside BentoML's own adaptive batching",
        "`sidestep serve` and the same generator behind BentoML's `@bentoml.api(batchable=True)`, "
        "loaded by turns; `floor`: what waiting in any queue costs at least.",
        "sidestep bench batching --engine onnx --out docs/benchmarks/batching-cpu.json",
    ),
    Section(
        "distill-cpu",
        "Distillation on a CPU",
        "The embedded teacher, batches of 16. The authors' way encodes the text in every "
        "call, computes x_0 picture by picture, keeps both networks' gradients and Adam's first "
        "moment, and collects garbage after each update; each further row mends one of these.",
        "sidestep bench distill --against-authors --batch 16 --steps 2 --rounds 8 "
        "--out docs/benchmarks/distill-cpu.json",
    ),
    Section(
        "ablation-emoji",
        "What a student depends on",
        "Students of the embedded teacher after 2,560 images each; 256 pictures judged, so that "
        "distances are biased upwards. Below, ten prompts of each at seed 0.",
        "sidestep bench ablation --teacher models/emoji --prompts models/emoji/prompts.txt "
        "--images-seen 2560 --images 256 --out docs/benchmarks/ablation-emoji.json",
    ),
    Section(
        "roadmap-emoji",
        "Few steps, the adversarial term and Zero-CFG",
        "Students of the embedded teacher before this one, of 64x64, and its judge: 2,560 images "
        "each, 256 pictures judged; `10x`: ten times the authors' weight of the adversarial term. "
        "`engine_ms`: a picture by the ONNX engine, the median of all cases called in turns.",
        "sidestep bench ablation --teacher models/emoji --prompts models/emoji/prompts.txt "
        "--real-images data/emoji --cases adversarial,adversarial-10x,k2,k4,zero-cfg,"
        "zero-cfg-adversarial,zero-cfg-adversarial-10x "
        "--images-seen 2560 --images 256 --out docs/benchmarks/roadmap-emoji.json",
    ),
    Section(
        "distill-h100",
        "Distillation of Stable Diffusion 1.5 on an H100",
        "Random weights, guidance 1.5, bf16. The paper: 15 s for 1,000 images on 8 GPUs, 8.3 "
        "images/s on each. Aims: 17 images/s, and at most 24 GB with "
        "`--recompute --ema-half-life 0`.",
        "sidestep bench distill --preset sd15 --teacher sd15 --device cuda "
        "--out docs/benchmarks/distill-h100.json",
    ),
    Section(
        "engines-h100",
        "Stable Diffusion 1.5 on an H100",
        "Random weights: cost does not depend on them.",
        f"{_SD15} --out docs/benchmarks/engines-h100.json",
    ),
    Section(
        "engines-a100",
        "Stable Diffusion 1.5 on an A100",
        "Random weights: cost does not depend on them.",
        f"{_SD15} --out docs/benchmarks/engines-a100.json",
    ),
)
HEAD = """# Benchmarks

Made by `sidestep bench report {source} -o {out}` from the reports in `{source}`;
[bench-schema.json](bench-schema.json) describes them. Every figure stands with its command, machine
and date. Figures in brackets are 95% intervals, by the bootstrap, which resamples whole rounds of
calls, or blocks of neighbouring requests: neighbours resemble each other. That of a percentile
is widened to the binomial interval of the ordered samples, because the bootstrap's ends too low
among the slowest. A percentile that the sample is too small for is a dash.

- **Latency** is from prompt and noise to pixels in host memory, so a GPU has finished; `cold start`
  from the start of a process to its first picture, its files being in the page cache.
- **The floor** is the operations of the original networks divided by the largest rate of matrix
  products and convolutions that the machine showed in the same run. An exported graph may need
  fewer: constants are folded, and convolutions may be of Winograd's kind.
- **Under load** requests arrive at random (Poisson) whether or not earlier ones are answered, and
  latency counts from when a request was due. A request that is refused or fails breaks the promise
  as a late one does.
- **Speeds are invalid**, and say so, where an engine's certificate or a quality gate fails."""


def write_page(source: Path, out: Path, *, plots: bool) -> None:
    """Write the page, and a plot beside each report; raises InvalidData for a damaged report."""
    reports = read_reports(source)
    for name, report in reports.items() if plots else ():
        plot_report(report, source / f"{name}.png")
    write_bytes(out, page_text(reports, source, out).encode())


def read_reports(source: Path) -> dict[str, Report]:
    """Read every report of a folder, by file name; raises InvalidData if it is no folder."""
    if not source.is_dir():
        raise InvalidData(f"{source} is not a folder of reports")
    return {path.stem: Report.read(path) for path in sorted(source.glob("*.json"))}


def page_text(reports: dict[str, Report], source: Path, out: Path) -> str:
    """Write all sections, those without a report as not yet measured, then all other reports."""
    known = {section.name for section in SECTIONS}
    others = [Section(name, name, "", "") for name in reports if name not in known]
    folder = Path(os.path.relpath(source, out.parent))
    parts = [HEAD.format(source=source.as_posix(), out=out.as_posix())]
    for section in (*SECTIONS, *others):
        report = reports.get(section.name)
        told = report_text(report) if report else "Not yet measured."
        if section.command:
            told += f"\n\nTo measure it: `{section.command}`"
        parts += [f"## {section.heading}", section.text, told]
        for name in (section.name, f"{section.name}-samples"):
            if (source / f"{name}.png").is_file():
                parts.append(f"![{section.heading}]({(folder / name).as_posix()}.png)")
    return "\n\n".join(part for part in parts if part) + "\n"
