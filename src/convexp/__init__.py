"""convexp: an experiment framework in which the layers are plugins."""

from importlib.metadata import version

__version__ = version("convexp")
