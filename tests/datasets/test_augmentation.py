from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from itertools import product
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from convexp.config import build
from convexp.datasets import Augmentation, TrainBatch
from convexp.errors import UserError

OFF: dict[str, Any] = {
    "pad": 0,
    "pad_mode": "reflect",
    "flip": "none",
    "cutout": 0,
    "mixup": 0.0,
}
DTYPES = [np.float32, np.float64]


def images(n: int = 40, dtype: type = np.float64, shape: tuple[int, ...] = (2, 3, 5)) -> np.ndarray:
    """Images without a zero and without two equal values, so that a pixel can be found again."""
    size = n * int(np.prod(shape))
    return (1 + np.arange(size, dtype=dtype)).reshape(n, *shape)


def labels(n: int = 40) -> np.ndarray:
    return np.arange(n, dtype=np.int64)


def changed(
    x: np.ndarray, *, seed: int = 7, epoch: int = 0, batch: int = 0, indices: Any = None, **on: Any
) -> TrainBatch:
    """The batch that an augmentation makes of these images, which are left alone."""
    indices = np.arange(len(x)) if indices is None else indices
    kept = {"seed": seed, "epoch": epoch, "batch": batch}
    return Augmentation(**OFF | on).apply(x.copy(), labels(len(x)), indices, **kept)


ALL: dict[str, Any] = {"pad": 2, "flip": "random", "cutout": 2, "mixup": 1.0}


@pytest.mark.parametrize("dtype", DTYPES)
def test_off_changes_nothing(dtype: type) -> None:
    x = images(dtype=dtype)
    found = changed(x)
    np.testing.assert_array_equal(found.x, x)
    np.testing.assert_array_equal(found.y, labels())
    assert found.mix is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_all_together_keep_shape_and_dtype(dtype: type, n: int, mode: str) -> None:
    found = changed(images(n, dtype), pad_mode=mode, **ALL)
    assert (found.x.shape, found.x.dtype) == ((n, 2, 3, 5), dtype)
    assert found.x.flags.c_contiguous
    assert found.x.flags.writeable
    assert found.mix is not None
    assert found.mix.labels.dtype == np.int64


def test_seed_epoch_and_batch_decide() -> None:
    x = images()
    one = changed(x, **ALL)
    np.testing.assert_array_equal(one.x, changed(x, **ALL).x)
    for other in ({"seed": 8}, {"epoch": 1}, {"batch": 1}, {"seed": 1 << 40}):
        assert not np.array_equal(one.x, changed(x, **ALL, **other).x), other


# ------------------------------------------------------------------- crop


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("mode", "numpys"), [("zeros", "constant"), ("reflect", "reflect")])
def test_a_crop_is_a_part_of_the_padded_image_at_each_place(
    dtype: type, mode: str, numpys: str
) -> None:
    x = images(400, dtype, (2, 4, 6))
    found = changed(x, pad=2, pad_mode=mode).x
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), numpys)
    places = []
    for image, around in zip(found, padded, strict=True):
        fits = [
            (i, j)
            for i, j in product(range(5), range(5))
            if np.array_equal(image, around[:, i : i + 4, j : j + 6])
        ]
        assert len(fits) == 1
        places += fits
    assert set(places) == set(product(range(5), range(5)))
    # Each is as frequent as any other: 16 are to be expected.
    counts = [places.count(place) for place in set(places)]
    assert min(counts) >= 4
    assert max(counts) <= 32


# ------------------------------------------------------------------- flip


def mirrored(x: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which images were; each must be as it was or exactly mirrored."""
    same = (found == x).all(axis=(1, 2, 3))
    turned = (found == x[..., ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, ~turned)
    return turned


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_flips_are_new_ones_each_time(dtype: type) -> None:
    x = images(1000, dtype)
    one, other = (
        mirrored(x, changed(x, flip="random", epoch=epoch, batch=3).x) for epoch in (0, 1)
    )
    for flips in (one, other, one ^ other):
        assert 400 < flips.sum() < 600


@pytest.mark.parametrize("dtype", DTYPES)
def test_alternating_flips_turn_each_image_in_every_other_epoch(dtype: type) -> None:
    x = images(1000, dtype)
    flips = [mirrored(x, changed(x, flip="alternating", epoch=epoch).x) for epoch in range(4)]
    assert 400 < flips[0].sum() < 600
    for epoch in (1, 2, 3):
        np.testing.assert_array_equal(flips[epoch], flips[epoch - 1] ^ True)


def test_alternating_flips_go_by_the_image_and_not_by_its_batch() -> None:
    x = images(100)
    first = mirrored(x, changed(x, flip="alternating").x)
    order = np.random.default_rng(0).permutation(100)
    again = changed(x[order], flip="alternating", indices=order, epoch=2, batch=9).x
    np.testing.assert_array_equal(mirrored(x[order], again), first[order])
    far = changed(x, flip="alternating", indices=np.arange(100) + 10**6).x
    other = changed(x, flip="alternating", seed=8).x
    for found in (far, other):
        assert 20 < (mirrored(x, found) ^ first).sum() < 80


# ------------------------------------------------------------------- cutout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [1, 2, 3, 9])
def test_cutout_blanks_a_square_around_any_pixel(dtype: type, side: int) -> None:
    x = images(600, dtype)
    found = changed(x, cutout=side).x
    squares = {}
    for row, column in product(range(3), range(5)):
        blank = np.zeros((3, 5), bool)
        top, left = row - side // 2, column - side // 2
        blank[max(top, 0) : top + side, max(left, 0) : left + side] = True
        squares[row, column] = blank.tobytes()
    seen = []
    for before, after in zip(x, found, strict=True):
        gone = after == 0
        np.testing.assert_array_equal(gone[0], gone[1])  # in all channels
        np.testing.assert_array_equal(after[~gone], before[~gone])
        seen.append(gone[0].tobytes())
    assert set(seen) == set(squares.values())
    if side <= 3:  # so that each centre has a square of its own; 40 are to be expected
        assert min(seen.count(square) for square in set(seen)) > 15


def refused(option: str, values: Iterable[int], shape: tuple[int, int]) -> list[int]:
    """The values of an option by which images of that height and width are refused."""

    def refuses(value: int) -> bool:
        try:
            Augmentation(**OFF | {option: value}).check_images(*shape)
        except ValueError:
            return True
        return False

    return [value for value in values if refuses(value)]


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 4)])
def test_a_padding_of_which_a_crop_may_show_nothing_else_is_refused(shape: tuple[int, int]) -> None:
    found = refused("pad", range(7), shape)
    for pad in range(7):
        x = images(600, shape=(1, *shape))
        left = changed(x, pad=pad, pad_mode="zeros").x.any(axis=(1, 2, 3)).all()
        assert left == (pad not in found), pad
    assert found == list(range(max(1, min(shape)), 7))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (8, 8), (1, 4)])
def test_a_square_that_leaves_nothing_of_any_image_is_refused(shape: tuple[int, int]) -> None:
    found = refused("cutout", range(20), shape)
    for side in range(20):
        left = changed(images(600, shape=(1, *shape)), cutout=side).x.any()
        assert left == (side not in found), side
    assert found == list(range(2 * max(shape) - 1, 20))


def test_no_digit_is_blank_by_the_default() -> None:
    node = OmegaConf.load(str(files("convexp.conf") / "augment" / "cutout.yaml"))
    x = images(600, shape=(1, 8, 8))
    found = build(OmegaConf.to_container(node), "augment").apply(  # type: ignore[arg-type]
        x, labels(600), np.arange(600), seed=0, epoch=0, batch=0
    )
    blank = (found.x == 0).mean(axis=(1, 2, 3))
    assert 0 < blank.min() < blank.max() == 1 / 4


# ------------------------------------------------------------------- mixup


@pytest.mark.parametrize("dtype", DTYPES)
def test_mixup_mixes_each_image_with_that_of_the_label_it_tells(dtype: type) -> None:
    x = images(dtype=dtype)
    found = changed(x, mixup=1.0)
    assert found.mix is not None
    partner, share = found.mix  # the label of an image is its index
    assert isinstance(share, float)
    assert 0 < share < 1
    assert sorted(partner) == list(range(40))
    assert not np.array_equal(partner, np.arange(40))
    np.testing.assert_array_equal(found.y, labels())
    expected = share * x.astype(np.float64) + (1 - share) * x[partner]
    np.testing.assert_allclose(found.x, expected, rtol=4 * np.finfo(dtype).eps)


def test_the_shares_are_of_the_beta_distribution() -> None:
    x = images(1)
    for alpha in (0.2, 1.0, 8.0):
        shares = []
        for batch in range(1000):
            mix = changed(x, mixup=alpha, batch=batch).mix
            assert mix is not None
            shares.append(mix.share)
        # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
        variance = 1 / (4 * (2 * alpha + 1))
        np.testing.assert_allclose(np.mean(shares), 0.5, atol=4 * (variance / 1000) ** 0.5)
        np.testing.assert_allclose(np.var(shares), variance, rtol=0.15)


def test_the_one_does_not_change_what_another_draws() -> None:
    x = images()
    blank = changed(x, cutout=2).x == 0
    both = changed(x, cutout=2, flip="random", pad=1, pad_mode="reflect")
    np.testing.assert_array_equal(both.x == 0, blank)
    alone, all_ = changed(x, mixup=1.0).mix, changed(x, **ALL).mix
    assert alone is not None
    assert all_ is not None
    assert alone.share == all_.share
    np.testing.assert_array_equal(alone.labels, all_.labels)


# ------------------------------------------------------------------- configuration

OPTIONS = sorted(
    file.name for file in (files("convexp.conf") / "augment").iterdir() if file.name[0] != "_"
)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_configuration_builds_it(name: str) -> None:
    text = (files("convexp.conf") / "augment" / name).read_text()
    node = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(node, dict)
    augmentation = build(node, "augment")
    assert isinstance(augmentation, Augmentation)
    off = Augmentation(**OFF)
    assert (augmentation == off) == (name == "none.yaml")
    with pytest.raises(UserError, match=r"augment\.flip = 'sideways': input should be 'none'"):
        build(node | {"flip": "sideways"}, "augment")
    with pytest.raises(UserError, match=r"augment\.pad = -1"):
        build(node | {"pad": -1}, "augment")
    with pytest.raises(UserError, match="augment: mixup must be a finite number"):
        build(node | {"mixup": float("inf")}, "augment")


def test_the_options_are_those() -> None:
    assert OPTIONS == ["crop_flip.yaml", "cutout.yaml", "mixup.yaml", "none.yaml"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pad": -1}, "pad must be at least 0, not -1"),
        ({"cutout": -2}, "cutout must be at least 0, not -2"),
        ({"mixup": -0.5}, "mixup must be a finite number of at least 0, not -0.5"),
        ({"mixup": float("nan")}, "mixup .* not nan"),
        ({"pad_mode": "edge"}, "pad_mode = 'edge'; possible: zeros, reflect"),
        ({"flip": "up"}, "flip = 'up'; possible: none, random, alternating"),
    ],
)
def test_other_values_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**OFF | change)
