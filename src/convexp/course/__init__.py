"""The course notebook's own names, over the parts of this package.

A student who has the notebook on convolutional networks (CS231n's second assignment) changes its
import lines, here to ``from convexp.course import ...``, and nothing else.

================  ==========================================================================
`layers`          conv_*, max_pool_* (naive and fast), affine_*, relu_*, dropout_*
`norms`           batchnorm_*, layernorm_*, spatial_batchnorm_*, spatial_groupnorm_*
`layer_utils`     the sandwiches: conv_relu_*, conv_relu_pool_*, affine_relu_*, ...
`losses`          softmax_loss, svm_loss
`classifiers`     ThreeLayerConvNet
`fc_net`          FullyConnectedNet
`optim`           the update rules: sgd, sgd_momentum, rmsprop, adam
`solver`          Solver, and load_checkpoint for what it has saved
`data_utils`      get_CIFAR10_data
`gradient_check`  eval_numerical_gradient, eval_numerical_gradient_array, rel_error
`vis_utils`       visualize_grid
`arguments`       the course's dicts of parameters: which keys they have
================  ==========================================================================

What is random here is drawn from NumPy's legacy global generator, in the course's order, and
arithmetic is in float64 wherever the course's is: a cell that begins with ``np.random.seed(231)``
prints what it prints in a correct copy of the course. Everything else in this package takes its
generator as an argument.
"""

from convexp.course.classifiers import ThreeLayerConvNet
from convexp.course.data_utils import get_CIFAR10_data
from convexp.course.fc_net import FullyConnectedNet
from convexp.course.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    rel_error,
)
from convexp.course.layer_utils import (
    affine_relu_backward,
    affine_relu_forward,
    conv_bn_relu_backward,
    conv_bn_relu_forward,
    conv_bn_relu_pool_backward,
    conv_bn_relu_pool_forward,
    conv_relu_backward,
    conv_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
)
from convexp.course.layers import (
    affine_backward,
    affine_forward,
    conv_backward_fast,
    conv_backward_naive,
    conv_forward_fast,
    conv_forward_naive,
    dropout_backward,
    dropout_forward,
    max_pool_backward_fast,
    max_pool_backward_naive,
    max_pool_forward_fast,
    max_pool_forward_naive,
    relu_backward,
    relu_forward,
)
from convexp.course.losses import softmax_loss, svm_loss
from convexp.course.norms import (
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_forward,
    layernorm_backward,
    layernorm_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
)
from convexp.course.optim import adam, rmsprop, sgd, sgd_momentum
from convexp.course.solver import Solver, load_checkpoint
from convexp.course.vis_utils import visualize_grid

__all__ = [
    "FullyConnectedNet",
    "Solver",
    "ThreeLayerConvNet",
    "adam",
    "affine_backward",
    "affine_forward",
    "affine_relu_backward",
    "affine_relu_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_fast",
    "conv_backward_naive",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_bn_relu_pool_backward",
    "conv_bn_relu_pool_forward",
    "conv_forward_fast",
    "conv_forward_naive",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
    "dropout_backward",
    "dropout_forward",
    "eval_numerical_gradient",
    "eval_numerical_gradient_array",
    "get_CIFAR10_data",
    "layernorm_backward",
    "layernorm_forward",
    "load_checkpoint",
    "max_pool_backward_fast",
    "max_pool_backward_naive",
    "max_pool_forward_fast",
    "max_pool_forward_naive",
    "rel_error",
    "relu_backward",
    "relu_forward",
    "rmsprop",
    "sgd",
    "sgd_momentum",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
    "visualize_grid",
]
