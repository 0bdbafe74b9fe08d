"""What a task shows on the terminal: its progress, and at the end what came out."""

from convexp.terminal.findings import print_findings
from convexp.terminal.lines import say
from convexp.terminal.network import print_network
from convexp.terminal.progress import Progress
from convexp.terminal.results import (
    print_evaluation,
    print_predictions,
    print_runs,
    print_summary,
)

__all__ = [
    "Progress",
    "print_evaluation",
    "print_findings",
    "print_network",
    "print_predictions",
    "print_runs",
    "print_summary",
    "say",
]
