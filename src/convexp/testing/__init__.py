"""Tools to check a layer or a backend with.

    gradients.py      numerical gradients and relative errors
    conformance.py    check_ops: is a backend right?
    cases.py          one case: what it is drawn from, in arrays and as text
    needs.py          what of the capabilities a case makes use of
    grid.py           the cases that are the same for everybody
    generated.py      those that hypothesis draws, and shrinks if one fails
    rules.py          what is demanded of a case
    calls.py          likewise, where that takes several calls: between, beside, before each other
    examination.py    what is known of a case while it is tried, and the program that shows it
    updates.py        the cases of the optimizers' updates, and what is demanded of them
    bounds.py         what is expected of a case, and how far rounding may lead from it
    specials.py       how far NaN and infinities may spread
    support.py        what came out, as a table for a README
    parity.py         one call beside another backend's: how far apart? replay, of a kept one
    backend_tests.py  all of it as tests of pytest's; test_backend.py, of an installed backend

``check_ops(my_ops)`` is a whole test of a backend. With pytest each case is a test of its own::

    from convexp.testing import BackendTests
    from my_kernels import ops

    class TestMyKernels(BackendTests):
        ops = ops

and an installed backend needs no file at all: ``pytest --pyargs convexp.testing
--convexp-backend=mine``. Both end with the table of what the backend supports.
"""

from typing import TYPE_CHECKING, Any

from convexp.testing.cases import OPS, Case
from convexp.testing.conformance import CHECKED, Finding, check_ops
from convexp.testing.gradients import numerical_gradient, relative_error
from convexp.testing.support import support_matrix

if TYPE_CHECKING:
    from convexp.testing.backend_tests import BackendTests as BackendTests

__all__ = [
    "CHECKED",
    "OPS",
    "Case",
    "Finding",
    "check_ops",
    "numerical_gradient",
    "relative_error",
    "support_matrix",
]


def __getattr__(name: str) -> Any:
    """`BackendTests`, which alone needs pytest; what has no use for it imports without."""
    if name != "BackendTests":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        import pytest  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            "convexp.testing.BackendTests needs pytest; install it by `pip install pytest`"
        ) from error
    from convexp.testing.backend_tests import BackendTests

    return BackendTests
