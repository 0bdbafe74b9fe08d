"""CIFAR-10 on small files in its own layout, on a server of ours, and (marked) on the real data."""

import hashlib
import io
import os
import pickle
import re
import runpy
import struct
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from omegaconf import OmegaConf

from convexp.config import build
from convexp.datasets import Normalization, _cifar10, cifar10, fetch_cifar10

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


# ------------------------------------------------------------------- small files


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


@pytest.fixture
def images():
    """The 100 training and 20 test images of the small files."""
    return np.random.default_rng(0).integers(0, 256, (6 * A_FILE, 3, 32, 32), np.uint8)


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 10, 6 * A_FILE)


@pytest.fixture
def contents(images, labels, monkeypatch):
    """The small files, in the order of the checksums, which are theirs now."""
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    files = {}
    for number, name in enumerate(names):
        part = slice(number * A_FILE, (number + 1) * A_FILE)
        files[name] = python2_pickle(
            {
                b"batch_label": name.encode(),
                b"labels": labels[part].tolist(),
                b"data": images[part].reshape(A_FILE, -1),
                b"filenames": [b"%d.png" % i for i in range(A_FILE)],
            }
        )
    files["batches.meta"] = python2_pickle(
        {b"label_names": [name.encode() for name in NAMES], b"num_vis": 3072}
    )
    monkeypatch.setattr(_cifar10, "IMAGES_A_FILE", A_FILE)
    monkeypatch.setattr(_cifar10, "RETRIES", 0)
    monkeypatch.delenv("CONVEXP_DATA", raising=False)
    pretend(monkeypatch, files)
    return files


@pytest.fixture
def root(contents, tmp_path):
    write(tmp_path / "data" / "cifar-10-batches-py", contents)
    return tmp_path / "data"


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


# ------------------------------------------------------------------- damaged and malicious files


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


# ------------------------------------------------------------------- download


class Server:
    """Serves one file, as well or badly as a test asks; remembers what was asked."""

    def __init__(self, content: bytes):
        self.content = content
        self.ranges: list[str | None] = []  # of each request
        self.break_after: list[int] = []  # bytes to send before breaking off, for each request
        self.knows_ranges = True
        self.status = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers["Range"]
                server.ranges.append(asked)
                if server.status:
                    self.send_error(server.status)
                    return
                start = 0
                if asked and server.knows_ranges:
                    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                    if start >= len(server.content):
                        self.send_error(416)
                        return
                body = server.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                stop = server.break_after.pop(0) if server.break_after else len(body)
                self.wfile.write(body[:stop])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/cifar-10-python.tar.gz"


def make_archive(contents: dict[str, bytes], folder: str = "cifar-10-batches-py") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        others = {"readme.html": b"hello", "../outside": b"evil", "data_batch_1/x": b"evil"}
        for name, content in (contents | others).items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def serve_archive(monkeypatch, server: Server, archive: bytes) -> None:
    server.content = archive
    monkeypatch.setattr(_cifar10, "ARCHIVE_SHA256", hashlib.sha256(archive).hexdigest())


@pytest.fixture
def server(contents, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(b"")
    serve_archive(monkeypatch, server, make_archive(contents))
    monkeypatch.setattr(_cifar10, "URL", server.url)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def test_a_download_leaves_the_checked_files_and_nothing_else(
    server, contents, tmp_path, capsys, images
):
    root = tmp_path / "new" / "data"
    dataset = cifar10(**VALUES | {"root": str(root), "download": True})
    np.testing.assert_array_equal(dataset.train.images, images[:90])
    assert os.listdir(root) == ["cifar-10-batches-py"]
    assert sorted(os.listdir(root / "cifar-10-batches-py")) == sorted(contents)
    assert os.listdir(tmp_path) == ["new"]
    assert "%" not in capsys.readouterr().err  # a bar only on a terminal

    cifar10(**VALUES | {"root": str(root), "download": True})
    assert server.ranges == [None]  # the second time it is there


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = [200_000]
    with pytest.raises(FileNotFoundError, match="broke off"):
        fetch_cifar10(tmp_path, download=True)
    part = tmp_path / "cifar-10-python.tar.gz.part"
    have = part.stat().st_size
    assert part.read_bytes() == server.content[:have]
    assert 100_000 < have <= 200_000
    assert not (tmp_path / "cifar-10-batches-py").exists()

    fetch_cifar10(tmp_path, download=True)
    assert server.ranges == [None, f"bytes={have}-"]
    assert os.listdir(tmp_path) == ["cifar-10-batches-py"]


def test_a_broken_connection_is_tried_again_at_once(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_cifar10, "RETRIES", 2)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    server.break_after = [150_000, 100_000]
    fetch_cifar10(tmp_path, download=True)
    assert len(server.ranges) == 3
    assert None not in server.ranges[1:]


def test_a_server_that_cannot_resume_sends_all_again(server, tmp_path):
    server.knows_ranges = False
    server.break_after = [200_000]
    with pytest.raises(FileNotFoundError, match="broke off"):
        fetch_cifar10(tmp_path, download=True)
    fetch_cifar10(tmp_path, download=True)


def test_a_part_that_is_already_whole_is_taken(server, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(server.content)
    fetch_cifar10(tmp_path, download=True)
    assert server.ranges == [f"bytes={len(server.content)}-"]


def test_a_part_of_another_file_is_thrown_away_by_the_checksum(server, tmp_path, monkeypatch):
    part = tmp_path / "cifar-10-python.tar.gz.part"
    part.write_bytes(b"something else")
    with pytest.raises(FileNotFoundError, match="wrong checksum"):
        fetch_cifar10(tmp_path, download=True)
    assert os.listdir(tmp_path) == []
    fetch_cifar10(tmp_path, download=True)


def test_a_wrong_archive_is_refused_and_not_kept(server, tmp_path):
    server.content = server.content[:-1] + b"?"
    with pytest.raises(FileNotFoundError, match=r"all of its files\).*wrong checksum"):
        fetch_cifar10(tmp_path, download=True)
    assert os.listdir(tmp_path) == []


def test_a_server_error_is_said(server, tmp_path):
    server.status = 503
    with pytest.raises(FileNotFoundError, match=f"the server answered 503 .* {server.url}"):
        fetch_cifar10(tmp_path, download=True)


@pytest.mark.parametrize("damage", ["missing", "linked", "elsewhere", "truncated"])
def test_an_archive_that_does_not_hold_the_files_leaves_none(
    server, contents, damage, tmp_path, monkeypatch
):
    if damage == "elsewhere":
        archive = make_archive(contents, folder="/tmp/cifar-10-batches-py")
    elif damage == "truncated":
        archive = server.content[: len(server.content) // 2]
    else:
        archive = make_archive({k: v for k, v in contents.items() if k != "test_batch"})
    if damage == "linked":
        outside = tmp_path / "outside"
        outside.write_bytes(contents["test_batch"])
        file = io.BytesIO(archive)
        with tarfile.open(fileobj=file) as old:
            members = {m.name: old.extractfile(m).read() for m in old}
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("cifar-10-batches-py/test_batch")
            link.type, link.linkname = tarfile.SYMTYPE, str(outside)
            tar.addfile(link)
        archive = file.getvalue()
    serve_archive(monkeypatch, server, archive)
    with pytest.raises(FileNotFoundError, match=r"does not hold|cannot be unpacked"):
        fetch_cifar10(tmp_path / "data", download=True)
    assert os.listdir(tmp_path / "data" / "cifar-10-batches-py") == []


def test_only_missing_files_bring_about_a_download(server, root, contents):
    folder = root / "cifar-10-batches-py"
    (folder / "data_batch_3").unlink()
    fetch_cifar10(folder, download=True)
    assert sorted(os.listdir(folder)) == sorted(contents)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("download", [True, False])
def test_an_archive_put_there_by_hand_is_unpacked_and_kept(server, tmp_path, download):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(server.content)
    fetch_cifar10(tmp_path, download=download)
    assert archive.exists()
    assert server.ranges == []


def test_offline_a_wrong_archive_is_left_alone(server, tmp_path):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half of it")
    with pytest.raises(FileNotFoundError, match="at hand has a wrong checksum"):
        fetch_cifar10(tmp_path, download=False)
    assert archive.read_bytes() == b"half of it"
    assert server.ranges == []


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked on Windows")
def test_jobs_that_start_together_download_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: fetch_cifar10(tmp_path, download=True), range(4)))
    assert folders == {tmp_path / "cifar-10-batches-py"}
    assert server.ranges == [None]


# ------------------------------------------------------------------- offline


def test_missing_files_offline_are_one_sentence_that_says_what_to_do(root):
    folder = root / "cifar-10-batches-py"
    (folder / "data_batch_3").unlink()
    (folder / "batches.meta").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        cifar10(**VALUES | {"root": str(root)})
    message = str(caught.value)
    assert "\n" not in message
    assert f"not in {folder} (missing: data_batch_3, batches.meta)" in message
    assert "download is switched off" in message
    assert f"{_cifar10.URL} into {root}" in message
    assert "scripts/fetch_cifar10.py" in message


def test_offline_nothing_is_created(contents, tmp_path):
    with pytest.raises(FileNotFoundError, match="all of its files"):
        fetch_cifar10(tmp_path / "data", download=False)
    assert os.listdir(tmp_path) == []


def test_no_connection_is_one_sentence(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_cifar10, "URL", "http://127.0.0.1:1/cifar-10-python.tar.gz")
    with pytest.raises(FileNotFoundError, match=r"^CIFAR-10 is not in .* no connection .*$"):
        fetch_cifar10(tmp_path, download=True)


def test_a_root_that_cannot_be_a_folder_is_one_sentence(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=r"CIFAR-10 is not in .*file"):
        fetch_cifar10(tmp_path / "file", download=True)


# ------------------------------------------------------------------- the script


@pytest.fixture
def script(monkeypatch):
    path = Path(__file__).parents[2] / "scripts" / "fetch_cifar10.py"
    main = runpy.run_path(str(path))["main"]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [path.name, *map(str, arguments)])
        return main()

    return run


def test_the_script_downloads_and_prints_the_folder(server, tmp_path, script, capsys):
    assert script("--root", tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cifar-10-batches-py'}\n"
    assert script("--root", tmp_path, "--offline") == 0
    assert len(server.ranges) == 1


def test_the_script_says_in_one_line_why_it_cannot(contents, tmp_path, script, capsys):
    assert script("--root", tmp_path, "--offline") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("CIFAR-10 is not in")
    assert err.count("\n") == 1


# ------------------------------------------------------------------- the real data


@pytest.fixture(scope="module")
def real(cifar10_root):
    text = (resources.files("convexp.conf") / "dataset" / "cifar10.yaml").read_text()
    node = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    assert node["root"] == cifar10_root
    return build(node | {"download": False}, "dataset")


@pytest.mark.cifar10
def test_the_real_data_set_has_the_courses_parts(real):
    assert [len(s) for s in (real.train, real.val, real.test)] == [49_000, 1_000, 10_000]
    assert real.input_shape == (3, 32, 32)
    assert real.class_names == tuple(NAMES)
    assert all(s.images.dtype == np.uint8 for s in (real.train, real.val, real.test))


@pytest.mark.cifar10
def test_the_real_classes_are_equally_frequent(real):
    train = np.concatenate([real.train.labels, real.val.labels])
    np.testing.assert_array_equal(np.bincount(train), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(real.test.labels), [1000] * 10)


@pytest.mark.cifar10
def test_the_first_real_images_are_the_known_ones(real):
    names = [real.class_names[label] for label in real.train.labels[:5]]
    assert names == ["frog", "truck", "truck", "deer", "automobile"]
    names = [real.class_names[label] for label in real.test.labels[:5]]
    assert names == ["cat", "ship", "ship", "airplane", "frog"]
    # The corner of the frog: red, green, blue.
    assert real.train.images[0, :, 0, 0].tolist() == [59, 62, 63]


@pytest.mark.cifar10
def test_the_real_mean_colour_is_the_published_one(real):
    # Over all 50,000 images it is (0.4914, 0.4822, 0.4465) in units of white.
    colour = real.normalization.mean.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(colour, [0.4914, 0.4822, 0.4465], atol=5e-4)


@pytest.mark.cifar10
def test_the_real_spread_of_the_colours_is_the_published_one(real):
    # Over all 50,000 images it is (0.2470, 0.2435, 0.2616) in units of white.
    found = Normalization.of(real.train.images, "channels")
    np.testing.assert_allclose(found.std[:, 0, 0] / 255, [0.2470, 0.2435, 0.2616], atol=5e-4)


@pytest.mark.cifar10
def test_the_real_training_images_are_centred(real):
    total = np.zeros(real.input_shape)
    for start in range(0, len(real.train), 1000):
        x, _ = real.batch(real.train, slice(start, start + 1000), np.float64)
        total += x.sum(axis=0)
    np.testing.assert_allclose(total / len(real.train), 0, atol=1e-9)
