"""A trained network as a graph of ONNX's operators, and whether it computes the same.

The graph takes bytes and normalizes them itself: ``images``, uint8 ``(N, C, H, W)`` of 0..255, to
``scores`` and ``probabilities``, float32 ``(N, K)``, whatever N. It computes in float32, also what
was trained in float64: onnxruntime has no other convolution for the processor. Operators and their
versions: https://onnx.ai/onnx/operators/.

Only this module imports onnx and onnxruntime, and it is imported only where a network is exported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import convexp
from convexp import layers
from convexp.datasets.dataset import Images
from convexp.inference import Classifier, softmax
from convexp.layers import Layer
from convexp.models.network import IMAGES
from convexp.ops.shapes import Array, as_pair

LEAST_OPSET = 13
"""The earliest version of the operators in which all that is used here means what it does today."""

SCORES, PROBABILITIES = "scores", "probabilities"
TOLERANCE = 1e-4
"""The largest difference of two scores that counts as rounding, as a fraction of the largest."""

IMAGES_TO_COMPARE = 16


class Graph:
    """Collects the nodes and constants of a graph.

    Args:
        opset: the version of the operators.

    Attributes:
        scope: begins the names of what is added; the layer's name.
    """

    def __init__(self, opset: int) -> None:
        self.opset, self.scope = opset, ""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and give back the name of its output."""
        name = f"{self.scope}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any) -> str:
        """Add an array, floating-point numbers as float32, and give back its name."""
        array = np.ascontiguousarray(values)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        full = f"{self.scope}.{name}"
        self.constants.append(numpy_helper.from_array(array, full))
        return full


def as_onnx(classifier: Classifier, *, opset: int, notes: Mapping[str, str]) -> bytes:
    """The bytes of an ``.onnx`` file.

    Args:
        classifier: the network with its normalization and the names of its classes, which become
            the property ``class_names``, a list in JSON.
        opset: the version of ONNX's operators.
        notes: what else is to be known of it: further properties.

    Raises:
        ValueError: a layer has no translation, or there is no such version of the operators.
    """
    latest = onnx.defs.onnx_opset_version()
    if not LEAST_OPSET <= opset <= latest:
        raise ValueError(
            f"there is no opset {opset}; possible: {LEAST_OPSET} to {latest}, the latest of the "
            f"installed onnx {onnx.__version__}"
        )
    network, graph = classifier.model, Graph(opset)
    outputs = {IMAGES: _normalized(graph, classifier)}
    for name, layer in network.layers.items():
        graph.scope = name
        inputs = [outputs[source] for source in network.inputs[name]]
        outputs[name] = _translation(name, layer)(graph, layer, *inputs)
    graph.scope = "output"
    graph.nodes.append(helper.make_node("Identity", [outputs[name]], [SCORES], name=SCORES))
    probable = helper.make_node("Softmax", [SCORES], [PROBABILITIES], name=PROBABILITIES, axis=1)
    graph.nodes.append(probable)

    K = len(classifier.class_names)
    images = (IMAGES, TensorProto.UINT8, ["N", *classifier.input_shape])
    results = [(result, TensorProto.FLOAT, ["N", K]) for result in (SCORES, PROBABILITIES)]
    made = helper.make_graph(
        graph.nodes,
        "convexp",
        [helper.make_tensor_value_info(*images)],
        [helper.make_tensor_value_info(*result) for result in results],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        made,
        opset_imports=opsets,
        # The oldest format that has these operators, which the most programs read.
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="convexp",
        producer_version=convexp.__version__,
    )
    names = json.dumps(list(classifier.class_names), ensure_ascii=False)
    helper.set_model_props(model, {"class_names": names, **notes})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def compare(classifier: Classifier, exported: bytes) -> float:
    """How far the exported network is from its original, on random images.

    They are compared on noise and on coarse squares of colour, together and one alone.

    Args:
        classifier: the original.
        exported: of `as_onnx`.

    Returns:
        The largest difference between two scores, as a fraction of the largest score.

    Raises:
        ValueError: scores or probabilities differ beyond rounding, or are not finite, or
            onnxruntime cannot run the graph.
    """
    images = _random(classifier.input_shape)
    scores = classifier.scores(images)
    if not np.isfinite(scores).all():
        raise ValueError("the network's own scores of random images are not finite")
    largest = float(np.abs(scores).max()) or 1.0
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the kernels' pool is the only one
    options.log_severity_level = 4  # what is wrong is an exception, too
    try:
        session = onnxruntime.InferenceSession(
            exported, options, providers=["CPUExecutionProvider"]
        )
        difference = 0.0
        for some in (slice(None), slice(1)):
            theirs, likely = session.run([SCORES, PROBABILITIES], {IMAGES: images[some]})
            # Not max(), to which a NaN is no larger than anything.
            apart = np.abs(theirs - scores[some]).max() / largest
            unlikely = np.abs(likely - softmax(theirs)).max()
            difference = float(np.max([difference, apart, unlikely]))
    except Exception as error:  # its own kinds are known by name only
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"onnxruntime {onnxruntime.__version__} cannot run it: {reason}"
        ) from error
    if not difference <= TOLERANCE:
        raise ValueError(
            f"the exported network is not the same: its scores of random images differ by "
            f"{difference:.1e} of the largest, and rounding explains {TOLERANCE:.0e}"
        )
    return difference


def _random(shape: tuple[int, ...]) -> Images:
    C, H, W = shape
    rng = np.random.default_rng(0)
    half = IMAGES_TO_COMPARE // 2
    noise = rng.integers(0, 256, (half, C, H, W), dtype=np.uint8)
    coarse = rng.integers(0, 256, (half, C, -(-H // 4), -(-W // 4)), dtype=np.uint8)
    squares = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, :H, :W]
    return np.concatenate([squares, noise])


def _normalized(graph: Graph, classifier: Classifier) -> str:
    graph.scope = "normalization"
    x = graph.add("Cast", IMAGES, to=TensorProto.FLOAT)
    mean, std = classifier.normalization.mean, classifier.normalization.std
    if mean.any():
        x = graph.add("Sub", x, graph.constant("mean", _short(mean)))
    if (std != 1).any():
        x = graph.add("Div", x, graph.constant("std", _short(std)))
    return x


def _short(image: Array) -> Array:
    """``(C, 1, 1)`` of ``(C, H, W)``, where a channel has the same value everywhere."""
    one = image[:, :1, :1]
    return one if (image == one).all() else image


def _translation(name: str, layer: Layer) -> Callable[..., str]:
    # Of this very class: what is derived from it may compute something else.
    if type(layer) not in TRANSLATIONS:
        known = ", ".join(sorted(kind.__name__ for kind in TRANSLATIONS))
        raise ValueError(
            f"the layer '{name}' is a {type(layer).__name__}, which cannot be exported; "
            f"possible: {known}"
        )
    return TRANSLATIONS[type(layer)]


def _conv(graph: Graph, layer: layers.Conv, x: str) -> str:
    arrays = [graph.constant(key, array) for key, array in layer.parameters.items()]
    pads = as_pair(layer.pad, "pad", least=0) * 2  # above, left, below, right
    strides = as_pair(layer.stride, "stride", least=1)
    return graph.add("Conv", x, *arrays, strides=strides, pads=pads)


def _conv_relu(graph: Graph, layer: layers.ConvReLU, x: str) -> str:
    return graph.add("Relu", _conv(graph, layer, x))


def _conv_relu_pool(graph: Graph, layer: layers.ConvReLUPool, x: str) -> str:
    y = graph.add("Relu", _conv(graph, layer, x))
    return _pool(graph, "MaxPool", y, layer.pool_size, layer.pool_stride)


def _whitening(graph: Graph, layer: layers.Whitening, x: str) -> str:
    w, b = graph.constant("w", layer.state["w"]), graph.constant("b", layer.parameters["b"])
    return graph.add("Conv", x, w, b)


def _pool(graph: Graph, operator: str, x: str, size: Any, stride: Any) -> str:
    """What is left over at the right and below, where windows do not tile, is in none."""
    window, strides = as_pair(size, "size", least=1), as_pair(stride, "stride", least=1)
    return graph.add(operator, x, kernel_shape=window, strides=strides)


def _affine(graph: Graph, layer: layers.Affine, x: str) -> str:
    arrays = [graph.constant(key, array) for key, array in layer.parameters.items()]
    return graph.add("Gemm", x, *arrays)


def _batchnorm(graph: Graph, layer: layers.BatchNorm, x: str) -> str:
    mean, var = layer.state["mean"], layer.state["var"]
    gamma = layer.parameters.get("gamma", np.ones_like(mean))
    beta = layer.parameters.get("beta", np.zeros_like(mean))
    arrays = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
    constants = [graph.constant(key, array) for key, array in arrays.items()]
    return graph.add("BatchNormalization", x, *constants, epsilon=layer.eps)


def _batchnorm_relu(graph: Graph, layer: layers.SpatialBatchNormReLU, x: str) -> str:
    return graph.add("Relu", _batchnorm(graph, layer, x))


def _row_norm(graph: Graph, layer: layers.LayerNorm | layers.GroupNorm, x: str) -> str:
    """Each group as a channel that is normalized by itself; then the layer's own scales."""
    groups, shape = layer.num_groups, layer.output_shape
    rows = graph.constant("rows", np.array([0, groups, int(np.prod(shape)) // groups]))
    ones, zeros = graph.constant("ones", np.ones(groups)), graph.constant("zeros", np.zeros(groups))
    y = graph.add("Reshape", x, rows)
    y = graph.add("InstanceNormalization", y, ones, zeros, epsilon=layer.eps)
    y = graph.add("Reshape", y, graph.constant("shape", np.array([0, *shape])))
    gamma, beta = (layer.spread(layer.parameters[key]) for key in ("gamma", "beta"))
    y = graph.add("Mul", y, graph.constant("gamma", gamma))
    return graph.add("Add", y, graph.constant("beta", beta))


def _gelu(graph: Graph, layer: layers.GELU, x: str) -> str:
    if graph.opset >= 20:
        return graph.add("Gelu", x)
    # x * Phi(x) = x / 2 * (1 + erf(x / sqrt(2)))
    erf = graph.add("Erf", graph.add("Mul", x, graph.constant("inner", np.array(2**-0.5))))
    above = graph.add("Add", erf, graph.constant("one", np.array(1.0)))
    return graph.add("Mul", graph.add("Mul", x, graph.constant("half", np.array(0.5))), above)


def _scale(graph: Graph, layer: layers.Scale, x: str) -> str:
    return graph.add("Mul", x, graph.constant("factor", np.array(float(layer.factor))))


TRANSLATIONS: dict[type[Layer], Callable[..., str]] = {
    layers.Add: lambda graph, _, *x: graph.add("Sum", *x),
    layers.Affine: _affine,
    layers.AvgPool: lambda graph, p, x: _pool(graph, "AveragePool", x, p.size, p.stride),
    layers.BatchNorm: _batchnorm,
    layers.Concatenate: lambda graph, _, *x: graph.add("Concat", *x, axis=1),
    layers.Conv: _conv,
    layers.ConvReLU: _conv_relu,
    layers.ConvReLUPool: _conv_relu_pool,
    layers.Dropout: lambda _graph, _, x: x,  # in evaluation it changes nothing
    layers.Flatten: lambda graph, _, x: graph.add("Flatten", x, axis=1),
    layers.GELU: _gelu,
    layers.GlobalAvgPool: lambda graph, _, x: graph.add(
        "Flatten", graph.add("GlobalAveragePool", x), axis=1
    ),
    layers.GroupNorm: _row_norm,
    layers.LayerNorm: _row_norm,
    layers.MaxPool: lambda graph, p, x: _pool(graph, "MaxPool", x, p.size, p.stride),
    layers.ReLU: lambda graph, _, x: graph.add("Relu", x),
    layers.Scale: _scale,
    layers.SpatialBatchNorm: _batchnorm,
    layers.SpatialBatchNormReLU: _batchnorm_relu,
    layers.Whitening: _whitening,
}
"""How each kind of layer is written: ``(graph, layer, *inputs) -> output``, by names."""
