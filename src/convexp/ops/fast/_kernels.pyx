"""Which instruction set the micro-kernels use: chosen once, when this module is imported."""

import os

from convexp.ops.fast._kernels cimport Kernels


cdef extern from "kernels.h" nogil:
    const char **level_names
    int LEVELS
    int levels()
    const Kernels *choose_kernels(const char *isa, size_t itemsize)

cdef extern from "build.h" nogil:
    const char *COMPILER
    const char *CONVEXP_FLAGS
    const char *OPENMP


cdef int _chosen_level() except -1:
    """The best instruction set of this processor, or the one that CONVEXP_ISA asks for."""
    possible = [level_names[i].decode() for i in range(levels())]
    wanted = os.environ.get("CONVEXP_ISA") or possible[levels() - 1]
    if wanted not in possible:
        raise ValueError(
            f"CONVEXP_ISA={wanted}: the fast backend can run {', '.join(possible)} on this machine"
        )
    return possible.index(wanted)


cdef int LEVEL = _chosen_level()


def isa():
    """Name of the instruction set in use: ``baseline``, ``avx2`` or ``avx512``."""
    return level_names[LEVEL].decode()


def build_info():
    """How this extension was built, and what it makes of this machine.

    Returns:
        ``compiler`` with its version; its ``flags``, without those that name a file; ``levels``,
        the instruction sets compiled in; ``isa``, the one in use; ``openmp``, the date of its
        standard, or ``no``.
    """
    return {
        "compiler": COMPILER.decode(),
        "flags": CONVEXP_FLAGS.decode(),
        "levels": " ".join(level_names[i].decode() for i in range(LEVELS)),
        "isa": isa(),
        "openmp": OPENMP.decode(),
    }


cdef const Kernels *kernels_for(size_t itemsize) noexcept nogil:
    """The kernels for numbers of that size, 4 or 8 bytes."""
    return choose_kernels(level_names[LEVEL], itemsize)
