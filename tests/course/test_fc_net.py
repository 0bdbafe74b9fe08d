from __future__ import annotations

import numpy as np
import pytest

from convexp.course import FullyConnectedNet, Solver, eval_numerical_gradient, rel_error


@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
@pytest.mark.parametrize("keep", [1, 0.75])
def test_gradients(normalization, keep):
    np.random.seed(231)
    X, y = np.random.randn(4, 3, 5), np.array([0, 2, 1, 2])
    model = FullyConnectedNet(
        [6, 7],
        input_dim=15,
        num_classes=3,
        dropout_keep_ratio=keep,
        normalization=normalization,
        reg=0.3,
        weight_scale=5e-1,
        dtype=np.float64,
        seed=123,
    )
    _, grads = model.loss(X, y)
    assert sorted(grads) == sorted(model.params)
    for name, w in model.params.items():
        numerical = eval_numerical_gradient(lambda _: model.loss(X, y)[0], w, verbose=False)
        np.testing.assert_allclose(grads[name], numerical, atol=2e-7)


def test_weights_are_the_courses_draws():
    np.random.seed(231)
    model = FullyConnectedNet([4, 5], input_dim=6, normalization="batchnorm")
    np.random.seed(231)
    for i, shape in enumerate([(6, 4), (4, 5), (5, 10)], start=1):
        drawn = 1e-2 * np.random.randn(*shape)
        np.testing.assert_array_equal(model.params[f"W{i}"], drawn.astype(np.float32))
    assert "gamma2" in model.params
    assert "gamma3" not in model.params


def test_initial_loss_and_dtype():
    np.random.seed(231)
    model = FullyConnectedNet([10], input_dim=12, normalization="batchnorm")
    X, y = np.random.randn(9, 12), np.arange(9)
    loss, grads = model.loss(X, y)
    assert loss == pytest.approx(np.log(10), abs=0.05)
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
    assert model.loss(X).shape == (9, 10)
    model.reg = 0.5
    squares = sum(np.sum(model.params[f"W{i}"] ** 2) for i in (1, 2))
    assert model.loss(X, y)[0] - loss == pytest.approx(0.25 * squares, rel=1e-4)


def test_scores_are_those_of_test_mode():
    np.random.seed(0)
    X, y = np.random.randn(50, 8), np.arange(50) % 3
    model = FullyConnectedNet([6], 8, 3, 0.5, "batchnorm")
    for _ in range(60):
        model.loss(X, y)
    np.testing.assert_array_equal(model.loss(X), model.loss(X))
    np.testing.assert_allclose(model.loss(X[:5]), model.loss(X)[:5], atol=1e-6)
    assert model.bn_params[0]["running_var"].shape == (6,)


def test_a_solver_trains_it():
    np.random.seed(0)
    X = np.random.randn(40, 8)
    y = (X[:, 0] > 0).astype(int)
    data = {"X_train": X, "y_train": y, "X_val": X[:10], "y_val": y[:10]}
    model = FullyConnectedNet([20], 8, 2, weight_scale=0.1)
    config = {"learning_rate": 1e-2}
    solver = Solver(
        model,
        data,
        update_rule="adam",
        optim_config=config,
        num_epochs=40,
        batch_size=20,
        verbose=False,
    )
    solver.train()
    assert solver.train_acc_history[-1] > 0.95


def test_the_older_editions_words():
    np.random.seed(0)
    older = FullyConnectedNet([4], 6, dropout=0.25, use_batchnorm=True, seed=1)
    np.random.seed(0)
    newer = FullyConnectedNet([4], 6, dropout_keep_ratio=0.75, normalization="batchnorm", seed=1)
    X, y = np.random.randn(5, 6), np.arange(5)
    assert older.loss(X, y)[0] == newer.loss(X, y)[0]
    plain = FullyConnectedNet([4], 6, dropout=0, use_batchnorm=False)
    assert not plain.use_dropout
    assert plain.normalization is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropout": 0.5, "dropout_keep_ratio": 0.5}, "either dropout_keep_ratio or dropout"),
        ({"use_batchnorm": True, "normalization": "layernorm"}, "either normalization or use_b"),
        ({"dropout": 1}, "above 0 and at most 1, not 0"),
        ({"normalization": "batch"}, "'batchnorm', 'layernorm' or None, not 'batch'"),
        ({"dtype": np.float16}, r"np\.float32 or np\.float64, not float16"),
    ],
)
def test_a_mistake_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FullyConnectedNet([4], 6, **arguments)


def test_an_overfitted_linear_net_has_no_hidden_layer():
    model = FullyConnectedNet([], input_dim=4, num_classes=2, dtype=np.float64)
    X, y = np.random.randn(3, 4), np.array([0, 1, 1])
    loss, grads = model.loss(X, y)
    assert sorted(grads) == ["W1", "b1"]
    numerical = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params["W1"], False)
    assert rel_error(grads["W1"], numerical) < 1e-6
    assert loss > 0
