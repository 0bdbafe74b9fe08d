import re
import subprocess
import sys
import tracemalloc
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from convexp.config import build
from convexp.datasets import Dataset, Normalization, Split
from convexp.datasets.dataset import partition


def make_split(size: int = 6, shape: tuple[int, int, int] = (2, 3, 4), seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (size, *shape), np.uint8), rng.integers(0, 3, size))


def make_dataset(**changes: object) -> Dataset:
    train = make_split()
    values = {
        "name": "tiny",
        "train": train,
        "val": make_split(2, seed=1),
        "test": make_split(0),
        "normalization": Normalization.of(train.images, "mean_image"),
        "class_names": ("a", "b", "c"),
        "source": "made up",
    }
    return Dataset(**(values | changes))


# ------------------------------------------------------------------- Split


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 1, 3, 3), np.float32), np.zeros(2, np.int64), "uint8.*float32"),
        (np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64), r"\(N, C, H, W\).*\(2, 3, 3\)"),
        (np.zeros((2, 1, 0, 3), np.uint8), np.zeros(2, np.int64), "only N may be 0"),
        (np.zeros((2, 1, 3, 3), np.uint8), np.zeros(3, np.int64), r"\(2,\).*\(3,\)"),
        (np.zeros((2, 1, 3, 3), np.uint8), np.zeros((2, 1), np.int64), r"\(2,\).*\(2, 1\)"),
        (np.zeros((2, 1, 3, 3), np.uint8), np.zeros(2, np.int32), "int64.*int32"),
        (np.zeros((2, 1, 3, 3), np.uint8), np.array([0, -1]), "-1"),
    ],
)
def test_a_split_refuses_what_does_not_fit(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Split(images, labels)


def test_a_split_may_be_empty():
    assert len(make_split(0)) == 0
    assert len(make_split(6)) == 6


def test_a_split_cannot_be_written_and_leaves_the_given_array_as_it_was():
    images = np.zeros((1, 1, 2, 2), np.uint8)
    split = Split(images, np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 1
    images[0] = 1  # its owner may


def test_the_digest_tells_splits_apart():
    split = make_split(2500)
    again = Split(split.images.copy(order="F"), split.labels.copy())
    assert split.digest == again.digest
    assert len(split.digest) == 64

    images = split.images.copy()
    images[-1, -1, -1, -1] ^= 1
    labels = split.labels.copy()
    labels[-1] ^= 1
    turned = split.images.reshape(2500, 2, 4, 3)
    others = [Split(images, split.labels), Split(split.images, labels), Split(turned, split.labels)]
    assert len({split.digest, *(other.digest for other in others)}) == 4


# ------------------------------------------------------------------- Dataset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": make_split(0)}, "no image to train on"),
        ({"val": make_split(2, (2, 4, 3))}, r"val.*\(2, 4, 3\).*\(2, 3, 4\)"),
        ({"test": make_split(0, (1, 3, 4))}, r"test.*\(1, 3, 4\).*\(2, 3, 4\)"),
        ({"class_names": ("a", "b")}, "2 class names.*go up to 2"),
        ({"class_names": ("a", "b", "a")}, r"different names, not \('a', 'b', 'a'\)"),
        ({"class_names": ("a", "", "b")}, "different names"),
        (
            {"normalization": Normalization(np.zeros((2, 4, 3)), np.ones((2, 4, 3)))},
            r"normalization of tiny.*\(2, 3, 4\).*\(2, 4, 3\)",
        ),
    ],
)
def test_a_dataset_refuses_parts_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(**changes)


def test_a_dataset_says_what_a_model_must_know():
    dataset = make_dataset()
    assert dataset.input_shape == (2, 3, 4)
    assert dataset.num_classes == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32", np.dtype("float64")])
def test_a_batch_is_cut_in_the_dtype_asked_for(dtype):
    dataset = make_dataset()
    indices = np.array([4, 0, 4])
    x, y = dataset.batch(dataset.train, indices, dtype)
    assert x.dtype == dtype
    assert x.flags.c_contiguous
    assert y.dtype == np.int64
    exact = dataset.train.images[indices] - dataset.train.images.mean(axis=0)
    np.testing.assert_allclose(x, exact, rtol=0, atol=np.finfo(dtype).eps * 255)
    np.testing.assert_array_equal(y, dataset.train.labels[indices])


def test_a_batch_is_the_callers_own_whatever_the_layout_in_memory():
    split = make_split()
    dataset = make_dataset(train=Split(np.asfortranarray(split.images), split.labels))
    for indices in (slice(1, 4), [1, 2, 3]):
        x, y = dataset.batch(dataset.train, indices, np.float32)
        assert x.flags.c_contiguous
        x[:] = 0
        y[:] = 0
        np.testing.assert_array_equal(dataset.train.images, split.images)
        np.testing.assert_array_equal(dataset.train.labels, split.labels)


@pytest.mark.parametrize("indices", [[], slice(0, 0), np.zeros(0, int)])
def test_a_batch_may_be_empty(indices):
    dataset = make_dataset()
    x, y = dataset.batch(dataset.train, indices, np.float32)
    assert (x.shape, y.shape) == ((0, 2, 3, 4), (0,))


@pytest.mark.parametrize(
    ("indices", "dtype", "message"),
    [
        ([0], np.float16, "float16"),
        ([0], np.int64, "int64"),
        ([0.5], np.float32, "float64"),
        ([True, False, True, False, True, False], np.float32, "bool"),
        ([[0, 1]], np.float32, r"\(1, 2\)"),
        (0, np.float32, r"\(\)"),
    ],
)
def test_a_batch_refuses_other_dtypes_and_indices(indices, dtype, message):
    dataset = make_dataset()
    with pytest.raises(ValueError, match=message):
        dataset.batch(dataset.train, indices, dtype)


def test_without_subtraction_a_batch_holds_the_grey_values():
    split = make_split()
    dataset = make_dataset(normalization=Normalization.of(split.images, "none"))
    x, _ = dataset.batch(dataset.train, slice(None), np.float32)
    np.testing.assert_array_equal(x, split.images)


# ------------------------------------------------------------------- memory


def peak_bytes(action) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_float32_batch_needs_no_float64_and_no_copy_of_the_split():
    train = make_split(4000, (3, 16, 16))
    nothing = Normalization.of(train.images, "none")
    dataset = make_dataset(train=train, val=train, test=train, normalization=nothing)
    indices = np.arange(1000)
    values = len(indices) * 3 * 16 * 16
    peak = peak_bytes(lambda: dataset.batch(train, indices, np.float32))
    assert peak < 1.1 * values * (1 + 4)  # its uint8 and its float32 values


# ------------------------------------------------------------------- partition


@given(
    num_first=st.none() | st.integers(1, 50),
    others=st.lists(st.integers(0, 30), max_size=3),
    spare=st.integers(0, 10),
)
def test_parts_have_their_sizes_and_do_not_overlap(num_first, others, spare):
    total = (num_first or 1) + sum(others) + spare
    names = {"first": num_first} | {f"other{i}": size for i, size in enumerate(others)}
    slices = partition(names, total, of="things")
    parts = [list(range(total))[part] for part in slices]
    expected_first = total - sum(others) if num_first is None else num_first
    assert [len(part) for part in parts] == [expected_first, *others]
    taken = [index for part in parts for index in part]
    assert taken == sorted(set(taken))


def test_training_on_fewer_images_leaves_the_others_as_they_were():
    few = partition({"num_train": 10, "num_val": 20, "num_test": 30}, 100, of="things")
    all_ = partition({"num_train": None, "num_val": 20, "num_test": 30}, 100, of="things")
    assert few == [slice(0, 10), slice(50, 70), slice(70, 100)]
    assert all_[1:] == few[1:]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"num_train": 90, "num_val": 11},
            "num_train=90 + num_val=11 is more than there is: there are 100 things",
        ),
        (
            {"num_train": None, "num_val": 60, "num_test": 40},
            "num_val=60 + num_test=40 leaves nothing for num_train=null: there are 100 things",
        ),
        ({"num_train": 1, "num_val": -1}, "num_val must be at least 0, not -1"),
        ({"num_train": -1, "num_val": 1}, "num_train must be at least 0, not -1"),
    ],
)
def test_sizes_that_do_not_fit_are_one_sentence(sizes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        partition(sizes, 100, of="things")


# ------------------------------------------------------------------- the package


def test_importing_the_package_imports_no_source_of_data():
    code = (
        "import sys, convexp.datasets\n"
        "print(*{'sklearn', 'pooch', 'requests', 'tqdm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_the_configuration_builds_its_dataset(name):
    text = (resources.files("convexp.conf") / "dataset" / f"{name}.yaml").read_text()
    node = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    dataset = build(node, "dataset")
    assert dataset.name == name
    assert min(len(dataset.train), len(dataset.val), len(dataset.test)) > 0
