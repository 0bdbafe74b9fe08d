"""The backend ``naive``: the full table, served by the reference."""

from convexp.ops import Op, Ops
from convexp.ops.naive import affine, batchnorm, conv, gelu, max_pool

ops = Ops(
    conv=Op(conv.forward, conv.backward),
    affine=Op(affine.forward, affine.backward),
    max_pool=Op(max_pool.forward, max_pool.backward),
    batchnorm=Op(batchnorm.forward, batchnorm.backward),
    spatial_batchnorm=Op(batchnorm.spatial_forward, batchnorm.spatial_backward),
    gelu=Op(gelu.forward, gelu.backward),
)
