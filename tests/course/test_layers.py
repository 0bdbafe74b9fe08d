"""What the notebook's cells leave open: the arguments, and the layers of the other assignments."""

from __future__ import annotations

import numpy as np
import pytest

from convexp import course
from convexp.course import eval_numerical_gradient, eval_numerical_gradient_array, rel_error

CONV = {"stride": 1, "pad": 1}
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def check_gradients(forward, arrays, backward, tolerance=1e-7) -> None:
    out, cache = forward()
    dout = np.random.randn(*out.shape)
    for array, gradient in zip(arrays, backward(dout, cache), strict=True):
        assert gradient.shape == array.shape
        numerical = eval_numerical_gradient_array(lambda _: forward()[0], array, dout)
        np.testing.assert_allclose(gradient, numerical, atol=tolerance)


@pytest.fixture
def images():
    np.random.seed(0)
    return np.random.randn(2, 3, 6, 4)


@pytest.fixture
def conv(images):
    """x, w, b, gamma, beta of a convolution with a batch norm."""
    w, b = np.random.randn(4, 3, 3, 3), np.random.randn(4)
    return images, w, b, np.random.randn(4), np.random.randn(4)


@pytest.mark.parametrize("kind", ["naive", "fast"])
def test_a_wrong_key_is_named_with_the_nearest_right_one(kind, conv):
    x, w, b, _, _ = conv
    convolve = getattr(course, f"conv_forward_{kind}")
    pool = getattr(course, f"max_pool_forward_{kind}")
    with pytest.raises(ValueError, match="conv_param lacks the key 'pad'; it must have: pad, str"):
        convolve(x, w, b, {"stride": 1})
    with pytest.raises(ValueError, match="unknown key 'strde'; did you mean 'stride'"):
        convolve(x, w, b, {"strde": 1, "pad": 1})
    with pytest.raises(ValueError, match="pool_param lacks the key 'pool_width'"):
        pool(x, {"pool_height": 2, "stride": 2})
    with pytest.raises(ValueError, match="'pool_heigth'; did you mean 'pool_height'"):
        pool(x, {"pool_heigth": 2, "pool_width": 2, "stride": 2})
    with pytest.raises(ValueError, match="does not fit into images of 6x4"):
        pool(x, {"pool_height": 2, "pool_width": 5, "stride": 2})


def test_a_pool_may_be_higher_than_wide(images):
    param = {"pool_height": 3, "pool_width": 1, "stride": 2}
    for kind in ("naive", "fast"):
        out, _ = getattr(course, f"max_pool_forward_{kind}")(images, param)
        np.testing.assert_array_equal(out[..., 1, 1], images[:, :, 2:5, 2].max(axis=2))


def test_the_sandwiches_are_their_layers_one_after_the_other(conv):
    x, w, b, gamma, beta = conv
    a, _ = course.conv_forward_naive(x, w, b, CONV)
    normal, _ = course.spatial_batchnorm_forward(a, gamma, beta, {"mode": "train"})
    pooled, _ = course.max_pool_forward_naive(np.maximum(normal, 0), POOL)
    out, _ = course.conv_bn_relu_forward(x, w, b, gamma, beta, CONV, {"mode": "train"})
    np.testing.assert_allclose(out, np.maximum(normal, 0), atol=1e-12)
    out, _ = course.conv_bn_relu_pool_forward(x, w, b, gamma, beta, CONV, {"mode": "train"}, POOL)
    np.testing.assert_allclose(out, pooled, atol=1e-12)


def test_gradients_of_the_sandwiches(conv):
    x, w, b, gamma, beta = conv
    bn = {"mode": "train"}
    check_gradients(
        lambda: course.conv_bn_relu_forward(x, w, b, gamma, beta, CONV, bn),
        conv,
        course.conv_bn_relu_backward,
        1e-6,
    )
    check_gradients(
        lambda: course.conv_bn_relu_pool_forward(x, w, b, gamma, beta, CONV, bn, POOL),
        conv,
        course.conv_bn_relu_pool_backward,
        1e-6,
    )
    arrays = x, np.random.randn(72, 5), np.random.randn(5)
    check_gradients(
        lambda: course.affine_relu_forward(*arrays), arrays, course.affine_relu_backward
    )


def test_affine_takes_each_example_as_a_row(images):
    arrays = images, np.random.randn(72, 5), np.random.randn(5)
    out, _ = course.affine_forward(*arrays)
    np.testing.assert_allclose(out, images.reshape(2, 72) @ arrays[1] + arrays[2])
    check_gradients(lambda: course.affine_forward(*arrays), arrays, course.affine_backward)
    with pytest.raises(ValueError, match=r"x \(2, 3, 6, 4\), w \(71, 5\) and b \(5,\) do not fit"):
        course.affine_forward(images, arrays[1][1:], arrays[2])


def test_relu(images):
    out, cache = course.relu_forward(images)
    np.testing.assert_array_equal(out, np.maximum(images, 0))
    np.testing.assert_array_equal(course.relu_backward(images, cache), np.maximum(images, 0))


# ------------------------------------------------------------------- dropout


def test_dropout_keeps_with_probability_p_by_the_courses_draw():
    x = np.random.randn(300, 200) + 10
    out, cache = course.dropout_forward(x, {"p": 0.7, "mode": "train", "seed": 123})
    np.random.seed(123)
    mask = (np.random.rand(300, 200) < 0.7) / 0.7
    np.testing.assert_array_equal(out, x * mask)
    assert np.mean(out == 0) == pytest.approx(0.3, abs=0.01)
    assert out.mean() == pytest.approx(x.mean(), rel=0.01)
    np.testing.assert_array_equal(course.dropout_backward(np.ones_like(x), cache), mask)


def test_dropout_does_nothing_in_test_mode():
    x = np.random.randn(4, 5)
    out, cache = course.dropout_forward(x, {"p": 0.7, "mode": "test"})
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(course.dropout_backward(x, cache), x)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ({"p": 0, "mode": "train"}, "probability of keeping a value, above 0 and at most 1, not 0"),
        ({"p": 0.5, "mode": "trian"}, "must be 'train' or 'test', not 'trian'"),
        ({"p": 0.5}, "dropout_param lacks the key 'mode'"),
        ({"p": 0.5, "mode": "train", "sed": 1}, "'sed'; did you mean 'seed'"),
    ],
)
def test_dropout_refuses_a_wrong_param(param, message):
    with pytest.raises(ValueError, match=message):
        course.dropout_forward(np.zeros(3), param)


# ------------------------------------------------------------------- norms


def test_batchnorm_keeps_its_running_averages_in_bn_param():
    x = np.random.randn(50, 3) * [1, 2, 3] + [4, 5, 6]
    bn_param = {"mode": "train", "momentum": 0.8}
    course.batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
    first = bn_param["running_mean"]
    np.testing.assert_allclose(first, 0.2 * x.mean(axis=0))
    np.testing.assert_allclose(bn_param["running_var"], 0.2 * x.var(axis=0))
    course.batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
    np.testing.assert_allclose(bn_param["running_mean"], 0.36 * x.mean(axis=0))
    np.testing.assert_allclose(first, 0.2 * x.mean(axis=0))  # a copy that was kept stays
    bn_param["mode"] = "test"
    out, _ = course.batchnorm_forward(x, np.full(3, 2.0), np.ones(3), bn_param)
    scale = np.sqrt(bn_param["running_var"] + 1e-5)
    np.testing.assert_allclose(out, 2 * (x - bn_param["running_mean"]) / scale + 1)


@pytest.mark.parametrize("backward", [course.batchnorm_backward, course.batchnorm_backward_alt])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_gradients_of_batchnorm(mode, backward):
    np.random.seed(0)
    arrays = np.random.randn(6, 3), np.random.randn(3), np.random.randn(3)
    bn_param = {"mode": mode, "running_mean": np.full(3, 0.5), "running_var": np.full(3, 2.0)}
    check_gradients(lambda: course.batchnorm_forward(*arrays, dict(bn_param)), arrays, backward)


@pytest.mark.parametrize("mode", ["train", "test"])
def test_batchnorm_stays_in_float32(mode):
    x = np.random.randn(6, 3).astype(np.float32)
    one = np.ones(3, np.float32)
    bn_param = {"mode": mode}
    out, cache = course.batchnorm_forward(x, one, one, bn_param)
    assert {a.dtype for a in (out, *course.batchnorm_backward(x, cache))} == {x.dtype}
    assert bn_param["running_var"].dtype == np.float32


@pytest.mark.parametrize("forward", [course.batchnorm_forward, course.spatial_batchnorm_forward])
def test_batchnorm_refuses_a_wrong_param(forward):
    x = np.zeros((2, 3) if forward is course.batchnorm_forward else (2, 3, 4, 4))
    arrays = x, np.ones(3), np.zeros(3)
    with pytest.raises(
        ValueError, match=r"bn_param\['mode'\] must be 'train' or 'test', not 'eval"
    ):
        forward(*arrays, {"mode": "eval"})
    with pytest.raises(ValueError, match="bn_param lacks the key 'mode'"):
        forward(*arrays, {})
    with pytest.raises(ValueError, match="'running_avg'; did you mean 'running_var'"):
        forward(*arrays, {"mode": "test", "running_avg": 0})
    for mode in ("train", "test"):
        with pytest.raises(ValueError, match=r"gamma \(2,\) must have the shape \(3,\)"):
            forward(x, np.ones(2), np.zeros(3), {"mode": mode})


def test_layernorm_normalizes_each_example():
    np.random.seed(0)
    x = np.random.randn(4, 7) * 3 + 5
    out, _ = course.layernorm_forward(x, np.full(7, 2.0), np.ones(7), {"eps": 1e-9})
    np.testing.assert_allclose(out.mean(axis=1), 1)
    np.testing.assert_allclose(out.std(axis=1), 2)
    arrays = x, np.random.randn(7), np.random.randn(7)
    check_gradients(
        lambda: course.layernorm_forward(*arrays, {}), arrays, course.layernorm_backward
    )


def test_groupnorm_normalizes_groups_of_neighbouring_channels():
    np.random.seed(0)
    x = np.random.randn(2, 6, 3, 4) * 3 + 5
    gamma, beta = np.full((1, 6, 1, 1), 2.0), np.ones((1, 6, 1, 1))
    out, _ = course.spatial_groupnorm_forward(x, gamma, beta, 3, {"eps": 1e-9})
    np.testing.assert_allclose(out.reshape(2, 3, 24).mean(axis=2), 1)
    np.testing.assert_allclose(out.reshape(2, 3, 24).std(axis=2), 2)


def test_groupnorm_refuses_what_does_not_fit():
    x, one = np.zeros((2, 6, 3, 4)), np.ones((1, 6, 1, 1))
    for G in (4, 0):
        with pytest.raises(ValueError, match=f"G must divide the 6 channels .* which {G} does not"):
            course.spatial_groupnorm_forward(x, one, one, G, {})
    with pytest.raises(ValueError, match=r"gamma and beta \(1, C, 1, 1\)"):
        course.spatial_groupnorm_forward(x, np.ones(6), one, 2, {})
    with pytest.raises(ValueError, match="'epsilon'; did you mean 'eps'"):
        course.spatial_groupnorm_forward(x, one, one, 2, {"epsilon": 1})


def test_norms_of_an_empty_batch_are_empty():
    x, one = np.zeros((0, 4)), np.ones(4)
    bn_param = {"mode": "train"}
    assert course.batchnorm_forward(x, one, one, bn_param)[0].shape == (0, 4)
    np.testing.assert_array_equal(bn_param["running_var"], np.zeros(4))
    out, cache = course.layernorm_forward(x, one, one, {})
    assert course.layernorm_backward(out, cache)[0].shape == (0, 4)
    one = np.ones((1, 4, 1, 1))
    out, cache = course.spatial_groupnorm_forward(np.zeros((0, 4, 2, 2)), one, one, 2, {})
    assert course.spatial_groupnorm_backward(out, cache)[0].shape == (0, 4, 2, 2)


@pytest.mark.parametrize("name", ["batchnorm", "layernorm", "spatial_batchnorm"])
def test_a_gradient_of_another_shape_is_refused(name):
    shape = (2, 3, 4, 4) if name.startswith("spatial") else (2, 3)
    forward, backward = (getattr(course, f"{name}_{p}") for p in ("forward", "backward"))
    for mode in ("train", "test"):
        _, cache = forward(np.ones(shape), np.ones(3), np.ones(3), {"mode": mode})
        for wrong in ((1, *shape[1:]), (*shape[:-1], 5)):
            with pytest.raises(ValueError, match="must have the shape"):
                backward(np.ones(wrong), cache)


# ------------------------------------------------------------------- losses and checks


def test_losses():
    np.random.seed(0)
    scores, labels = np.random.randn(5, 4), np.array([0, 3, 1, 1, 2])
    for loss in (course.softmax_loss, course.svm_loss):
        _, dscores = loss(scores, labels)
        numerical = eval_numerical_gradient(lambda s, f=loss: f(s, labels)[0], scores, False)
        assert rel_error(dscores, numerical) < 1e-7
    assert course.softmax_loss(np.zeros((5, 10)), labels)[0] == pytest.approx(np.log(10))
    assert course.svm_loss(np.zeros((5, 10)), labels)[0] == pytest.approx(9)


def test_the_numerical_gradient_prints_each_entry_when_asked(capsys):
    x = np.array([[1.0, 2.0]])
    gradient = eval_numerical_gradient(lambda x: float(np.sum(x**2)), x)
    np.testing.assert_allclose(gradient, [[2, 4]])
    np.testing.assert_array_equal(x, [[1, 2]])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in lines] == ["(0, 0)", "(0, 1)"]
    eval_numerical_gradient(np.sum, x, verbose=False, h=1e-3)
    assert capsys.readouterr().out == ""


def test_a_numerical_gradient_of_integers_is_refused():
    with pytest.raises(ValueError, match="floating-point numbers, not int64"):
        eval_numerical_gradient_array(np.sum, np.arange(3), 1.0)
