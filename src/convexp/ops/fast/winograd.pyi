from convexp.ops.fast.conv import Pool, Winners
from convexp.ops.shapes import Array

def forward(
    x: Array,
    w: Array,
    b: Array,
    y: Array,
    *,
    stride: tuple[int, int],
    pad: tuple[int, int],
    rectify: bool,
    pool: Pool | None = None,
    winners: Winners | None = None,
) -> bool: ...
def input_gradient(
    dy: Array, w: Array, dx: Array, *, stride: tuple[int, int], pad: tuple[int, int]
) -> bool: ...
def weight_gradient(
    dy: Array,
    x: Array,
    dw: Array,
    db: Array,
    *,
    stride: tuple[int, int],
    pad: tuple[int, int],
) -> bool: ...
