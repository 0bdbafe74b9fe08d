"""The compiled backend: Cython and C twins of `convexp.ops.naive`, with the same names.

====================  ==============================================================================
``conv.py``           convolution: which of the next five computes what
``winograd.pyx``      3x3 filters and stride 1 or 2: 16 or 25 products in place of 36
``toom_cook.pyx``     few channels and tall filters: HH + 1 products of rows in place of 2 * HH
``filter_lanes.pyx``  any convolution; a vector holds one pixel of many filters
``pixel_lanes.pyx``   few filters, or few taps; a vector holds many pixels of one filter
``pointwise.pyx``     1x1 filters
``bands.py``          where rows, taps and pixels lie for the first three of them
``geometry.py``       the same for ``pixel_lanes``
``transforms.py``     the matrices of ``toom_cook``
``sandwiches.pyx``    convolution, rectifier and pool in one pass
``affine.pyx``        the affine map
``max_pool.pyx``      max-pooling; ``pool_kernel.h`` has the loops of its forward pass
``batchnorm.pyx``     batch normalization, plain and spatial, with a relu after it or without;
                      ``norm_kernel.h`` has its loops
``gelu.pyx``          the Gaussian error linear unit; ``gelu_kernel.h`` has its loops
``updates.pyx``       the optimizers' steps
``_planes.pyx``       from planes of pixels to pixels with lanes of filters, and back
``_kernels.pyx``      the micro-kernels (``kernels.h`` and what it includes) of the instruction set
``build.h``           what ``build_info`` tells
``simd.h``            includes a header of kernels for each type and instruction set
``_common.pxd``       the types and the threads
====================  ==============================================================================

At the bottom is one micro-kernel, ``multiply`` in ``filter_lanes.h``: a tile of rows x lanes of a
matrix product stays in registers while the columns go by. The address of an element of the left
matrix is its row's offset plus its column's, so an image's pixels and taps are such a matrix, which
is never made. There is no im2col matrix, and no memory beyond inputs, outputs and work buffers of
a few megabytes, or of a few times one image where that is more.

The instruction set is the best one of the processor at hand; the environment variable
``CONVEXP_ISA`` (baseline, avx2 or avx512), read at import, forces a lower one. The number of
threads is OpenMP's own setting, and no result depends on it.

Zeros stand for what is outside an image, and a weight that is infinite or NaN makes NaN of them: so
gradients may have a NaN in a few more places than the reference's; the outputs have it in the same
ones.
"""

from convexp.ops.fast._kernels import build_info, isa

__all__ = ["build_info", "isa"]
