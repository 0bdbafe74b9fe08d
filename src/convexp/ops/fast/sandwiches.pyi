from typing import Any

from convexp.ops.shapes import Array, Pair

def conv_relu_forward(
    x: Array, w: Array, b: Array, *, stride: Pair, pad: Pair
) -> tuple[Array, Any]: ...
def conv_relu_backward(
    dy: Array, cache: Any, *, need_dx: bool = True, need_dw: bool = True
) -> tuple[Array | None, Array | None, Array | None]: ...
def conv_relu_pool_forward(
    x: Array,
    w: Array,
    b: Array,
    *,
    stride: Pair,
    pad: Pair,
    size: Pair,
    pool_stride: Pair,
) -> tuple[Array, Any]: ...
def conv_relu_pool_backward(
    dy: Array, cache: Any, *, need_dx: bool = True, need_dw: bool = True
) -> tuple[Array | None, Array | None, Array | None]: ...
