from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from convexp.errors import UserError
from convexp.images import filtered_figure, square
from convexp.ops import Ops
from convexp.plugins import select
from convexp.tasks.filters import apply_filters, filters, hand_set
from convexp.tracking import NoTracker
from tests.test_cli import convexp, runs


def test_the_command_draws_two_photographs_and_records_the_figure(tmp_path: Path) -> None:
    done = convexp(tmp_path, "task=filters")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "filters.png") in done.stdout
    with Image.open(tmp_path / "filters.png") as picture:
        assert picture.width > 3 * 200
        assert picture.height > 2 * 200
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert "filters.png" in {a.path for a in client.list_artifacts(run.info.run_id)}
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_a_missing_image_is_one_sentence(tmp_path: Path) -> None:
    done = convexp(tmp_path, "task=filters", "task.images=[nowhere.jpg]", "tracking=none")
    assert done.returncode == 1
    expected = "convexp: task.images: 'nowhere.jpg' cannot be read: No such file or directory\n"
    assert done.stderr == expected


def run_filters(images: list[str] | None, output: str, size: int = 20) -> None:
    backend = select(name="fast", num_threads=None, ops={}, layers={})
    filters(images=images, size=size, output=output, backend=backend, tracker=NoTracker())


@pytest.mark.parametrize(
    ("images", "output", "sentence"),
    [
        (["text.png"], "a.png", "'text.png' is no image of a known format"),
        (["cut.png"], "a.png", "'cut.png' cannot be read: "),
        (["."], "a.png", r"'\.' is a folder; '\./\*' stands for its files"),
        ([], "a.png", "task.images names no file"),
        (None, "a.txt", "task.output = 'a.txt': its ending must be one of .*png"),
        (None, "filters", "task.output = 'filters': its ending must be one of"),
        (None, "text.png/a.png", "task.output = 'text.png/a.png': "),
    ],
)
def test_what_cannot_be_read_or_written_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: list[str] | None,
    output: str,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no picture")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save("whole.png")
    Path("cut.png").write_bytes(Path("whole.png").read_bytes()[:3000])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=sentence):
        run_filters(images, output)
    assert sorted(tmp_path.iterdir()) == before


def test_any_image_of_any_size_and_any_format_of_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (5, 90), 128).save("grey.png")
    Image.new("RGBA", (300, 7), (255, 0, 0, 0)).save("clear.png")
    Image.new("P", (1, 1)).save("palette.gif")
    run_filters(["grey.png", "clear.png", "palette.gif"], "made/of.pdf")
    assert Path("made/of.pdf").read_bytes().startswith(b"%PDF")


def test_the_filters_are_those_of_the_course(ops: Ops, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (2, 6, 5, 3)).astype(np.uint8)
    grey, edges = apply_filters(images, ops.conv)
    red, green, blue = images.astype(float).transpose(3, 0, 1, 2)
    np.testing.assert_allclose(grey, 0.3 * red + 0.6 * green + 0.1 * blue, rtol=1e-12)
    padded = np.pad(blue, ((0, 0), (1, 1), (1, 1)))
    smooth = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    np.testing.assert_allclose(edges, smooth[:, :-2] - smooth[:, 2:] + 128, rtol=1e-12)
    w, b = hand_set()
    assert w.shape == (2, 3, 3, 3)
    assert b.tolist() == [0, 128]


def test_a_square_is_cut_from_the_middle_and_turned_upright() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 9:21] = 200
    cut = square(Image.fromarray(pixels), 4)
    assert (cut.shape, cut.dtype) == ((4, 4, 3), np.uint8)
    np.testing.assert_allclose(cut, np.full((4, 4, 3), 200), atol=20)

    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # above
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", exif=exif)
    upright = square(Image.open(file), 8)
    np.testing.assert_array_equal(upright[[0, -1], 0, 0], [0, 255])


def test_the_figure_has_a_row_an_image() -> None:
    pictures = [np.zeros((4, 4, 3), np.uint8)] * 3
    figure = filtered_figure(pictures, np.zeros((3, 4, 4)), np.full((3, 4, 4), 128.0))
    assert len(figure.axes) == 9
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["original", "grayscale", "horizontal edges", ""]
    assert [axes.images[0].get_clim() for axes in figure.axes[1:3]] == [(0, 255), (127, 129)]
