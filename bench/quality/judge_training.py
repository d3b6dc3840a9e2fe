"""Train the judge: a contrastive encoder of emoji and their names (CLIP, Radford et al., 2021).

A twentieth of the pictures is left out, to tell how well it knows what it has not seen. A third of
the others is spoiled and captioned so ("red apple, noto, blurred"): a judge that overlooked blur
would find a blurred set as good as a sharp one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from bench.quality.judge import CONFIG, REFERENCE, TOLD, WEIGHTS, Judge, Reference
from bench.quality.judge_data import Labelled, all_captions, draw_batch
from bench.quality.protocol import halves, make_plan
from bench.quality.ranking import rank
from bench.quality.similarity import rank_of_own
from bench.quality.spoiling import blur_least
from distill.captions import train_bpe
from distill.checkpoints import Checkpoint
from distill.draws import generator
from distill.emoji_sources import styled
from distill.progress import Progress
from distill.rates import cosine, set_rate
from sidestep.errors import InvalidData
from sidestep.files import atomic_folder, sha256, write_json
from sidestep.tokenizer import PromptTokenizer

TOKENS = 24  # the longest caption has 20
VOCABULARY = 2048
SAVE_EVERY = 250  # steps
BLURRED = 1200  # real pictures that are also kept blurred: more than are judged by default
SHARPEST = 4.6  # log of the logits' largest scale, 100, as in CLIP


@dataclass(frozen=True)
class JudgeOptions:
    """How the judge is built and trained.

    features: D; width: channels of the first stage, of which the last has 32 times as many
    spoiled: share of the pictures that are spoiled, and captioned so
    made: share of the pictures that are recoloured or pairs, where there are any
    styles_each: pictures of one name in a batch, of different styles
    """

    features: int = 96
    width: int = 16
    layers: tuple[int, int, int, int] = (1, 2, 2, 1)
    text_width: int = 96
    text_layers: int = 2
    size_px: int = 64
    steps: int = 1000
    batch: int = 128
    styles_each: int = 2
    spoiled: float = 0.33
    made: float = 0.5
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    seed: int = 0


def train_judge(
    data: Labelled, run: Path, out: Path, options: JudgeOptions, made: Sequence[Labelled] = ()
) -> dict[str, Any]:
    """Train and write the judge's folder `out`; returns what its `judge.json` tells.

    data: the real pictures; made: what it also learns, which is no part of the reference
    Resumes from `run/state-*.safetensors`. Raises InvalidData for pictures of another size, and
    InvalidTraining if the run was begun with others.
    """
    if (found := data.pictures.shape[1]) != options.size_px:
        raise InvalidData(
            f"the pictures have {found} pixels per side, the judge sees {options.size_px}; "
            f"run: sidestep data emoji --size {options.size_px}"
        )
    words = run / "tokenizer"
    captions = sorted({text for part in (data, *made) for text in all_captions(part)})
    train_bpe(captions, words, vocab_size=VOCABULARY, max_tokens=TOKENS)
    tokenizer = PromptTokenizer(words, length=TOKENS)
    network = new_network(options, vocabulary=tokenizer.end + 1)
    _train(network, tokenizer, _shares(data, made, options), run, options)
    network.half().float().eval().requires_grad_(False)  # as its file will give it back
    judge = Judge(network, tokenizer, size_px=options.size_px)
    first = halves(len(data.names))[0][:BLURRED]
    seen, blurred = judge.see(data.pictures), judge.see(blur_least(data.pictures[first]))
    reference = Reference(seen, data.names, data.styles, data.test, blurred)
    plan = make_plan(reference, images=len(first), held_out=[], diverse=[])
    told = {
        "options": asdict(options),
        "measured": examine(judge, data, made),
        "ranking": asdict(rank(judge, plan)),
    }
    with atomic_folder(out) as new:
        write_json(new / CONFIG, config(options, vocabulary=tokenizer.end + 1))
        save_file(_halves(network), new / WEIGHTS)
        (new / WEIGHTS).chmod(0o644)  # safetensors lets its writer alone read them
        shutil.copytree(words, new / "tokenizer")
        reference.save(new / REFERENCE)
        write_json(new / TOLD, told)
    return told


def config(options: JudgeOptions, *, vocabulary: int) -> dict[str, Any]:
    """Describe the network as open_clip does: a small ResNet and a small causal transformer."""
    vision = {
        "image_size": options.size_px,
        "layers": list(options.layers),
        "width": options.width,
    }
    text = {
        "context_length": TOKENS,
        "vocab_size": vocabulary,
        "width": options.text_width,
        "heads": 4,
        "layers": options.text_layers,
    }
    return {
        "model_cfg": {"embed_dim": options.features, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": [0.0] * 3, "std": [1.0] * 3, "size": options.size_px},
    }


def new_network(options: JudgeOptions, *, vocabulary: int) -> Any:
    """Build an untrained open_clip dual encoder."""
    torch.manual_seed(options.seed)
    return open_clip.CLIP(**config(options, vocabulary=vocabulary)["model_cfg"])


def contrastive_loss(logits: Tensor, match: Tensor) -> Tensor:
    """Mean cross entropy of pictures and of texts against all that are true of them.

    logits, match: [B, B], pictures by texts; where a batch shows a name twice, a picture has two
    true texts or more, which share its probability (UniCL, Yang et al., 2022)
    """
    losses = []
    for scores, target in ((logits, match), (logits.T, match.T)):
        share = target / target.sum(dim=1, keepdim=True)
        losses.append(-(share * scores.log_softmax(dim=1)).sum(dim=1).mean())
    return (losses[0] + losses[1]) / 2


def examine(judge: Judge, data: Labelled, made: Sequence[Labelled] = ()) -> dict[str, Any]:
    """Measure on the test pictures how often the right name is the first, or in the first five.

    Of all names, without style; and how often the right style is the first for the right name.
    Of what is made, among all names and those of its own kind.
    """
    test = np.flatnonzero(data.test)
    names, styles = sorted(set(data.names)), sorted(set(data.styles))
    seen = judge.see(data.pictures[test])
    own = np.array([names.index(data.names[index]) for index in test])
    ranks = rank_of_own(seen, judge.read(names), own)
    said = [styled(data.names[index], style) for index in test for style in styles]
    by_style = judge.read(said).reshape(len(test), len(styles), -1)
    chosen = np.einsum("nd,nsd->ns", seen, by_style).argmax(axis=1)
    right = [styles[c] == data.styles[index] for c, index in zip(chosen, test, strict=True)]
    return {
        "pictures": len(data.names),
        "names": len(names),
        "test_pictures": len(test),
        "top1": round(float((ranks < 1).mean()), 4),
        "top5": round(float((ranks < 5).mean()), 4),
        "style_top1": round(float(np.mean(right)), 4),
        "made": [_examine_made(judge, part, names) for part in made],
    }


def _examine_made(judge: Judge, made: Labelled, real: list[str]) -> dict[str, Any]:
    names = sorted({*real, *made.names})
    where = {name: index for index, name in enumerate(names)}
    test = np.flatnonzero(made.test)
    own = np.array([where[made.names[index]] for index in test])
    ranks = rank_of_own(judge.see(made.pictures[test]), judge.read(names), own)
    return {
        "pictures": len(made.names),
        "names": len(names),
        "test_pictures": len(test),
        "top5": round(float((ranks < 5).mean()), 4),
    }


def _shares(
    data: Labelled, made: Sequence[Labelled], options: JudgeOptions
) -> list[tuple[Labelled, int]]:
    """Tell how many pictures of a batch are drawn from which."""
    each = round(options.batch * options.made / len(made)) if made else 0
    return [(data, options.batch - each * len(made)), *((part, each) for part in made)]


def _train(
    network: Any,
    tokenizer: PromptTokenizer,
    parts: Sequence[tuple[Labelled, int]],
    run: Path,
    options: JudgeOptions,
) -> None:
    weights = list(network.parameters())
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
    learned = {
        "words": sha256(run / "tokenizer" / "vocab.json"),
        "pictures": [len(part.names) for part, _ in parts],
    }
    identity = {**asdict(options), **learned}
    state = Checkpoint(run, {"judge": network}, {"adam": adam}, identity)
    network.train()
    progress = Progress(run, "judge", first=state.load(), last=options.steps, log_every=50)
    for step in progress:
        pictures, texts, match = draw_batch(
            parts,
            generator(options.seed, "judge", step),
            styles_each=options.styles_each,
            spoiled=options.spoiled,
        )
        with torch.autocast("cpu", torch.bfloat16):
            seen = network.encode_image(pictures.contiguous(memory_format=torch.channels_last))
            read = network.encode_text(torch.from_numpy(tokenizer(texts)))
        seen, read = F.normalize(seen.float(), dim=-1), F.normalize(read.float(), dim=-1)
        logits = network.logit_scale.exp() * seen @ read.T
        loss = contrastive_loss(logits, match)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        peak, warmup = options.learning_rate, options.warmup_steps
        set_rate(adam, cosine(step, peak=peak, warmup=warmup, last=options.steps))
        adam.step()
        adam.zero_grad()
        with torch.no_grad():
            network.logit_scale.clamp_(0, SHARPEST)
        right = match.gather(1, logits.argmax(dim=1, keepdim=True)).mean()
        progress.report(step, {"loss": loss.item(), "right": right.item()})
        if step % SAVE_EVERY == 0 or step == options.steps:
            state.save(step)


def _halves(network: Any) -> dict[str, Tensor]:
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    return {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
