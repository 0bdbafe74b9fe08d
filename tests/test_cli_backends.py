"""Backends on the command line: for one op, one layer, beside another; and what a run keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.distributions import TESTS, plant
from tests.test_cli import SMALL, convexp, history, runs


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over who serves the convolution of one layer."""
    folder = tmp_path_factory.mktemp("layers")
    done = convexp(folder, "-m", "backend.layers.conv1.conv=naive,fast", *SMALL)
    assert done.returncode == 0, done.stderr
    return folder


def test_one_layer_can_be_swept_and_the_tags_say_who_served_it(swept: Path) -> None:
    naive, fast = runs(swept)
    version = naive.data.tags["convexp.version"]
    assert naive.data.tags["layers.conv1"] == (
        f"conv by naive (convexp {version}), max_pool by fast (convexp {version})"
    )
    assert fast.data.tags["layers.conv1"] == f"conv_relu_pool by fast (convexp {version})"
    for run in (naive, fast):
        assert run.data.tags["layers.affine1"] == f"affine by fast (convexp {version})"
        assert run.data.tags["ops.conv"] == f"fast (convexp {version})"
    assert naive.data.params["backend.layers.conv1.conv"] == "naive"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["backend.layers.conv2.conv=naive"], "no layer 'conv2' calls an op; did you mean 'conv1'"),
        (["backend.layers.affine1.conv=naive"], "affine1: it calls no 'conv'; possible: affine"),
        (["backend.layers.conv1.conv=nave"], "no backend 'nave'; did you mean 'naive'"),
        (["backend.shadow=nave"], "there is no backend 'nave'; did you mean 'naive'"),
        (["backend.ops.cnov=naive"], "backend.ops has no key 'cnov'; did you mean 'conv'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_mistake_ends_with_one_sentence_before_any_run(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = convexp(tmp_path, *SMALL, *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("convexp: ")
    assert sentence in line
    assert not (tmp_path / "mlflow.db").exists()


def test_a_wrong_plugin_ends_the_run_with_a_sentence_that_names_it(tmp_path: Path) -> None:
    name = plant(tmp_path, "float64 out")
    path = f"{tmp_path}:{TESTS}"
    done = convexp(tmp_path, *SMALL, f"backend.ops.max_pool={name}", PYTHONPATH=path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"convexp: backend '{name}' ({name} 1.0, entry point {name}:ops): max_pool.forward "
        "returned y as float64 (60, 4, 3, 4), where float32 (60, 4, 3, 4) was expected"
    )
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a wrong backend, and the reference beside it."""
    folder = tmp_path_factory.mktemp("shadow")
    name = plant(folder, "sums in half precision")
    shadow = ["backend.shadow=naive", "backend.shadow_every=3"]
    done = convexp(
        folder, *SMALL, f"backend.ops.conv={name}", *shadow, PYTHONPATH=f"{folder}:{TESTS}"
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout, encoding="utf-8")
    return folder


def test_a_shadow_records_how_far_apart_they_are(shadowed: Path) -> None:
    (run,) = runs(shadowed)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in history(shadowed, run, "parity/conv1.y")] == [1, 4]
    assert run.data.metrics["parity/conv1.y"] > 1e-4
    assert run.data.metrics["parity/affine1.dw"] < 1e-5
    tag = run.data.tags["convexp.parity"]
    assert tag.startswith("conv1 (conv by planted_sums_in_half_precision (planted_sums_in_half_")
    assert "is off from naive at step 1, y by " in tag
    assert tag in (shadowed / "stdout").read_text(encoding="utf-8")
    assert "largest parity error" in (shadowed / "stdout").read_text(encoding="utf-8")


def test_the_reproducer_replays_what_was_wrong(shadowed: Path, tmp_path: Path) -> None:
    (run,) = runs(shadowed)
    client = MlflowClient(f"sqlite:///{shadowed}/mlflow.db")
    kept = {a.path for a in client.list_artifacts(run.info.run_id, "parity")}
    assert kept == {"parity/conv1.npz", "parity/conv1.py"}
    folder = Path(client.download_artifacts(run.info.run_id, "parity", str(tmp_path)))
    assert len((folder / "conv1.py").read_text(encoding="utf-8").splitlines()) == 3
    environment = {"PYTHONPATH": f"{shadowed}:{TESTS}", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "conv1.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "conv_relu_pool y: " in done.stdout
    assert done.stderr.splitlines()[-1].startswith("AssertionError: y")


def test_a_shadow_may_end_the_run(tmp_path: Path) -> None:
    name = plant(tmp_path, "sums in half precision")
    shadow = ["backend.shadow=naive", "backend.shadow_stop=true"]
    path = f"{tmp_path}:{TESTS}"
    done = convexp(tmp_path, *SMALL, f"backend={name}", *shadow, PYTHONPATH=path)
    assert done.returncode == 1
    assert "is off from naive at step 1" in done.stderr
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert run.data.tags["convexp.parity"]


def test_diff_ends_with_the_place_where_backends_part(tmp_path: Path) -> None:
    name = plant(tmp_path, "forgets the bias")
    few = [a for a in SMALL if not a.startswith("tracking")]
    path = f"{tmp_path}:{TESTS}"
    done = convexp(tmp_path, "diff", name, "naive", *few, PYTHONPATH=path)
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith(f"convexp: {name} and naive part at step 2, layer conv1, tensor y: ")
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert run.data.metrics["diff/conv1.y"] > 0
    assert run.data.tags["convexp.diff"] == "step 2, layer conv1, tensor y"
