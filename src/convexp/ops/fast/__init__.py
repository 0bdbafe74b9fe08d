"""The compiled backend: Cython and C twins of `convexp.ops.naive`, with the same names.

================  ==================================================================================
``conv.pyx``      the three passes of convolution: chunks, threads, the work buffer
``geometry.py``   where planes, taps and pixels lie in the work buffer: all its index arithmetic
``conv_kernel.h`` the two micro-kernels, written once for every type and instruction set
``conv_simd.h``   the instruction sets: registers, tile sizes, the choice at run time
``max_pool.pyx``  max-pooling
``batchnorm.pyx`` batch normalization, plain and spatial
``updates.pyx``   the optimizers' steps
``_common.pxd``   the types, and sums whose order is fixed
================  ==================================================================================

The blocking of convolution, from the outside in: a chunk of images is copied into a work buffer,
zero-padded and split by stride phase, so that an input pixel lies at a constant distance from its
output pixel for every tap. Threads share out image x band of pixels x group of filters. A tile of
filters x vectors of pixels stays in registers while the taps go by (the weight gradient: a tile of
filters x taps while the pixels go by). There is no im2col matrix.

The instruction set is the best one of the processor at hand; the environment variable
``CONVEXP_ISA`` (baseline, avx2 or avx512), read at import, forces a lower one. The number of
threads is OpenMP's own setting, and no result depends on it.

Idle lanes are multiplied by zero. So where x or w hold an infinity or a NaN, the gradients may
have a NaN in a few more places than the reference's; the outputs have it in the same ones.
"""

from convexp.ops.fast._kernels import isa

__all__ = ["isa"]
