"""A `.tflite` without what no interpreter reads twice: names, and vectors that are equal.

Less than half of a quantized file of a deep small network is weights. Zero points, 8 bytes for every channel
of every kernel and bias and all of them 0, and the names of tensors, each a list of the layers that were
fused into it, take the rest. Equal vectors are stored once, which a flatbuffer allows; the names go, but for
those of inputs and outputs. What the file computes is not touched.
"""

from typing import Any

import flatbuffers
import numpy as np

IDENTIFIER = b"TFL3"


class SharingBuilder(flatbuffers.Builder):
    """Writes a vector that it has written before as a reference to the first one."""

    def __init__(self) -> None:
        super().__init__(1024)
        self.written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        """The offset of a vector with these values."""
        key = (x.dtype.str, x.tobytes())
        if key not in self.written:
            self.written[key] = super().CreateNumpyVector(x)
        return self.written[key]


def compact(model: bytes) -> bytes:
    """The same `.tflite` in fewer bytes, with every constant inside its flatbuffer.

    `litert-quantizer` puts constants of 1 KB and more behind it. TensorFlow Lite Micro does not look there:
    it takes them for scratch memory, and computes with whatever that holds.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    for buffer in parsed.buffers:
        if buffer.offset:
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    for graph in parsed.subgraphs:
        ends = {*graph.inputs, *graph.outputs}
        for i, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name if i in ends else None
            if tensor.quantization is not None:
                _as_arrays(tensor.quantization)
    builder = SharingBuilder()
    builder.Finish(parsed.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _as_arrays(quantization: Any) -> None:
    """Scales and zero points as arrays, which are written whole and so can be shared."""
    for name, kind in (("scale", np.float32), ("zeroPoint", np.int64)):
        values = getattr(quantization, name)
        if values is not None:
            setattr(quantization, name, np.asarray(values, kind))
