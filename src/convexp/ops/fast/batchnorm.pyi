from typing import NamedTuple

from convexp.ops.shapes import Array

class Cache(NamedTuple):
    x: Array
    gamma: Array
    beta: Array
    mean: Array
    inv_std: Array

def forward(
    x: Array, gamma: Array, beta: Array, *, eps: float
) -> tuple[Array, tuple[Array, Array], Cache]: ...
def backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]: ...
def spatial_forward(
    x: Array, gamma: Array, beta: Array, *, eps: float
) -> tuple[Array, tuple[Array, Array], Cache]: ...
def spatial_backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]: ...
def spatial_relu_forward(
    x: Array, gamma: Array, beta: Array, *, eps: float
) -> tuple[Array, tuple[Array, Array], Cache]: ...
def spatial_relu_backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]: ...
