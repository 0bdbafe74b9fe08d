"""Rows that belong to many runs, and runs that write them at the same moment.

MLflow looks whether such a row is there and inserts it if it is not. Of two jobs of a sweep that
both looked before either inserted, its database refuses the second one, by a key that must be
unique; MLflow passes that on as an error, though all that was wanted is there. It tries again by
itself for tags and versions of models, but not for a run's inputs and an alias.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_ROWS = 3
"""How many rows one write shares with other runs: the splits of a data set; an alias is one."""


def among_others(write: Callable[[], object]) -> None:
    """Write rows that others may be writing, too.

    Each refusal means that one more of the rows has come into being, which the next attempt finds;
    so after `MOST_ROWS` refusals nothing is left to collide with.

    Args:
        write: a call of MLflow's that inserts what is not there yet. It must be whole or nothing,
            as each of MLflow's transactions is.

    Raises:
        MlflowException: it was refused for another reason.
    """
    from mlflow.exceptions import MlflowException

    for _ in range(MOST_ROWS):
        try:
            write()
            return
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":  # what it makes of a refusal by the database
                raise
    write()
