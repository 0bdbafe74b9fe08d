"""CIFAR-10: found in a folder or downloaded, checked, and only then unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from convexp.datasets.dataset import Dataset, Images, Split, partition
from convexp.datasets.normalization import Kind, Normalization

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

FOLDER = "cifar-10-batches-py"
"""What the archive unpacks to."""

SHA256 = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
}
"""The files that are read, and their checksums."""

IMAGES_A_FILE = 10_000
IMAGE_SHAPE = (3, 32, 32)

RETRIES = 2
"""A download that fails is tried so many times more, after a pause of a few seconds."""


def cifar10(
    *,
    root: str | None,
    num_train: PositiveInt | None,
    num_val: NonNegativeInt,
    num_test: NonNegativeInt,
    normalization: Kind,
    download: bool,
) -> Dataset:
    """Photographs of ten kinds of things as images ``(3, 32, 32)``.

    With 49,000 and 1,000 of the 50,000 training images these are the parts of the CS231n course.

    Args:
        root: the folder that holds ``cifar-10-batches-py``, or that folder. None: the environment
            variable CONVEXP_DATA, or else the user's cache folder.
        num_train: how many images to train on, the first of the 50,000; None takes all that
            ``num_val`` leaves.
        num_val: how many to choose by, the last of the 50,000.
        num_test: how many to test on, the first of the 10,000.
        normalization: of batches, by those to train on: ``mean_image``, ``channels`` or ``none``
            (`convexp.datasets.Normalization.of`).
        download: fetch the files if some are missing.

    Raises:
        ValueError: there are not so many images, or a file is not the one that it should be.
        FileNotFoundError: files are missing and could not be fetched.
    """
    train_files, test_files = list(SHA256)[:5], ["test_batch"]
    train_slices = partition(
        {"num_train": num_train, "num_val": num_val},
        IMAGES_A_FILE * len(train_files),
        of="training images in CIFAR-10",
    )
    test_slices = partition({"num_test": num_test}, IMAGES_A_FILE, of="test images in CIFAR-10")

    folder = _provide(root, download=download)
    train, val = _gather(folder, train_files, train_slices)
    (test,) = _gather(folder, test_files, test_slices)
    names = _unpickle(folder / "batches.meta", b"label_names")
    return Dataset(
        name="cifar10",
        train=train,
        val=val,
        test=test,
        normalization=Normalization.of(train.images, normalization),
        class_names=tuple(name.decode("ascii") for name in names),
        source=URL,
    )


def fetch_cifar10(root: str | Path | None, *, download: bool) -> Path:
    """Make sure that CIFAR-10 is there and whole, without loading it.

    Args:
        root: as for `cifar10`.
        download: fetch the files if some are missing.

    Returns:
        The folder of the files.

    Raises:
        ValueError: a file is not the one that it should be.
        FileNotFoundError: files are missing and could not be fetched.
    """
    folder = _provide(root, download=download)
    for name in SHA256:
        _read(folder / name)
    return folder


# ------------------------------------------------------------------- reading


def _gather(folder: Path, files: Sequence[str], slices: Sequence[slice]) -> list[Split]:
    """The given slices of the images that the files hold one after the other.

    Only the files that are needed are read, one at a time.
    """
    sizes = [part.stop - part.start for part in slices]
    images: list[Images] = [np.empty((size, *IMAGE_SHAPE), np.uint8) for size in sizes]
    labels = [np.empty(size, np.int64) for size in sizes]
    for number, name in enumerate(files):
        offset = number * IMAGES_A_FILE
        overlaps = [
            (max(part.start, offset), min(part.stop, offset + IMAGES_A_FILE)) for part in slices
        ]
        if all(start >= stop for start, stop in overlaps):
            continue
        file_images, file_labels = _read_batch(folder / name)
        for i, (start, stop) in enumerate(overlaps):
            if start < stop:
                here = slice(start - slices[i].start, stop - slices[i].start)
                there = slice(start - offset, stop - offset)
                images[i][here] = file_images[there]
                labels[i][here] = file_labels[there]
        del file_images, file_labels  # else the next file is read beside this one
    return [Split(x, y) for x, y in zip(images, labels, strict=True)]


def _read_batch(path: Path) -> tuple[Images, list[int]]:
    """Images ``(IMAGES_A_FILE, 3, 32, 32)`` and their labels."""
    data, labels = _unpickle(path, b"data", b"labels")
    shape = (IMAGES_A_FILE, int(np.prod(IMAGE_SHAPE)))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != shape:
        raise ValueError(f"{path} does not hold uint8 images of the shape {shape}")
    if not isinstance(labels, list) or len(labels) != IMAGES_A_FILE:
        raise ValueError(f"{path} does not hold {IMAGES_A_FILE} labels")
    return data.reshape(IMAGES_A_FILE, *IMAGE_SHAPE), labels


def _unpickle(path: Path, *keys: bytes) -> Any:
    """The values of the keys in the pickled dict, one or a list of them."""
    content = _read(path)
    try:
        pickled = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        values = [pickled[key] for key in keys]
    except Exception as error:  # a wrong pickle may raise anything
        raise ValueError(f"{path} is not a file of CIFAR-10: {error!r}") from error
    return values if len(keys) > 1 else values[0]


def _read(path: Path) -> bytes:
    """The file's content, if its checksum is right: nothing else gets near the unpickler."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise ValueError(
            f"{path} is damaged or not CIFAR-10's own, for its sha256 is not "
            f"{SHA256[path.name]}; delete it, and it can be fetched anew"
        )
    return content


def _encode(text: str, encoding: str) -> bytes:
    """`_codecs.encode` as far as pickles of bytes call it: any other codec may be code."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"_codecs.encode to {encoding!r} is not allowed")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays and plain Python values, and calls nothing else.

    A pickle names the functions that rebuild its objects; an unrestricted unpickler calls whatever
    is named. NumPy's own is asked of an array, for the module that it is in changes its name.

    Raises:
        pickle.UnpicklingError: the pickle names another function or class.
    """

    _reconstruct = np.empty(0).__reduce__()[0]
    _allowed = {  # noqa: RUF012  # read only
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it calls {module}.{name}, which is not allowed"
            ) from None


# ------------------------------------------------------------------- fetching


def _provide(root: str | Path | None, *, download: bool) -> Path:
    """The folder in which all files are, fetched if need be; their content is not checked."""
    home = _home(root)
    folder = home if _is_folder(home) else home / FOLDER
    if not _missing(folder):
        return folder
    archive = home / ARCHIVE
    try:
        if not download and not archive.is_file():
            raise FileNotFoundError("download is switched off")
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            if _missing(folder):  # another process may have been here meanwhile
                fresh = not archive.is_file()
                _download(home, update=download)
                _unpack(archive, folder)
                if fresh:
                    archive.unlink()
    except (OSError, ValueError) as error:
        missing = _missing(folder)
        names = "all of its files" if len(missing) == len(SHA256) else ", ".join(missing)
        raise FileNotFoundError(
            f"CIFAR-10 is not in {folder} (missing: {names}), and {error}; put {ARCHIVE} "
            f"from {URL} into {home}, or run scripts/fetch_cifar10.py where there is a network"
        ) from error
    return folder


def _home(root: str | Path | None) -> Path:
    if root is None:
        root = os.environ.get("CONVEXP_DATA") or None
    if root is None:
        import pooch

        root = pooch.os_cache("convexp")
    return Path(root).expanduser().absolute()


def _is_folder(home: Path) -> bool:
    """Whether this is the folder of the files, and not the one that holds it."""
    if (home / FOLDER).is_dir():
        return False
    return home.name == FOLDER or len(_missing(home)) < len(SHA256)


def _missing(folder: Path) -> list[str]:
    return [name for name in SHA256 if not (folder / name).is_file()]


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Let the other jobs of a sweep wait, for two downloads would write one file.

    Where folders cannot be locked (Windows) they do, and the checksum makes both try again.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(home, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _download(home: Path, *, update: bool) -> None:
    """Bring the archive to ``home``, if it is not there, or a wrong one is and may be replaced."""
    import pooch
    import requests

    from convexp.datasets._download import resume

    manager = pooch.create(
        home,
        base_url="",
        registry={ARCHIVE: f"sha256:{ARCHIVE_SHA256}"},
        urls={ARCHIVE: URL},
        retry_if_failed=RETRIES,
        allow_updates=update,
    )
    # What pooch and requests say of it fills a screen.
    try:
        manager.fetch(ARCHIVE, downloader=resume)
    except requests.HTTPError as error:
        answer = str(error).partition(" for url")[0]
        raise OSError(f"the server answered {answer}") from error
    except requests.RequestException as error:
        raise OSError("there is no connection to download it, or it broke off") from error
    except ValueError as error:
        raise ValueError(f"the {ARCHIVE} at hand has a wrong checksum") from error


def _unpack(archive: Path, folder: Path) -> None:
    """Bring the files that we read, and nothing else, from the archive to ``folder``.

    All are written under another name before the first gets its own.
    """
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as name:
        unpacking = Path(name)
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    top, _, file_name = member.name.rpartition("/")
                    if top == FOLDER and file_name in SHA256 and member.isfile():
                        source = tar.extractfile(member)
                        assert source is not None  # only what is no file has none
                        with source, (unpacking / file_name).open("wb") as target:
                            shutil.copyfileobj(source, target)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(f"{archive} cannot be unpacked: {error}") from error
        if missing := _missing(unpacking):
            raise ValueError(f"{archive} does not hold {', '.join(missing)}")
        for file_name in SHA256:
            os.replace(unpacking / file_name, folder / file_name)
