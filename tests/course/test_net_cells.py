"""The notebook's cells on the three-layer net.

With the notebook's seed, or in its order of cells, this draws what a correct copy of the course
draws. The numbers here were printed by one (published, with Adam's first step at t = 1).
"""

from __future__ import annotations

import numpy as np
import pytest

from convexp.course import (
    Solver,
    ThreeLayerConvNet,
    eval_numerical_gradient,
    rel_error,
    visualize_grid,
)

OVERFITTING_LOSSES = """
    2.414060 3.102925 2.270330 2.096705 1.838880 1.934188 1.827912 1.639574 1.330082 1.756115
    1.024162 1.041826 1.142777 0.835706 0.587786 0.645509 0.786844 0.467054 0.429880 0.635498
    0.365807 0.284220 0.469343 0.509369 0.111638 0.145388 0.155575 0.143398 0.158160 0.118934
"""
OVERFITTING_TRAIN = [20, 14, 24, 51, 52, 63, 75, 79, 82, 82, 90, 82, 92, 93, 96, 99]
OVERFITTING_VAL = [137, 87, 94, 173, 188, 167, 229, 247, 252, 178, 206, 201, 211, 213, 212, 220]

EPOCH_LOSSES = [2.304740, 2.098229, 1.949788, 1.888398, 1.877093, 1.851877]
"""Of every twentieth step."""


def test_cell_23_initial_loss():
    np.random.seed(231)
    np.random.randn(2 * 3 * 8 * 8 + 3 * 3 * 3 * 3 + 3 + 2 * 3 * 8 * 8)  # what cell [19] draws
    model = ThreeLayerConvNet()
    X = np.random.randn(50, 3, 32, 32)
    y = np.random.randint(10, size=50)
    plain, _ = model.loss(X, y)
    assert plain == pytest.approx(2.302586071243987, abs=1e-12)
    assert plain == pytest.approx(np.log(10), abs=1e-5)
    model.reg = 0.5
    regularized, _ = model.loss(X, y)
    squares = sum(np.sum(model.params[f"W{i}"].astype(float) ** 2) for i in (1, 2, 3))
    assert regularized - plain == pytest.approx(0.5 * 0.5 * squares, rel=1e-6)
    assert regularized == pytest.approx(2.508255638232932, abs=1e-7)


@pytest.mark.parametrize("reg", [0.0, 0.7])
def test_cell_26_gradient_check(reg):
    np.random.seed(231)
    X = np.random.randn(2, 3, 16, 16)
    y = np.random.randint(10, size=2)
    model = ThreeLayerConvNet(
        num_filters=3,
        filter_size=3,
        input_dim=(3, 16, 16),
        hidden_dim=7,
        reg=reg,
        dtype=np.float64,
    )
    _, grads = model.loss(X, y)
    assert sorted(grads) == ["W1", "W2", "W3", "b1", "b2", "b3"]
    for name, w in model.params.items():
        numerical = eval_numerical_gradient(lambda _: model.loss(X, y)[0], w, verbose=False, h=1e-6)
        assert rel_error(numerical, grads[name]) < 2e-2  # the notebook's; the weights are 1e-3
        np.testing.assert_allclose(grads[name], numerical, atol=1e-6)  # a kink of relu is near


def overfit(data) -> Solver:
    np.random.seed(231)
    small_data = {
        "X_train": data["X_train"][:100],
        "y_train": data["y_train"][:100],
        "X_val": data["X_val"],
        "y_val": data["y_val"],
    }
    solver = Solver(
        ThreeLayerConvNet(weight_scale=1e-2),
        small_data,
        num_epochs=15,
        batch_size=50,
        update_rule="adam",
        optim_config={"learning_rate": 1e-3},
        verbose=True,
        print_every=1,
    )
    solver.train()
    return solver


def test_cell_28_overfitting_100_images(synthetic_data, capsys):
    solver = overfit(synthetic_data)
    assert len(solver.loss_history) == 30
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == 16
    assert solver.train_acc_history[-1] > 0.95
    assert solver.loss_history[-1] < 0.2 * solver.loss_history[0]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 30 + 16
    assert lines[0] == f"step 1 of 30: loss {solver.loss_history[0]:.6f}"
    assert lines[1].startswith("epoch 0 of 15: training accuracy 0.")
    assert lines[-1].startswith("epoch 15 of 15: ")


@pytest.mark.cifar10
@pytest.mark.slow
def test_cells_28_and_30_print_what_the_course_prints(cifar10_data):
    solver = overfit(cifar10_data)
    expected = np.array(OVERFITTING_LOSSES.split(), float)
    np.testing.assert_allclose(solver.loss_history, expected, atol=1e-4)
    # An image whose two best scores nearly tie may fall to either side.
    np.testing.assert_allclose(
        np.multiply(solver.train_acc_history, 100), OVERFITTING_TRAIN, atol=1
    )
    np.testing.assert_allclose(np.multiply(solver.val_acc_history, 1000), OVERFITTING_VAL, atol=1)
    assert solver.best_val_acc == max(solver.val_acc_history)

    # Cell [30] has no seed of its own: it goes on drawing where cell [28] stopped.
    model = ThreeLayerConvNet(weight_scale=0.001, hidden_dim=500, reg=0.001)
    solver = Solver(
        model,
        cifar10_data,
        num_epochs=1,
        batch_size=50,
        update_rule="adam",
        optim_config={"learning_rate": 1e-3},
        verbose=False,
    )
    solver._step()
    solver._measure()
    for _ in range(100):  # of 980
        solver._step()
    assert solver.train_acc_history[0] == pytest.approx(0.103, abs=0.001)
    assert solver.val_acc_history[0] == pytest.approx(0.107, abs=0.001)
    np.testing.assert_allclose(solver.loss_history[::20], EPOCH_LOSSES, atol=1e-4)


def test_cell_31_the_grid_of_filters():
    filters = np.random.randn(32, 3, 7, 7)
    filters[5] = 0.25
    grid = visualize_grid(filters.transpose(0, 2, 3, 1))
    assert grid.shape == (6 * 7 + 5, 6 * 7 + 5, 3)  # as the course's: no border around it
    assert grid.dtype == np.float64
    assert (grid.min(), grid.max()) == (0, 255)
    first = filters[0].transpose(1, 2, 0)
    expected = 255 * (first - first.min()) / np.ptp(first)
    np.testing.assert_allclose(grid[:7, :7], expected)
    assert not grid[7].any()  # the gap below the first row of tiles
    assert not grid[:, 7].any()
    assert (grid[:7, 40:] == 127.5).all()  # the constant tile, sixth of the first row
    assert not grid[40:, 16:].any()  # no tile is left: 32 of 36
    assert grid.astype("uint8").max() == 255


def test_the_grids_options_and_refusals():
    images = np.random.randn(2, 4, 5, 1)
    images[1, 0, 0] = np.nan
    grid = visualize_grid(images, ubound=1.0, padding=3)
    assert grid.shape == (2 * 4 + 3, 2 * 5 + 3, 1)
    assert grid[:4, :5].max() == 1
    assert not grid[:4, 8:].any()
    for shape in ((4, 5, 1), (0, 4, 5, 1)):
        with pytest.raises(ValueError, match=r"\(N, H, W, C\), none of them 0; got"):
            visualize_grid(np.zeros(shape))


def test_weights_are_the_courses_draws():
    np.random.seed(231)
    model = ThreeLayerConvNet(
        input_dim=(3, 8, 6), num_filters=4, filter_size=3, hidden_dim=5, num_classes=7
    )
    np.random.seed(231)
    shapes = {"W1": (4, 3, 3, 3), "W2": (4 * 4 * 3, 5), "W3": (5, 7)}
    for name, shape in shapes.items():
        drawn = 1e-3 * np.random.randn(*shape)
        np.testing.assert_array_equal(model.params[name], drawn.astype(np.float32))
    for name, shape in {"b1": (4,), "b2": (5,), "b3": (7,)}.items():
        np.testing.assert_array_equal(model.params[name], np.zeros(shape, np.float32))
    assert list(model.params) == ["W1", "b1", "W2", "b2", "W3", "b3"]


@pytest.mark.parametrize("ops", ["naive", "fast"])
def test_the_net_computes_with_what_params_hold_by_now(ops):
    np.random.seed(231)
    model = ThreeLayerConvNet((3, 8, 8), 2, 3, 5, 4, dtype=np.float32, ops=ops)
    X = np.random.randn(3, 3, 8, 8).astype(np.float32)
    scores = model.loss(X)
    assert scores.shape == (3, 4)
    loss, grads = model.loss(X, np.array([0, 1, 3]))
    assert isinstance(loss, float)
    assert scores.dtype == np.float32
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
    assert all(grads[n].shape == w.shape for n, w in model.params.items())
    model.params["b3"] = model.params["b3"] + np.float32(2)
    np.testing.assert_allclose(model.loss(X), scores + 2)
    model.params["b3"] -= 1
    np.testing.assert_allclose(model.loss(X), scores + 1)


def test_a_net_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="filter_size 9 is larger than the images of 8x8"):
        ThreeLayerConvNet((3, 8, 8), filter_size=9)
    with pytest.raises(ValueError, match=r"np\.float32 or np\.float64, not int64"):
        ThreeLayerConvNet((3, 8, 8), dtype=np.int64)
