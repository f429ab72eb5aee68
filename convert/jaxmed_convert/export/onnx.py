"""ONNX files, through torch's exporter."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from jaxmed_convert.export.torch_program import Program

INPUT = "images"
OUTPUTS = ("probabilities", "scores")


def write_onnx(
    program: Program, path: Path, *, channels: int, metadata: Mapping[str, str]
) -> None:
    """Write a program as an ONNX file of its own, weights included.

    Its input "images" is uint8 (batch, height, width, channels), of which the first
    three may be anything; its outputs "probabilities" and "scores" are those of
    `Program.forward`.

    Args:
        program: in eval mode.
        path: of the file.
        channels: of the images.
        metadata: what the file tells about itself.
    """
    example = torch.zeros((2, 40, 48, channels), dtype=torch.uint8)
    anything = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    # Warnings are about torch's own code.
    with warnings.catch_warnings(action="ignore"):
        exported = torch.onnx.export(
            program,
            (example,),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=(anything,),
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    for node in exported.model.graph.all_nodes():
        # Where in the exporter's Python each came from, with the names of its folders.
        node.metadata_props.clear()
        node.doc_string = None
    exported.model.metadata_props.update(metadata)
    exported.save(path, external_data=False)


def open_onnx(path: Path) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Open an ONNX file in onnxruntime, on the CPU.

    Returns:
        A function from uint8 (n, h, w, c) to what `Program.forward` returns.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities, scores = session.run(list(OUTPUTS), {INPUT: images})
        return np.asarray(probabilities), np.asarray(scores)

    return run
