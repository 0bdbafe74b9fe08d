from typing import NamedTuple

from convexp.ops.shapes import Array, Pair

class Cache(NamedTuple):
    x: Array
    w: Array
    b: Array
    stride: Pair
    pad: Pair

def isa() -> str: ...
def forward(x: Array, w: Array, b: Array, *, stride: Pair, pad: Pair) -> tuple[Array, Cache]: ...
def backward(
    dy: Array, cache: Cache, *, need_dx: bool = True, need_dw: bool = True
) -> tuple[Array | None, Array | None, Array | None]: ...
