from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from convexp.images import photographs
from convexp.images.photographs import fitted
from convexp.images.reading import SAMPLES, found, read


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files to be found in the folder that a command is started in."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "c.jpg", "few [1].png", "photos/d.png", "photos/deep/e.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 7), (255, 0, 0)).save(name)
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        (["a.png"], ["a.png"]),
        (["?.png"], ["a.png", "b.png"]),
        (["c.jpg", "*.png"], ["c.jpg", "a.png", "b.png", "few [1].png"]),
        (["few [1].*", "few [1].png"], ["few [1].png"]),
        (["photos/*"], ["photos/d.png"]),
        (["photos/**"], ["photos/d.png", "photos/deep/e.png"]),
        (["**/e.png"], ["photos/deep/e.png"]),
    ],
)
def test_patterns_stand_for_files(folder: Path, patterns: list[str], files: list[str]) -> None:
    assert found(patterns) == tuple(files)


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("*.gif", r"no file fits '\*\.gif' in "),
        (["a.png", "x*"], r"no file fits 'x\*' in "),
        ("photos", r"'photos' is a folder; 'photos/\*' stands for its files"),
        ("x.png", "'x.png' cannot be read: No such file or directory"),
        ("text.png", "'text.png' is no image of a known format"),
        ([], "the list names no file"),
    ],
)
def test_what_is_no_photograph_is_one_sentence(
    folder: Path, named: str | list[str], sentence: str
) -> None:
    Path("text.png").write_text("no picture")
    with pytest.raises(ValueError, match=f"^{sentence}"):
        photographs(named, (3, 8, 8))


def test_a_network_of_other_images_takes_no_photograph() -> None:
    with pytest.raises(ValueError, match="images of 2 channels"):
        photographs(None, (2, 8, 8))


def test_without_names_there_are_two(tmp_path: Path) -> None:
    names, images = photographs(None, (3, 4, 6))
    assert names == SAMPLES
    assert (images.shape, images.dtype) == ((2, 3, 4, 6), np.uint8)
    red, _, blue = images[1, :, 2, 2]
    assert red > 100 > blue  # in the middle of a yellow flower


@pytest.mark.parametrize(("channels", "red"), [(3, [255, 0, 0]), (1, [76])])
def test_channels_are_colours_or_luminance(folder: Path, channels: int, red: list[int]) -> None:
    _, images = photographs("a.png", (channels, 3, 2))
    expected = np.broadcast_to(np.array(red)[:, None, None], (channels, 3, 2))
    np.testing.assert_array_equal(images[0], expected)


def saved(image: Image.Image, **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "png", **options)
    return Image.open(file)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 100), (100, 100, 100)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 255, 0)), (255, 255, 255)),
        (Image.new("LA", (4, 4), (0, 255)), (0, 0, 0)),
        (Image.new("P", (4, 4)), (0, 0, 0)),
        (Image.fromarray(np.full((4, 4), 100 * 257, np.uint16)), (100, 100, 100)),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), (255, 255, 255)),
    ],
    ids=["grey", "bits", "clear", "grey_alpha", "palette", "16_bits", "16_bits_white"],
)
def test_any_kind_of_image_becomes_colours(
    image: Image.Image, expected: tuple[int, int, int]
) -> None:
    made = fitted(saved(image), 3, 2)
    assert (made.shape, made.dtype) == ((3, 2, 3), np.uint8)
    np.testing.assert_array_equal(made, np.broadcast_to(expected, (3, 2, 3)))


def test_a_pgm_of_16_bits_is_grey(folder: Path) -> None:
    Path("x.pgm").write_bytes(b"P5 2 2 1000\n" + struct.pack(">H", 500) * 4)
    _, images = photographs("x.pgm", (1, 2, 2))
    np.testing.assert_array_equal(images, np.full((1, 1, 2, 2), 128))


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.int32, "integers of 32 bits"), (np.float32, "floating-point numbers")]
)
def test_values_of_which_nothing_says_what_is_white_are_refused(
    folder: Path, dtype: type, kind: str
) -> None:
    Image.fromarray(np.full((4, 4), 200, dtype)).save("x.tif")
    sentence = f"'x.tif' cannot be read: its values are {kind}, of which nothing says how bright"
    with pytest.raises(ValueError, match=f"^{sentence}"):
        photographs("x.tif", (3, 4, 4))


def test_the_middle_is_cut_in_the_network_s_proportions() -> None:
    pixels = np.zeros((30, 10), np.uint8)
    pixels[9:21] = 200  # 5 rows of the 10 columns are cut, and the filter looks beyond
    made = fitted(Image.fromarray(pixels), 4, 8, grey=True)
    np.testing.assert_array_equal(made, np.full((4, 8), 200))


def test_fine_stripes_become_their_mean() -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:, ::2] = 200
    np.testing.assert_allclose(fitted(Image.fromarray(pixels), 8, 8, grey=True), 100, atol=10)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_camera_says(orientation: int) -> None:
    pixels = np.zeros((6, 6), np.uint8)
    pixels[0, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    made = fitted(saved(Image.fromarray(pixels), exif=exif), 6, 6, grey=True)
    # Where row 0 and column 0 are, according to EXIF.
    upright = {
        1: pixels,  # top, left
        2: pixels[:, ::-1],  # top, right
        3: pixels[::-1, ::-1],  # bottom, right
        4: pixels[::-1],  # bottom, left
        5: pixels.T,  # left, top
        6: pixels.T[:, ::-1],  # right, top
        7: pixels.T[::-1, ::-1],  # right, bottom
        8: pixels.T[::-1],  # left, bottom
    }
    np.testing.assert_array_equal(made, upright[orientation])


def tiff_header(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF as it stands in a JPEG, of entries (tag, type, count, value)."""
    packed = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + b"\0\0\0\0"


ORIENTATION_6 = (0x0112, 3, 1, b"\6\0\0\0")


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (tiff_header(ORIENTATION_6), True),
        (tiff_header(ORIENTATION_6, (0x0128, 3, 2, b"\2\0\2\0")), True),  # two ResolutionUnits
        (tiff_header(ORIENTATION_6, (0x0128, 2, 2, b"2\0\0\0")), True),  # one that is a text
        (tiff_header((0x0112, 3, 2, b"\6\0\6\0")), True),
        (tiff_header((0x0112, 2, 2, b"6\0\0\0")), False),
        (tiff_header((0x0112, 3, 1, b"\x63\0\0\0")), False),
        (b"Exif\0\0no header of TIFF's", False),
        (b"Exif\0\0II*", False),
    ],
    ids=["orientation", "units", "unit_of_text", "twice", "a_text", "99", "no_header", "cut_off"],
)
def test_what_else_a_camera_says_does_not_matter(folder: Path, exif: bytes, turned: bool) -> None:
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:8] = 255
    Image.fromarray(pixels).save("x.jpg", quality=100, exif=exif)
    made = read("x.jpg", lambda image: fitted(image, 16, 16, grey=True))
    expected = pixels.T[:, ::-1] if turned else pixels
    np.testing.assert_allclose(made.astype(int), expected, atol=5)


@pytest.mark.parametrize("error", [struct.error("a short"), RuntimeError("a decoder"), KeyError()])
def test_whatever_a_decoder_raises_names_the_file(
    folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(image: Image.Image) -> None:
        raise error

    monkeypatch.setattr(PngImageFile, "load", load)
    reason = str(error) or "KeyError"
    with pytest.raises(ValueError, match=rf"^'a\.png' cannot be read: {reason}$"):
        photographs("a.png", (3, 8, 8))
