"""Tools to check a layer or a backend with.

    gradients.py     numerical gradients and relative errors
    conformance.py   check_ops: is a backend right?
    cases.py         one case: what it is drawn from, in arrays and as text
    grid.py          all of them
    rules.py         what is demanded of a case, and the program that shows it
    updates.py       the cases of the optimizers' updates, and what is demanded of them
    bounds.py        what is expected of a case, and how far rounding may lead from it

``check_ops(my_ops)`` is a whole test of a backend::

    @pytest.mark.parametrize("finding", check_ops(my_ops), ids=str)
    def test_ops(finding):
        assert finding.passed, finding.reason
"""

from convexp.testing.cases import OPS, Case
from convexp.testing.conformance import CHECKED, Finding, check_ops
from convexp.testing.gradients import numerical_gradient, relative_error

__all__ = [
    "CHECKED",
    "OPS",
    "Case",
    "Finding",
    "check_ops",
    "numerical_gradient",
    "relative_error",
]
