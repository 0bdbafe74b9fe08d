"""NumPy's memory, used again: a memory handler (NEP 49) over the blocks of ``memory_pool.h``."""

from contextlib import contextmanager

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "memory_pool.h":
    int _import_array() except -1
    object PyDataMem_SetHandler(object handler)

    ctypedef struct PyDataMem_Handler:
        pass

    PyDataMem_Handler reusing
    int pool_set_up() except -1
    void pool_open(size_t limit)
    void pool_close()
    size_t pool_cached()

_import_array()
pool_set_up()

LIMIT = 1 << 32
"""Bytes of freed arrays that are kept at most: more than a training step of a wide network on a
thousand images frees. Of each size no more is kept than has been in use at one time."""


@contextmanager
def reuse_memory(*, limit=LIMIT):
    """Keep the memory of large arrays that are freed within the block for those made next.

    Each page of fresh memory costs a fault, and for an array of megabytes that lives for a moment
    the faults cost more than the arithmetic. So arrays of 64 KiB or more, made by this thread
    within the block, are freed into lists by size, and taken from there.

    The arrays are ordinary ones and may outlive the block. When the last block is left, what was
    kept goes back to the system.

    Args:
        limit: bytes of freed arrays that are kept; of blocks within one another, or of several
            threads, the largest counts. What was freed the longest ago goes back first.
    """
    before = PyDataMem_SetHandler(PyCapsule_New(&reusing, "mem_handler", NULL))
    pool_open(limit)
    try:
        yield
    finally:
        PyDataMem_SetHandler(before)
        pool_close()


def kept_bytes():
    """How many bytes of freed arrays are kept at the moment."""
    return pool_cached()
