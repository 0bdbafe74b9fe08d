from __future__ import annotations

import numpy as np
import pytest

from convexp import course
from convexp.course import Solver, ThreeLayerConvNet, load_checkpoint


class Table:
    """A model whose scores are one row of numbers, whatever the image; it notes what it saw."""

    def __init__(self, scores=(0.0, 1.0)):
        self.params = {"W1": np.array(scores)}
        self.batches = []

    def loss(self, X, y=None):
        if y is None:
            return np.tile(self.params["W1"], (len(X), 1))
        self.batches.append(X[:, 0].tolist())
        return 1.0, {"W1": np.array([-1.0, 0.0])}


def make_data(labels_train, labels_val):
    return {
        "X_train": np.arange(float(len(labels_train)))[:, np.newaxis],
        "y_train": np.array(labels_train),
        "X_val": np.zeros((len(labels_val), 1)),
        "y_val": np.array(labels_val),
    }


DATA = make_data([1] * 7, [1, 1, 0])


def test_batches_and_samples_are_the_courses_draws():
    data = make_data([1] * 20, [1] * 6)
    model = Table()
    np.random.seed(3)
    solver = Solver(
        model,
        data,
        batch_size=6,
        num_epochs=2,
        num_train_samples=10,
        num_val_samples=5,
        verbose=False,
    )
    solver.train()
    np.random.seed(3)
    expected = []
    for step in range(1, 7):  # 20 // 6 steps an epoch
        expected.append(np.random.choice(20, 6).tolist())
        if step in (1, 3, 6):
            np.random.choice(20, 10)
            np.random.choice(6, 5)
    assert model.batches == expected
    assert len(solver.loss_history) == 6
    assert len(solver.val_acc_history) == 3
    assert solver.epoch == 2


def test_the_best_parameters_come_back_at_the_end():
    model = Table([0.0, 1.0])  # says class 1; each step pulls towards class 0
    solver = Solver(
        model,
        DATA,
        batch_size=7,
        num_epochs=4,
        optim_config={"learning_rate": 0.4},
        verbose=False,
    )
    solver.train()
    np.testing.assert_allclose(solver.train_acc_history, [1, 1, 0, 0])
    np.testing.assert_allclose(solver.val_acc_history, [2 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert solver.best_val_acc == pytest.approx(2 / 3)
    np.testing.assert_allclose(model.params["W1"], [0.4, 1])  # the earliest of the best


def test_a_validation_accuracy_of_zero_leaves_the_parameters_there():
    model = Table()
    solver = Solver(model, make_data([1, 1], [0]), num_epochs=2, verbose=False)
    solver.train()
    assert solver.best_val_acc == 0
    assert list(model.params) == ["W1"]
    assert model.params["W1"].shape == (2,)


def test_no_epoch_leaves_the_parameters_as_they_are():
    model = Table()
    Solver(model, DATA, num_epochs=0, verbose=False).train()
    np.testing.assert_array_equal(model.params["W1"], [0, 1])


def test_the_learning_rate_decays_after_each_epoch():
    solver = Solver(Table(), DATA, batch_size=2, num_epochs=3, lr_decay=0.5, verbose=False)
    solver.train()
    assert solver.optim_configs["W1"]["learning_rate"] == pytest.approx(1e-2 / 8)
    assert solver.optim_config == {}


def test_what_is_printed(capsys):
    Solver(Table(), DATA, batch_size=2, num_epochs=2, print_every=4).train()
    assert capsys.readouterr().out.splitlines() == [
        "step 1 of 6: loss 1.000000",
        "epoch 0 of 2: training accuracy 1.000000, validation accuracy 0.666667",
        "epoch 1 of 2: training accuracy 1.000000, validation accuracy 0.666667",
        "step 5 of 6: loss 1.000000",
        "epoch 2 of 2: training accuracy 1.000000, validation accuracy 0.666667",
    ]
    Solver(Table(), DATA, num_epochs=1, verbose=False).train()
    assert capsys.readouterr().out == ""


def test_accuracy_goes_by_batches_and_samples():
    solver = Solver(Table(), DATA, verbose=False)
    labels = np.array([1] * 230 + [0] * 20)
    X = np.zeros((250, 1))
    assert solver.check_accuracy(X, labels) == 230 / 250
    np.random.seed(0)
    sampled = solver.check_accuracy(X, labels, num_samples=40, batch_size=7)
    np.random.seed(0)
    assert sampled == labels[np.random.choice(250, 40)].mean()
    assert solver.check_accuracy(X, labels, num_samples=250) == 230 / 250
    with pytest.raises(ValueError, match="at least one image"):
        solver.check_accuracy(X[:0], labels[:0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"update_rule": "sgd_momentun"}, "did you mean 'sgd_momentum'"),
        ({"optim_config": {"learning_rat": 1}}, "of sgd .*'learning_rat'.*mean 'learning_rate'"),
        ({"update_rule": "adam", "optim_config": {"momentum": 0.9}}, "of adam has an unknown key"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"data": {k: v for k, v in DATA.items() if k != "y_val"}}, "data lacks the key 'y_val'"),
        ({"data": DATA | {"X_val": np.zeros((0, 1))}}, "same number of images.* have 0 and 3"),
    ],
)
def test_a_mistake_is_refused_before_the_first_step(arguments, message):
    with pytest.raises(ValueError, match=message):
        Solver(Table(), **{"data": DATA} | arguments)


# ------------------------------------------------------------------- checkpoints


def test_a_checkpoint_can_be_loaded_again(tmp_path):
    np.random.seed(0)
    data = {
        "X_train": np.random.randn(8, 1, 4, 4),
        "y_train": np.arange(8) % 2,
        "X_val": np.random.randn(4, 1, 4, 4),
        "y_val": np.arange(4) % 2,
    }
    model = ThreeLayerConvNet((1, 4, 4), 2, 3, 3, 2)
    solver = Solver(
        model,
        data,
        update_rule="adam",
        optim_config={"learning_rate": np.float64(1e-3)},
        batch_size=4,
        num_epochs=2,
        checkpoint_name=tmp_path / "net",
        verbose=False,
    )
    solver.train()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"net_epoch_{epoch}.npz" for epoch in (0, 1, 2)]
    checkpoint = load_checkpoint(tmp_path / "net_epoch_2.npz")
    assert checkpoint["epoch"] == 2
    assert checkpoint["update_rule"] == "adam"
    assert checkpoint["optim_config"] == {"learning_rate": 1e-3}
    assert checkpoint["loss_history"] == solver.loss_history
    assert checkpoint["val_acc_history"] == solver.val_acc_history
    assert checkpoint["num_val_samples"] is None

    again = ThreeLayerConvNet((1, 4, 4), 2, 3, 3, 2)
    again.params = checkpoint["params"]
    accuracy = solver.check_accuracy(data["X_val"], data["y_val"])
    assert accuracy == solver.best_val_acc
    solver.model = again
    assert solver.check_accuracy(data["X_val"], data["y_val"]) == solver.val_acc_history[-1]


def test_what_is_no_checkpoint_is_one_sentence(tmp_path):
    path = tmp_path / "net.npz"
    with pytest.raises(FileNotFoundError):
        load_checkpoint(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"net\.npz is not a Solver's checkpoint"):
        load_checkpoint(path)
    np.savez(path, other=np.zeros(2))
    with pytest.raises(ValueError, match=r"net\.npz is not a Solver's checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("no space")

    monkeypatch.setattr(np, "savez", full)
    solver = Solver(Table(), DATA, num_epochs=1, checkpoint_name=tmp_path / "t", verbose=False)
    with pytest.raises(OSError, match="no space"):
        solver.train()
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------- the update rules

W = np.linspace(-0.4, 0.6, 20).reshape(4, 5)
DW = np.linspace(-0.6, 0.4, 20).reshape(4, 5)
V = np.linspace(0.6, 0.9, 20).reshape(4, 5)


def test_sgd():
    next_w, config = course.sgd(W, DW)
    np.testing.assert_allclose(next_w, W - 1e-2 * DW)
    assert config == {"learning_rate": 1e-2}


def test_sgd_momentum():
    next_w, config = course.sgd_momentum(W, DW, {"learning_rate": 1e-3, "velocity": V})
    np.testing.assert_allclose(config["velocity"], 0.9 * V - 1e-3 * DW)
    np.testing.assert_allclose(next_w, W + 0.9 * V - 1e-3 * DW)


def test_rmsprop():
    next_w, config = course.rmsprop(W, DW, {"learning_rate": 1e-2, "cache": V})
    cache = 0.99 * V + 0.01 * DW**2
    np.testing.assert_allclose(config["cache"], cache)
    np.testing.assert_allclose(next_w, W - 1e-2 * DW / (np.sqrt(cache) + 1e-8))


def test_adam():
    given = {"learning_rate": 1e-2, "m": W, "v": V, "t": 5}
    next_w, config = course.adam(W, DW, given)
    m, v = 0.9 * W + 0.1 * DW, 0.999 * V + 0.001 * DW**2
    corrected = (m / (1 - 0.9**6)) / (np.sqrt(v / (1 - 0.999**6)) + 1e-8)
    np.testing.assert_allclose(next_w, W - 1e-2 * corrected)
    np.testing.assert_allclose(config["m"], m)
    np.testing.assert_allclose(config["v"], v)
    assert config["t"] == 6
    assert config is given


def test_adams_first_step_has_the_length_of_the_learning_rate():
    next_w, config = course.adam(np.zeros(3), np.array([5.0, -0.1, 2.0]))
    np.testing.assert_allclose(next_w, [-1e-3, 1e-3, -1e-3], rtol=1e-6)
    assert config["t"] == 1


@pytest.mark.parametrize("rule", ["sgd", "sgd_momentum", "rmsprop", "adam"])
def test_a_rule_writes_no_array_that_it_is_given(rule):
    w, dw = W.copy(), DW.copy()
    first, config = getattr(course, rule)(w, dw)
    kept = {k: np.copy(v) for k, v in config.items()}
    getattr(course, rule)(first, dw, dict(config))
    np.testing.assert_array_equal(w, W)
    np.testing.assert_array_equal(dw, DW)
    for key, value in config.items():
        np.testing.assert_array_equal(value, kept[key])
    with pytest.raises(ValueError, match="must have the shape of the parameter"):
        getattr(course, rule)(w, dw[0])
