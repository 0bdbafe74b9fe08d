from typing import NamedTuple

from convexp.ops.shapes import Array

class Cache(NamedTuple):
    x: Array
    w: Array

def forward(x: Array, w: Array, b: Array) -> tuple[Array, Cache]: ...
def backward(
    dy: Array, cache: Cache, *, need_dx: bool = True, need_dw: bool = True
) -> tuple[Array | None, Array | None, Array | None]: ...
