"""`sidestep export`: a model folder gains an engine, or stays as it was."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from export.certificate import Certificate, certify, write_certificate
from export.onnx import export_onnx
from export.shared_weights import share_weights
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.torch_module import load_module
from sidestep.model_folder import CERTIFICATE, ONNX, WEIGHTS, ModelFolder, write_card
from sidestep.tokenizer import PromptTokenizer


def export_model(folder: ModelFolder, *, share: bool = False) -> Certificate:
    """Write `onnx/` with its certificate; if it fails, the folder is left as it was.

    share: let the graph read the weights that it uses unchanged from the folder's safetensors
    files, so that they lie on disk once; the graph then needs the folder around it
    Raises CertificateFailed if the graph's pictures are not the reference's.
    """
    with tqdm(total=3, desc="load", unit="stage") as stages:
        reference = load_module(folder)
        tokenizer = PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
        with tempfile.TemporaryDirectory(dir=folder.path, prefix=".export-") as temporary:
            stages.set_description("export ONNX")
            stages.update()
            graph = Path(temporary) / ONNX
            graph.parent.mkdir()
            export_onnx(reference, folder.card, graph)
            weights = [f for f in folder.files_under(*WEIGHTS) if f.endswith(".safetensors")]
            shares = share_weights(graph, folder.path, weights) if share else []
            stages.set_description("certify")
            stages.update()
            certificate = certify(reference, OnnxRuntimeEngine(folder, graph=graph), tokenizer)
            write_certificate(Path(temporary) / CERTIFICATE, certificate)
            shutil.rmtree(folder.path / "onnx", ignore_errors=True)
            graph.parent.rename(folder.path / "onnx")
        write_card(folder.path, replace(folder.card, onnx_shares=tuple(shares)))
        stages.set_description("done")
        stages.update()
    return certificate
