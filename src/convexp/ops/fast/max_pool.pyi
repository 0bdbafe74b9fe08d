from typing import Any, NamedTuple

import numpy as np

from convexp.ops.shapes import Array, Pair

class Cache(NamedTuple):
    where: np.ndarray[Any, np.dtype[Any]]
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    size: Pair
    stride: Pair

def forward(x: Array, *, size: Pair, stride: Pair) -> tuple[Array, Cache]: ...
def backward(dy: Array, cache: Cache) -> Array: ...
