"""Small files in CIFAR-10's own layout."""

import hashlib
import io
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np

from convexp.datasets import _cifar10

A_FILE = 20  # images, in place of 10,000
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
VALUES = {
    "root": None,
    "num_train": 90,
    "num_val": 10,
    "num_test": 15,
    "normalization": "mean_image",
    "download": False,
}


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote into CIFAR-10's files: strings of bytes, NumPy's old module."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        if len(value) < 256:
            self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(value)) + value)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    def save_str(self, value):
        self.save_bytes(value.encode("latin1"))

    def save_global(self, value, name=None):
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{value.__name__}\n".encode())
        self.memoize(value)

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str
    dispatch[type] = save_global
    dispatch[type(np.empty(0).__reduce__()[0])] = save_global


def python2_pickle(value) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def pretend(monkeypatch, contents: dict[str, bytes]) -> None:
    """Let these be CIFAR-10's checksums."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(_cifar10, "SHA256", sums)


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder
