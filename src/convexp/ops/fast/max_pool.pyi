from typing import NamedTuple

from convexp.ops.shapes import Array, Pair

class Cache(NamedTuple):
    x: Array
    size: Pair
    stride: Pair

def forward(x: Array, *, size: Pair, stride: Pair) -> tuple[Array, Cache]: ...
def backward(dy: Array, cache: Cache) -> Array: ...
