"""CIFAR-10 fetched from a server of ours, by the data set and by the script; and no network."""

import hashlib
import io
import os
import re
import runpy
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from convexp.datasets import _cifar10, cifar10, fetch_cifar10
from tests.datasets.cifar10_files import VALUES


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
