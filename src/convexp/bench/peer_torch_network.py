"""A network in PyTorch: the same layers and weights as ours, trained as PyTorch does it, eager."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its own documentation's name)
from torch import nn

from convexp import layers
from convexp.bench.cases import UnsupportedError, sequential
from convexp.losses import Labels
from convexp.models import Network
from convexp.ops.shapes import Array
from convexp.plugins import naive


def tensor(array: Any, form: torch.memory_format) -> torch.Tensor:
    """A tensor of the array's values; images in that memory format."""
    made = torch.from_numpy(array)
    return made.contiguous(memory_format=form) if made.ndim == 4 else made


class Trained:
    """A `convexp.bench.networks.Network` in PyTorch, with the weights that ours starts from.

    Args:
        form: of images and filters.
        values: of the case.
    """

    def __init__(self, form: torch.memory_format, values: dict[str, Any]) -> None:
        ours = sequential(values, naive.ops)
        self.form = form
        self.net = as_torch(ours).to(memory_format=form)
        self.optimizer = _faster_adam(self.net, ours, values["optimizer"])

    def put(self, x: Array, labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Tensors, the images in the network's memory format."""
        return tensor(x, self.form), torch.from_numpy(labels.astype(np.int64))

    def step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
        """An ordinary step."""
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        value: float = loss.item()
        return value

    def predict(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """The scores, without autograd."""
        self.net.eval()
        with torch.inference_mode():
            return self.net(batch[0])

    def held(self) -> int:
        """Bytes of parameters, running averages and the optimizer's averages."""
        states = self.optimizer.state.values()
        averages = [t for state in states for t in state.values() if t.ndim > 0]
        tensors = [*self.net.parameters(), *self.net.buffers(), *averages]
        return sum(t.numel() * t.element_size() for t in tensors)


def as_torch(model: Network) -> nn.Sequential:
    """The same network, with copies of the weights and of what is kept with them.

    Raises:
        UnsupportedError: it has a layer that is not known here.
    """
    modules: list[nn.Module] = []
    for name, layer in model.layers.items():
        p, state = (
            {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
            for arrays in (layer.parameters, layer.state)
        )
        match layer:
            case layers.Conv():
                F_, C, HH, WW = p["w"].shape
                made = nn.Conv2d(C, F_, (HH, WW), stride=layer.stride, padding=layer.pad)
                modules.append(_with(made, weight=p["w"], bias=p.get("b")))
                if isinstance(layer, (layers.ConvReLU, layers.ConvReLUPool)):
                    modules.append(nn.ReLU(inplace=True))
                if isinstance(layer, layers.ConvReLUPool):
                    modules.append(nn.MaxPool2d(layer.pool_size, layer.pool_stride))
            case layers.Affine():
                linear = nn.Linear(*p["w"].shape)
                modules.append(_with(linear, weight=p["w"].T.contiguous(), bias=p.get("b")))
            case layers.Whitening():
                F_, C, HH, WW = state["w"].shape
                modules.append(_with(nn.Conv2d(C, F_, (HH, WW)), weight=state["w"], bias=p["b"]))
                modules[-1].get_parameter("weight").requires_grad_(False)
            case layers.BatchNorm():
                spatial = isinstance(layer, layers.SpatialBatchNorm)
                kind = nn.BatchNorm2d if spatial else nn.BatchNorm1d
                norm = kind(len(state["mean"]), eps=layer.eps, momentum=1 - layer.momentum)
                norm.running_mean, norm.running_var = state["mean"], state["var"]
                # Without a weight or a bias it multiplies by or adds nothing.
                modules.append(_with(norm, weight=p.get("gamma"), bias=p.get("beta")))
                if isinstance(layer, layers.SpatialBatchNormReLU):
                    modules.append(nn.ReLU(inplace=True))
            case layers.LayerNorm():
                norm = nn.LayerNorm(layer.output_shape, eps=layer.eps)
                modules.append(_with(norm, weight=p["gamma"], bias=p["beta"]))
            case layers.GroupNorm():
                norm = nn.GroupNorm(layer.num_groups, len(p["gamma"]), eps=layer.eps)
                modules.append(_with(norm, weight=p["gamma"], bias=p["beta"]))
            case layers.AvgPool():
                modules.append(nn.AvgPool2d(layer.size, layer.stride))
            case layers.GlobalAvgPool():
                modules.extend((nn.AdaptiveAvgPool2d(1), nn.Flatten()))
            case layers.MaxPool():
                modules.append(nn.MaxPool2d(layer.size, layer.stride))
            case layers.ReLU():
                modules.append(nn.ReLU(inplace=True))
            case layers.GELU():
                modules.append(nn.GELU())
            case layers.Dropout():
                modules.append(nn.Dropout(layer.rate))
            case layers.Scale():
                modules.append(_Scale(layer.factor))
            case layers.Flatten():
                modules.append(nn.Flatten())
            case _:
                raise UnsupportedError(f"the layer {name} is not translated to PyTorch")
    return nn.Sequential(*modules)


class _Scale(nn.Module):  # type: ignore[misc]  # of which mypy knows nothing
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def _with(module: Any, **values: torch.Tensor | None) -> nn.Module:
    """The module with these parameters; without those that are None."""
    for name, value in values.items():
        setattr(module, name, None if value is None else nn.Parameter(value))
    return module


def _faster_adam(net: nn.Module, ours: Network, node: dict[str, Any]) -> torch.optim.Adam:
    """Adam in that of its two implementations which updates this network the faster.

    Raises:
        UnsupportedError: the optimizer is another.
    """
    more = ("weight_decay", "clip_norm", "rates", "trained_until")
    if node["_target_"].rpartition(".")[2] != "Adam" or any(node[key] for key in more):
        raise UnsupportedError("PyTorch's step is made with plain Adam only")
    trained = [p for p in net.parameters() if p.requires_grad]
    # Matrices and filters are the weights, which the penalty is on.
    products = [m.weight for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    weights = [p for p in trained if any(p is w for w in products)]
    others = [p for p in trained if not any(p is w for w in products)]
    decays = [(weights, ours.reg), (others, 0.0)]
    betas = node["beta1"], node["beta2"]

    def adam(rate: float, **kind: bool) -> torch.optim.Adam:
        groups = [{"params": some, "weight_decay": decay} for some, decay in decays]
        return torch.optim.Adam(groups, rate, betas, node["eps"], **kind)

    def seconds(kind: str) -> float:
        trial = adam(0.0, **{kind: True})  # which moves nothing
        times = []
        for _ in range(5):
            start = perf_counter()
            trial.step()
            times.append(perf_counter() - start)
        return min(times)

    for p in trained:
        p.grad = torch.ones_like(p)
    faster = min(("foreach", "fused"), key=seconds)
    for p in trained:
        p.grad = None
    return adam(node["learning_rate"], **{faster: True})
