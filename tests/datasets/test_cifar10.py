"""CIFAR-10 read from small files in its own layout; damaged and malicious ones are refused."""

import io
import os
import pickle
import re
import subprocess

import numpy as np
import pytest

from convexp.datasets import _cifar10, cifar10, fetch_cifar10
from tests.datasets.cifar10_files import A_FILE, NAMES, VALUES, pretend, python2_pickle, write


def test_the_parts_are_the_first_and_the_last_images(root, images, labels):
    dataset = cifar10(**VALUES | {"root": str(root)})
    for split, part in (
        (dataset.train, slice(0, 90)),
        (dataset.val, slice(90, 100)),
        (dataset.test, slice(100, 115)),
    ):
        assert split.images.dtype == np.uint8
        np.testing.assert_array_equal(split.images, images[part])
        np.testing.assert_array_equal(split.labels, labels[part])
    assert dataset.class_names == tuple(NAMES)
    np.testing.assert_array_equal(
        dataset.normalization.mean, images[:90].astype(float).mean(axis=0)
    )


def test_parts_may_cross_files_and_leave_images_out(root, images):
    dataset = cifar10(**VALUES | {"root": str(root), "num_train": 30, "num_val": 25})
    np.testing.assert_array_equal(dataset.train.images, images[:30])
    np.testing.assert_array_equal(dataset.val.images, images[75:100])


def test_null_trains_on_all_that_remain_and_other_parts_may_be_empty(root):
    dataset = cifar10(**VALUES | {"root": str(root), "num_train": None, "num_test": 0})
    assert [len(s) for s in (dataset.train, dataset.val, dataset.test)] == [90, 10, 0]


def test_without_subtraction_the_mean_is_zero(root):
    dataset = cifar10(**VALUES | {"root": str(root), "normalization": "none"})
    assert not dataset.normalization.mean.any()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_train": 95}, r"num_train=95 \+ num_val=10 .* 100 training images in CIFAR-10"),
        ({"num_train": None, "num_val": 100}, "num_val=100 leaves nothing for num_train=null"),
        ({"num_test": 21}, "num_test=21 is more than there is: there are 20 test images"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(root, sizes, message):
    with pytest.raises(ValueError, match=message):
        cifar10(**VALUES | {"root": str(root)} | sizes)


def test_the_root_may_be_the_folder_itself_or_come_from_the_environment(root, monkeypatch):
    folder = root / "cifar-10-batches-py"
    assert fetch_cifar10(root, download=False) == folder
    assert fetch_cifar10(str(folder), download=False) == folder
    moved = folder.rename(root / "renamed")
    assert fetch_cifar10(moved, download=False) == moved
    monkeypatch.setenv("CONVEXP_DATA", str(moved))
    assert fetch_cifar10(None, download=False) == moved


def test_without_any_root_it_is_the_users_cache_folder(contents, tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    folder = write(tmp_path / "convexp" / "cifar-10-batches-py", contents)
    assert fetch_cifar10(None, download=False) == folder
    monkeypatch.setenv("CONVEXP_DATA", "")
    assert fetch_cifar10(None, download=False) == folder


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_damaged_file_is_named_and_not_unpickled(root, name, monkeypatch):
    path = root / "cifar-10-batches-py" / name
    content = path.read_bytes()
    monkeypatch.setattr(_cifar10._ArrayUnpickler, "find_class", lambda *_: pytest.fail("unpickled"))
    path.write_bytes(content[:-100] + b"?" + content[-99:])
    with pytest.raises(ValueError, match=f"{name} is damaged.*delete it"):
        fetch_cifar10(root, download=False)
    for other in path.parent.iterdir():  # so that the first to be read is a damaged one
        other.write_bytes(b"?" + other.read_bytes())
    with pytest.raises(ValueError, match="is damaged"):
        cifar10(**VALUES | {"root": str(root)})


@pytest.mark.parametrize("keep", [0, 1, 50, 5000, -1])
def test_a_truncated_pickle_is_one_sentence_even_if_its_checksum_is_right(
    root, contents, keep, monkeypatch
):
    contents["data_batch_1"] = contents["data_batch_1"][:keep]
    pretend(monkeypatch, contents)
    path = root / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(contents["data_batch_1"])
    with pytest.raises(ValueError, match=r"data_batch_1 is not a file of CIFAR-10: .+"):
        cifar10(**VALUES | {"root": str(root)})


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        {b"labels": []},
        {b"data": b"?", b"labels": []},
        {b"data": np.zeros((A_FILE, 3072)), b"labels": [0] * A_FILE},
        {b"data": np.zeros((A_FILE, 3071), np.uint8), b"labels": [0] * A_FILE},
        {b"data": np.zeros((A_FILE, 3072), np.uint8), b"labels": [0] * (A_FILE - 1)},
    ],
)
def test_another_pickle_is_one_sentence(root, contents, value, monkeypatch):
    contents["data_batch_1"] = python2_pickle(value)
    pretend(monkeypatch, contents)
    (root / "cifar-10-batches-py" / "data_batch_1").write_bytes(contents["data_batch_1"])
    with pytest.raises(ValueError, match=r"data_batch_1 (is not|does not hold)"):
        cifar10(**VALUES | {"root": str(root)})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_a_command_executes_nothing(
    root, contents, protocol, tmp_path, monkeypatch
):
    trace = tmp_path / "executed"
    contents["data_batch_1"] = pickle.dumps(Evil(os.system, f"echo > {trace}"), protocol)
    pretend(monkeypatch, contents)  # not even if somebody gives it the right checksum
    (root / "cifar-10-batches-py" / "data_batch_1").write_bytes(contents["data_batch_1"])
    with pytest.raises(ValueError, match=r"calls (posix|nt)\.system, which is not allowed"):
        cifar10(**VALUES | {"root": str(root)})
    assert not trace.exists()

    pickle.loads(contents["data_batch_1"])  # the pickle itself is sharp
    assert trace.exists()


@pytest.mark.parametrize(
    "evil",
    [
        Evil(eval, "1 + 1"),
        Evil(getattr, "a", "upper"),
        Evil(np.fromfile, "/dev/null"),
        Evil(subprocess.check_output, "true"),
    ],
)
def test_the_unpickler_names_what_it_refuses(evil):
    function = evil.call[0]
    with pytest.raises(pickle.UnpicklingError, match=re.escape(f".{function.__name__}, which")):
        _cifar10._ArrayUnpickler(io.BytesIO(pickle.dumps(evil, 2)), encoding="bytes").load()


def test_the_unpickler_knows_arrays_and_bytes_from_python_3_too():
    value = {"data": np.arange(6).reshape(2, 3), "bytes": b"\x00\xff"}
    pickled = io.BytesIO(pickle.dumps(value, protocol=2))
    loaded = _cifar10._ArrayUnpickler(pickled, encoding="bytes").load()
    np.testing.assert_array_equal(loaded["data"], value["data"])
    assert loaded["bytes"] == value["bytes"]


def test_codecs_are_no_way_round():
    pickled = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."
    assert pickle.loads(pickled) == "n"
    with pytest.raises(pickle.UnpicklingError, match="rot13"):
        _cifar10._ArrayUnpickler(io.BytesIO(pickled), encoding="bytes").load()
