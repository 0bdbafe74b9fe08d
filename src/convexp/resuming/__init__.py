"""Going on from a checkpoint, or using it: by which configuration, and in which run."""

from convexp.resuming.configuration import continued
from convexp.resuming.course import Course, course

__all__ = ["Course", "continued", "course"]
