"""A checkpoint that is used elsewhere: in another folder, or on another machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module

from convexp.checkpoints import Checkpoint
from convexp.plugins import search_path
from convexp.resuming import continued
from convexp.run import resolve
from tests.resuming.runs import Found, checkpoint_of, in_folder, in_mlflow
from tests.test_cli import convexp

HERE = "sqlite:////here/mlflow.db"


def configured(*words: str) -> dict[str, Any]:
    """What a command that names a checkpoint is carried out with."""
    search_path.install()
    with initialize_config_module("convexp.conf", version_base="1.3"):
        config = compose("config", list(words))
    if "uri" in config.tracking:
        config.tracking.uri = HERE  # whose default only a started program knows
    return continued(resolve(config), words)


def test_a_training_goes_on_in_its_store_while_that_is_there(copy: tuple[Path, Found]) -> None:
    folder, trained = copy
    file = checkpoint_of(folder)
    records = Path(trained.config()["tracking"]["folder"])
    kept = configured(f"resume={file}", "tracking.run_name=again")["tracking"]
    assert (kept["folder"], kept["run_name"]) == (str(records), "again")
    assert configured(f"resume={file}", "tracking=none")["tracking"].keys() == {"_target_"}
    moved = records.rename(records.with_name("moved"))
    try:
        assert configured(f"resume={file}")["tracking"]["uri"] == HERE
    finally:
        moved.rename(records)


@pytest.mark.parametrize(
    ("uri", "there"),
    [
        ("sqlite:///{folder}/mlflow.db", True),
        ("sqlite:///{folder}/nothing.db", False),
        ("http://user:secret@127.0.0.1:9", True),  # which need not answer at this moment
    ],
)
def test_a_database_is_there_as_a_file_and_a_server_always(
    copy: tuple[Path, Found], uri: str, there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = copy
    (folder / "mlflow.db").touch()
    file = checkpoint_of(folder)
    checkpoint, uri = Checkpoint.load(file), uri.format(folder=folder)
    node = configured(f"resume={file}", "tracking=mlflow")["tracking"] | {"uri": uri}
    words = {**checkpoint.words, "config": {**checkpoint.config, "tracking": node}}
    Checkpoint(checkpoint.arrays, words).save(file)
    with caplog.at_level("INFO"):
        assert configured(f"resume={file}")["tracking"]["uri"] == (uri if there else HERE)
    assert f"{uri.replace('user:secret@', '')}, the store of the checkpoint" in caplog.text
    assert configured("task=evaluate", f"checkpoint={file}")["tracking"]["uri"] == HERE


def test_images_are_where_they_are_now(copy: tuple[Path, Found], tmp_path: Path) -> None:
    file = checkpoint_of(copy[0])
    checkpoint = Checkpoint.load(file)

    def root(kept: str | None, *words: str) -> str | None:
        node = {"_target_": "convexp.datasets.cifar10", "root": kept, "num_val": 7}
        config = {**checkpoint.config, "dataset": node}
        Checkpoint(checkpoint.arrays, {**checkpoint.words, "config": config}).save(file)
        dataset = configured(f"resume={file}", *words)["dataset"]
        assert dataset["num_val"] in (7, 1000)
        return dataset["root"]  # type: ignore[no-any-return]

    there, gone = str(tmp_path), str(tmp_path / "gone")
    assert root(there) == there
    assert root(gone) is root(None) is None  # so the data set looks where CONVEXP_DATA says
    for kept in (there, gone, None):
        assert root(kept, "+dataset.root=/typed") == "/typed"
        assert root(kept, "dataset=cifar10", "dataset.root=/typed") == "/typed"


def test_on_another_machine_records_begin_there(copy: tuple[Path, Found], tmp_path: Path) -> None:
    folder, trained = copy
    file = shutil.copy(checkpoint_of(folder), tmp_path / "brought.npz")
    checkpoint = Checkpoint.load(Path(file))
    gone = checkpoint.config["tracking"] | {"folder": str(tmp_path / "gone")}
    words = {**checkpoint.words, "config": {**checkpoint.config, "tracking": gone}}
    Checkpoint(checkpoint.arrays, words).save(Path(file))
    place = tmp_path / "place"
    place.mkdir()
    done = convexp(place, f"resume={file}")
    assert done.returncode == 0, done.stderr
    assert f"as a new run: the store has no run {trained.id}" in done.stdout
    (found,) = in_mlflow(place)
    assert found.status == "FINISHED"
    assert found.curves() == trained.curves()
    assert not (tmp_path / "gone").exists()
    assert in_folder(folder) == [trained._replace(files=in_folder(folder)[0].files)]
