from convexp.ops.shapes import Array

def sgd(p: Array, g: Array, *, rate: float) -> None: ...
def momentum(p: Array, g: Array, v: Array, *, rate: float, momentum: float) -> None: ...
def nesterov(p: Array, g: Array, v: Array, *, rate: float, momentum: float) -> None: ...
def rmsprop(p: Array, g: Array, s: Array, *, rate: float, decay: float, eps: float) -> None: ...
def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    weight_decay: float,
) -> None: ...
def penalty(w: Array, dw: Array, *, reg: float) -> float: ...
