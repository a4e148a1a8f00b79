"""Every mode of an image becomes the pixels it shows; what cannot be read is an error with the path."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bench.data.decoding import LONGEST, decode
from bench.errors import DataError

SIDE = 8
RAMP = np.linspace(0, 255, SIDE * SIDE).round().astype(np.uint8).reshape(SIDE, SIDE)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)


def read(path: Path) -> npt.NDArray[np.uint8]:
    """Height × width × colours, as decoded at the image's own size."""
    found = decode(path, SIDE)
    assert found.dtype == np.uint8
    return found.transpose(1, 2, 0).copy()


def grey(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(values[:, :, None], 3, axis=2)


@pytest.mark.parametrize("ending", ["png", "tif", "tiff", "bmp", "webp"])
def test_colours_and_grey_come_as_they_are(tmp_path: Path, ending: str) -> None:
    lossless = {"lossless": True, "exact": True} if ending == "webp" else {}
    Image.fromarray(COLOURS).save(tmp_path / f"rgb.{ending}", **lossless)
    Image.fromarray(RAMP).save(tmp_path / f"grey.{ending}", **lossless)
    assert np.array_equal(read(tmp_path / f"rgb.{ending}"), COLOURS)
    assert np.array_equal(read(tmp_path / f"grey.{ending}"), grey(RAMP))


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, ending: str, order: str) -> None:
    wide = RAMP.astype(np.uint16) * 257  # 65,535 is white
    image = Image.frombytes("I;16" if order == "<u2" else "I;16B", (SIDE, SIDE), wide.astype(order).tobytes())
    image.save(tmp_path / f"a.{ending}")
    assert np.array_equal(read(tmp_path / f"a.{ending}"), grey(RAMP))


def test_sixteen_bits_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    values = np.full((SIDE, SIDE), 128, dtype=np.uint16)  # 0.498 of a step of eight bits
    values[0, 0], values[0, 1] = 129, 65535
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[0, :3, 0].tolist() == [1, 255, 0]


def test_sixteen_bit_colours_keep_their_high_bytes(tmp_path: Path) -> None:
    """Pillow cannot write them: a PNG by hand, one row of filter type 0 after the other."""
    wide = COLOURS.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in wide)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = SIDE.to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert np.array_equal(read(tmp_path / "a.png"), COLOURS)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = RAMP > 99
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), grey(np.where(bits, 255, 0).astype(np.uint8)))


def test_a_palette_shows_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray((np.arange(SIDE * SIDE) % 3).astype(np.uint8).reshape(SIDE, SIDE))
    image.putpalette([9, 8, 7, 100, 0, 200, 255, 255, 0])
    image.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").reshape(-1, 3)[:3].tolist() == [[9, 8, 7], [100, 0, 200], [255, 255, 0]]
    image.save(tmp_path / "b.png", transparency=1)
    assert read(tmp_path / "b.png").reshape(-1, 3)[:3].tolist() == [[9, 8, 7], [255, 255, 255], [255, 255, 0]]


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, ending: str) -> None:
    alpha = np.full((SIDE, SIDE, 1), 255, dtype=np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 51
    lossless = {"lossless": True, "exact": True} if ending == "webp" else {}
    Image.fromarray(np.concatenate([COLOURS, alpha], axis=2)).save(tmp_path / f"a.{ending}", **lossless)
    found = read(tmp_path / f"a.{ending}")
    assert found[0, 0].tolist() == [255, 255, 255]
    expected = 0.2 * COLOURS[0, 1] + 0.8 * 255
    assert np.abs(found[0, 1] - expected).max() <= 1
    found[0, :2] = COLOURS[0, :2]
    assert np.array_equal(found, COLOURS)  # what is opaque is exact


def test_grey_with_alpha_and_a_transparent_colour(tmp_path: Path) -> None:
    alpha = np.where(RAMP > 99, 255, 0).astype(np.uint8)
    Image.merge("LA", (Image.fromarray(RAMP), Image.fromarray(alpha))).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), grey(np.where(alpha, RAMP, 255).astype(np.uint8)))
    Image.fromarray(COLOURS).save(tmp_path / "b.png", transparency=tuple(COLOURS[3, 3].tolist()))
    found = read(tmp_path / "b.png")
    assert found[3, 3].tolist() == [255, 255, 255]
    found[3, 3] = COLOURS[3, 3]
    assert np.array_equal(found, COLOURS)


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_print_colours_become_screen_colours(tmp_path: Path, ending: str) -> None:
    Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0)).save(tmp_path / f"a.{ending}")  # cyan ink alone
    assert np.abs(read(tmp_path / f"a.{ending}").astype(int) - [0, 255, 255]).max() <= 1


@pytest.mark.parametrize(
    ("mode", "said"), [("F", "floating-point values; which values are black"), ("I", "32-bit integers")]
)
def test_numbers_without_a_range_are_refused(tmp_path: Path, mode: str, said: str) -> None:
    Image.new(mode, (SIDE, SIDE), 70_000).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=said) as caught:
        decode(tmp_path / "a.tif", SIDE)
    assert str(tmp_path / "a.tif") in str(caught.value)


@pytest.mark.parametrize("ending", ["tif", "webp", "png"])
def test_several_pictures_in_a_file_are_refused(tmp_path: Path, ending: str) -> None:
    first, second = Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second])
    with pytest.raises(DataError, match="2 pictures"):
        decode(tmp_path / f"a.{ending}", SIDE)


def test_a_cameras_second_view_is_no_second_picture(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS)
    image.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[image.rotate(180)], quality=95)
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - COLOURS).mean() < 40


def test_a_line_is_no_image(tmp_path: Path) -> None:
    Image.new("RGB", (2 * LONGEST, 2)).save(tmp_path / "long.png")
    assert decode(tmp_path / "long.png", SIDE).shape == (3, SIDE, SIDE)
    Image.new("RGB", (2 * LONGEST + 1, 2)).save(tmp_path / "line.png")
    with pytest.raises(DataError, match=f"{2 * LONGEST + 1}×2 pixels are a line"):
        decode(tmp_path / "line.png", SIDE)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(DataError, match="decompression bomb") as caught:
        decode(tmp_path / "a.png", SIDE)
    assert str(tmp_path / "a.png") in str(caught.value)


def test_what_a_file_holds_counts_and_not_its_ending(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read(tmp_path / "a.jpg"), COLOURS)
    Image.fromarray(COLOURS).save(tmp_path / "b.jpg", format="EPS")  # a program, which Ghostscript would run
    with pytest.raises(DataError, match="cannot read the image"):
        decode(tmp_path / "b.jpg", SIDE)


FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("ending", FORMATS)
def test_whatever_a_damaged_file_does_is_an_error_with_its_path(tmp_path: Path, ending: str) -> None:
    """Cut at every eighth byte, and each of the first bytes overwritten: read, or refused with the path."""
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, FORMATS[ending])
    good = buffer.getvalue()
    path = tmp_path / f"a.{ending}"
    files = [good[:k] for k in range(0, len(good), 8)]
    files += [good[:k] + bytes([value]) + good[k + 1 :] for k in range(min(100, len(good))) for value in (0, 255)]
    files += [bytes(100), b"no image", b"GIF89a", good[:20] * 9]
    refused: list[DataError] = []
    for content in files:
        path.write_bytes(content)
        try:
            assert decode(path, SIDE).shape == (3, SIDE, SIDE)
        except DataError as error:
            refused.append(error)
    assert {error.where for error in refused} == {str(path)}
    assert all(error.hint or str(error.got) for error in refused)
    assert len(refused) > len(good) // 16  # most cuts leave no image


@pytest.mark.parametrize("kind", ["missing", "folder", "link"])
def test_what_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "folder":
        path.mkdir()
    if kind == "link":
        path.symlink_to(path)
    with pytest.raises(DataError, match="cannot read the image") as caught:
        decode(path, SIDE)
    assert caught.value.where == str(path)
