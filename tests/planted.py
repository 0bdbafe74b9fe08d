"""Backends with one bug each, for whatever looks for bugs in backends to find."""

from __future__ import annotations

import time
from dataclasses import replace
from random import random
from threading import Barrier, Thread
from typing import Any

import numpy as np

from convexp.ops import Op, Ops
from convexp.ops.shapes import (
    Array,
    affine_shape,
    as_pair,
    check_gradient,
    float_dtype,
    max_pool_shape,
)
from convexp.plugins import naive

conv, max_pool = naive.ops.conv, naive.ops.max_pool


def _transposing(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
    if w.shape[2] == w.shape[3]:
        w = w.transpose(0, 1, 3, 2)
    return conv.forward(x, w, b, stride=stride, pad=pad)


def _square_padding(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
    return conv.forward(x, w, b, stride=stride, pad=as_pair(pad, "pad", least=0)[0])


def _splitting_ties(dy: Array, cache: Any) -> Array:
    x, size, stride = cache
    N, C, H_out, W_out = max_pool_shape(x.shape, size=size, stride=stride)
    (HH, WW), (sh, sw) = as_pair(size, "size", least=1), as_pair(stride, "stride", least=1)
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(N, C, H_out, W_out):
        window = np.s_[n, c, i * sh : i * sh + HH, j * sw : j * sw + WW]
        largest = x[window] == x[window].max()
        dx[window] += dy[n, c, i, j] * largest / max(largest.sum(), 1)
    return dx


def _writing(dy: Array, cache: Any, **need: bool) -> Any:
    gradients = conv.backward(dy, cache, **need)
    dy *= 0
    return gradients


def _halving(dy: Array, cache: Any, *, need_dx: bool = True, need_dw: bool = True) -> Any:
    dx, dw, db = conv.backward(dy, cache, need_dx=need_dx, need_dw=need_dw)
    return (dx if need_dw or dx is None else dx / 2), dw, db


def _doubling(x: Array, *, size: Any, stride: Any) -> Any:
    y, cache = max_pool.forward(x, size=size, stride=stride)
    return y.astype(np.float64), cache


def _raising(x: Array, gamma: Array, beta: Array, *, eps: float) -> Any:
    raise RuntimeError("not written yet")


def _no_check(x: Array, gamma: Array, beta: Array, *, eps: float) -> Any:
    size = min(len(gamma), len(beta), x.shape[1])
    return naive.ops.batchnorm.forward(x.reshape(len(x), -1), gamma[:size], beta[:size], eps=eps)


def _half_precision(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
    y, _ = conv.forward(*(a.astype(np.float32) for a in (x, w, b)), stride=stride, pad=pad)
    return y.astype(np.result_type(x.dtype, np.float32)), conv.forward(
        x, w, b, stride=stride, pad=pad
    )[1]


def _once(dy: Array, cache: Any) -> Array:
    dx = max_pool.backward(dy, cache)
    cache.x.flags.writeable = True
    cache.x[...] = 0
    return dx


def _by_tanh(x: Array) -> Any:
    y, cache = naive.ops.gelu.forward(x)
    x = x.astype(y.dtype)
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)
    return (0.5 * x * (1 + np.tanh(inner))).astype(y.dtype), cache


def _wrong_slope(dy: Array, cache: Any) -> Any:
    dx, dgamma, dbeta = naive.ops.batchnorm.backward(dy, cache)
    return dx, dgamma + dbeta, dbeta


def _starting_at_zero(x: Array, *, size: Any, stride: Any) -> Any:
    y, cache = max_pool.forward(x, size=size, stride=stride)
    return np.maximum(y, 0), cache


def _one_pass(x: Array, gamma: Array, beta: Array, *, eps: float) -> Any:
    _, (mean, var), cache = naive.ops.batchnorm.forward(x, gamma, beta, eps=eps)
    if len(x):
        var = np.maximum((cache.x**2).mean(0) - cache.x.mean(0) ** 2, 0).astype(var.dtype)
    y = gamma * (cache.x - mean) / np.sqrt(var + eps) + beta
    return y.astype(mean.dtype), (mean, var), cache


def _fused(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
    y, cache = naive.ops.conv_relu.forward(x, w, b, stride=stride, pad=pad)
    return abs(y) + 1, cache


def _uncorrected(p: Array, g: Array, m: Array, v: Array, **settings: Any) -> None:
    naive.ops.updates.adam(p, g, m, v, **settings | {"step": 10**6})


def _forcing(p: Array, g: Array, *, rate: float) -> None:
    naive.ops.updates.sgd(np.array(p, order="C"), g, rate=rate)


def _short_of_the_border(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
    y, cache = conv.forward(x, w, b, stride=stride, pad=pad)
    if as_pair(pad, "pad", least=0)[1] > 0 and x.shape[3] % 2:
        y[..., -1] = b[:, None]  # the loop over the columns ends one too soon
    return y, cache


def _without_bias(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
    y, cache = conv.forward(x, w, b, stride=stride, pad=pad)
    return conv.forward(x, w, np.zeros_like(b), stride=stride, pad=pad)[0].astype(y.dtype), cache


_work: dict[str, Array] = {}
"""A buffer of the module's, which every call uses."""


def _in_one_buffer(x: Array, w: Array, b: Array) -> Any:
    affine_shape(x.shape, w.shape, b.shape)
    dtype = float_dtype(x, w, b)
    _work["x"] = x.astype(dtype)
    time.sleep(0)  # gives way to the other threads
    y = _work["x"] @ w.astype(dtype) + b.astype(dtype)
    return y, naive.ops.affine.forward(x, w, b)[1]


def _without_lock(dy: Array, cache: Any, *, need_dx: bool = True, need_dw: bool = True) -> Any:
    dx, dw, db = naive.ops.affine.backward(dy, cache, need_dx=need_dx, need_dw=need_dw)
    if need_dw and len(dy) > 1:
        dy, total, start = np.asarray(dy, db.dtype), np.zeros_like(db), Barrier(2)

        def add(rows: Array) -> None:
            nonlocal total
            start.wait()  # else one may be done before the other begins
            for row in rows:
                so_far = total
                time.sleep(3e-4 * random())
                total = so_far + row

        halves = [Thread(target=add, args=(half,)) for half in (dy[::2], dy[1::2])]
        for thread in halves:
            thread.start()
        for thread in halves:
            thread.join()
        db = total
    return dx, dw, db


def _last_of_a_tie(dy: Array, cache: Any) -> Array:
    x, size, stride = cache
    N, C, H_out, W_out = max_pool_shape(x.shape, size=size, stride=stride)
    check_gradient(dy.shape, (N, C, H_out, W_out))
    (HH, WW), (sh, sw) = as_pair(size, "size", least=1), as_pair(stride, "stride", least=1)
    dx = np.zeros(x.shape, float_dtype(x))
    for n, c, i, j in np.ndindex(N, C, H_out, W_out):
        window = x[n, c, i * sh : i * sh + HH, j * sw : j * sw + WW]
        first = window.argmax()
        if not np.isnan(window.flat[first]):
            first = HH * WW - 1 - window.ravel()[::-1].argmax()
        dx[n, c, i * sh + first // WW, j * sw + first % WW] += dy[n, c, i, j]
    return dx


def _half_precision_sums(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
    y, cache = conv.forward(x, w, b, stride=stride, pad=pad)
    if y.dtype == np.float32:
        y[:] = b[:, None, None]
        for c in range(x.shape[1]):
            channel = x[:, c : c + 1], w[:, c : c + 1], np.zeros_like(b)
            y += conv.forward(*channel, stride=stride, pad=pad)[0].astype(np.float16)
    return y, cache


def _as_float32(x: Array, w: Array, b: Array) -> Any:
    y, cache = naive.ops.affine.forward(x, w, b)
    return y.astype(np.float32).astype(y.dtype), cache


def _refusing_float64(x: Array, w: Array, b: Array) -> Any:
    if float_dtype(x, w, b) == np.float64:
        raise NotImplementedError("float32 alone")
    return naive.ops.affine.forward(x, w, b)


_latest: list[Any] = []


def _keeping_x(x: Array, gamma: Array, beta: Array, *, eps: float) -> Any:
    y, statistics, cache = naive.ops.batchnorm.forward(x, gamma, beta, eps=eps)
    _latest[:] = [cache]
    return y, statistics, cache


def _of_the_latest(dy: Array, cache: Any) -> Any:
    time.sleep(1e-5)  # gives way to the other threads
    if _latest[0].x.shape == cache.x.shape:
        cache = _latest[0]
    return naive.ops.batchnorm.backward(dy, cache)


ops: dict[str, Ops] = {
    "short of the border": replace(naive.ops, conv=Op(_short_of_the_border, conv.backward)),
    "forgets the bias": replace(naive.ops, conv=Op(_without_bias, conv.backward)),
    "shares a buffer": replace(naive.ops, affine=Op(_in_one_buffer, naive.ops.affine.backward)),
    "adds without a lock": replace(naive.ops, affine=Op(naive.ops.affine.forward, _without_lock)),
    "last of a tie": replace(naive.ops, max_pool=Op(max_pool.forward, _last_of_a_tie)),
    "sums in half precision": replace(naive.ops, conv=Op(_half_precision_sums, conv.backward)),
    "declares and answers wrongly": replace(
        naive.ops, affine=Op(_as_float32, naive.ops.affine.backward, unsupported=("float64",))
    ),
    "refuses without declaring": replace(
        naive.ops, affine=Op(_refusing_float64, naive.ops.affine.backward)
    ),
    "goes by the latest call": replace(naive.ops, batchnorm=Op(_keeping_x, _of_the_latest)),
    "forgets the correction": replace(
        naive.ops, updates=replace(naive.ops.updates, adam=_uncorrected)
    ),
    "updates a copy": replace(naive.ops, updates=replace(naive.ops.updates, sgd=_forcing)),
    "transposes": replace(naive.ops, conv=Op(_transposing, conv.backward)),
    "ignores pad[1]": replace(naive.ops, conv=Op(_square_padding, conv.backward)),
    "splits ties": replace(naive.ops, max_pool=Op(max_pool.forward, _splitting_ties)),
    "writes dy": replace(naive.ops, conv=Op(conv.forward, _writing)),
    "halves a lone dx": replace(naive.ops, conv=Op(conv.forward, _halving)),
    "float64 out": replace(naive.ops, max_pool=Op(_doubling, max_pool.backward)),
    "raises": replace(naive.ops, batchnorm=Op(_raising, naive.ops.batchnorm.backward)),
    "checks no shape": replace(naive.ops, batchnorm=Op(_no_check, naive.ops.batchnorm.backward)),
    "half precision": replace(naive.ops, conv=Op(_half_precision, conv.backward)),
    "spoils its cache": replace(naive.ops, max_pool=Op(max_pool.forward, _once)),
    "wrong slope": replace(naive.ops, batchnorm=Op(naive.ops.batchnorm.forward, _wrong_slope)),
    "starts at zero": replace(naive.ops, max_pool=Op(_starting_at_zero, max_pool.backward)),
    "by tanh": replace(naive.ops, gelu=Op(_by_tanh, naive.ops.gelu.backward)),
    "one pass": replace(naive.ops, batchnorm=Op(_one_pass, naive.ops.batchnorm.backward)),
    "fused wrongly": replace(naive.ops, conv_relu=Op(_fused, naive.ops.conv_relu.backward)),
    "returns a scalar": replace(
        naive.ops, conv=Op(conv.forward, lambda dy, cache, **need: (1.0, 2.0, 3.0))
    ),
}
