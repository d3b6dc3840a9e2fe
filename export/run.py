"""`sidestep export`: a model folder gains an engine, or stays as it was."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from export.certificate import Certificate, certify, write_certificate
from export.onnx import export_onnx
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.torch_module import load_module
from sidestep.files import sha256
from sidestep.model_folder import CERTIFICATE, ONNX, ModelFolder, write_card
from sidestep.tokenizer import PromptTokenizer


def export_model(folder: ModelFolder) -> Certificate:
    """Write `onnx/` with its certificate; if it fails, the folder is left as it was.

    Raises CertificateFailed if the graph's pictures are not the reference's.
    """
    with tqdm(total=3, desc="load", unit="stage") as stages:
        reference = load_module(folder)
        tokenizer = PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
        with tempfile.TemporaryDirectory(dir=folder.path, prefix=".onnx-") as temporary:
            stages.set_description("export ONNX")
            stages.update()
            (Path(temporary) / "onnx").mkdir()
            export_onnx(reference, folder.card, Path(temporary) / ONNX)
            stages.set_description("certify")
            stages.update()
            card = replace(folder.card, files={ONNX: sha256(Path(temporary) / ONNX)})
            engine = OnnxRuntimeEngine(ModelFolder(Path(temporary), card))
            certificate = certify(reference, engine, tokenizer)
            write_certificate(Path(temporary) / CERTIFICATE, certificate)
            target = folder.path / "onnx"
            shutil.rmtree(target, ignore_errors=True)
            (Path(temporary) / "onnx").rename(target)
        write_card(folder.path, folder.card)
        stages.set_description("done")
        stages.update()
    return certificate
