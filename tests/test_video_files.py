"""Videos and folders of frames: what is shown, how fast, and what is said of those that are damaged."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.readers import movie
from pipeline.stack import read_stack

#: A bright disc that moves over a grey ramp, RGB: codecs keep such frames nearly as they are.
_Y, _X = np.mgrid[:48, :64]
FRAMES = np.stack([
    np.repeat(np.where((_X - 12 - 4 * t) ** 2 + (_Y - 24) ** 2 < 64, 220, 40 + _X).astype(np.uint8)[..., None], 3, 2)
    for t in range(10)
])  # fmt: skip
DAMAGED = "damaged, cut short, or of an unsupported variant; expected a whole MP4, MOV, AVI, Matroska, WebM or GIF file"


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd):
    yield
    assert capfd.readouterr() == ("", "")


def write(path: Path, frames=FRAMES, codec: str = "libx264", rate: int = 25, **options) -> Path:
    pixel_format = {"gif": "rgb8", "libx264rgb": "rgb24"}.get(codec, "yuv420p")
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixel_format
        stream.gop_size = 3
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "most"),
    [
        pytest.param("a.mp4", "libx264", 4, id="mp4"),
        pytest.param("a.mov", "libx264", 4, id="mov"),
        pytest.param("a.avi", "mpeg4", 6, id="avi"),
        pytest.param("a.mkv", "libx264", 4, id="matroska"),
        pytest.param("a.webm", "libvpx-vp9", 6, id="webm"),
        pytest.param("a.gif", "gif", 20, id="gif"),
    ],
)
def test_kinds_of_videos(tmp_path, name, codec, most):
    path = write(tmp_path / name, codec=codec, rate=20)
    for named in (path, path.rename(tmp_path / "video.png")):  # the content tells, not the name
        if not named.exists():
            continue
        stack = read_stack(named)
        assert stack.frames.shape == FRAMES.shape and stack.frames.dtype == np.uint8
        assert np.abs(stack.frames.astype(int) - FRAMES).mean() < most
        assert (stack.kind, stack.axis, stack.spacing_mm, stack.notes) == ("video", None, None, ())
        assert stack.frame_seconds == pytest.approx(0.05, rel=0.02)


@pytest.mark.data
def test_a_real_heart(tmp_path):
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA names no folder")
    study = np.load(Path(os.environ["AUTOMEDSEG_DATA"], "sunnybrook_cardiac_cine", "cine", "SC-HF-I-01.npz"))
    frames = np.repeat(study["frames"][:20, ..., None], 3, axis=3)
    stack = read_stack(write(tmp_path / "a.mp4", frames))
    assert stack.frames.shape == frames.shape and np.abs(stack.frames.astype(int) - frames).mean() < 4


def test_a_video_that_is_held_upright(tmp_path):
    path = tmp_path / "a.mp4"
    write(path)
    content = path.read_bytes()
    # the matrix of the track's header, turned by a quarter, as a telephone writes it
    start = content.index(b"tkhd") + 44
    turned = b"".join(value.to_bytes(4, "big", signed=True) for value in (0, 65536, 0, -65536, 0, 0, 48 << 16, 0))
    path.write_bytes(content[:start] + turned + content[start + len(turned) :])
    frames = read_stack(path).frames
    assert frames.shape == (10, 64, 48, 3)
    assert np.abs(frames.astype(int) - np.rot90(FRAMES, -1, axes=(1, 2))).mean() < 4


def test_a_long_video_lies_in_a_file(tmp_path, monkeypatch):
    expected = read_stack(write(tmp_path / "a.mp4")).frames
    monkeypatch.setattr("pipeline.scratch.IN_MEMORY", 100)
    frames = read_stack(tmp_path / "a.mp4").frames
    assert isinstance(frames, np.memmap) and np.array_equal(frames, expected)
    assert not list(tmp_path.glob("automedseg-*"))


# --- damaged ----------------------------------------------------------------------------------------------------------


def test_a_video_that_is_cut_short_gives_the_frames_before(tmp_path):
    noise = np.random.default_rng(0).integers(0, 30, (30, *FRAMES.shape[1:]), np.uint8)
    path = write(tmp_path / "a.mp4", np.tile(FRAMES, (3, 1, 1, 1)) + noise, movflags="faststart")
    whole = read_stack(path).frames
    path = cut(path, 0.7)
    stack = read_stack(path)
    assert 10 < len(stack) < 30
    assert stack.notes == (f"cut short or damaged: {len(stack)} of 30 frames can be read",)
    assert np.array_equal(stack.frames[: len(stack) - 1], whole[: len(stack) - 1])


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def two_sizes(path: Path) -> Path:
    """An AVI of raw JPEGs, which may be of any size each."""
    import io

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.start_encoding()
        for number, size in enumerate(((64, 48), (64, 48), (32, 24))):
            jpeg = io.BytesIO()
            Image.new("RGB", size, "red").save(jpeg, "JPEG")
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = (
                stream,
                number,
                number,
                stream.codec_context.time_base,
            )
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda p: cut(write(p / "a.mp4"), 0.5), DAMAGED, id="mp4-without-its-index"),
        pytest.param(lambda p: cut(write(p / "a.gif", codec="gif"), 0.001),
                     "a video without frames; expected at least one frame", id="gif-cut-short"),
        pytest.param(lambda p: sound_only(p / "a.mp4"),
                     "a file without a picture stream; expected a video with frames", id="sound"),
        pytest.param(lambda p: two_sizes(p / "a.avi"),
                     "frame 3 has 32x24 pixels, the first 64x48; expected frames of one size", id="two-sizes"),
    ],
)  # fmt: skip
def test_refused(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(InputError) as error:
        read_stack(path)
    assert str(error.value) == f"{path}: {message}"


def test_without_frames(tmp_path):
    path = write(tmp_path / "a.mp4", movflags="faststart")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(InputError) as error:
        read_stack(path)
    assert str(error.value) == f"{path}: a video without frames; expected at least one frame"


def test_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(movie, "MAX_PIXELS", 64 * 48 * 7)
    path = write(tmp_path / "a.mp4")
    with pytest.raises(InputError) as error:
        read_stack(path)
    expected = "expected at most 0 million pixels in all frames. Cut it first."
    assert str(error.value) == f"{path}: a video of more than 7 frames of 64x48 pixels; {expected}"


def test_no_room_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.scratch._SPARE", 1 << 60)
    with pytest.raises(
        InputError, match=r"needs 0\.0 GB of temporary files, and 0\.0 GB are free in .*; expected less"
    ):
        read_stack(write(tmp_path / "a.mp4"))


# --- folders ----------------------------------------------------------------------------------------------------------


def save_frames(folder: Path, frames, name: str = "frame{}.png") -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(number))
    return folder


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    colours = FRAMES.copy()
    colours[..., 0] += 20
    twelve = np.concatenate([colours, colours[:2] // 2])  # 9 is before 10
    folder = save_frames(tmp_path / "a", twelve)
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(b"x")
    stack = read_stack(folder)
    assert np.array_equal(stack.frames, twelve)
    assert (stack.kind, stack.frame_seconds, stack.spacing_mm) == ("video", None, None)


def test_grey_frames_stay_grey(tmp_path):
    stack = read_stack(save_frames(tmp_path / "a", FRAMES[..., 0]))
    assert np.array_equal(stack.frames, FRAMES[..., 0])
    assert np.array_equal(stack.pixels(4), FRAMES[4])


def test_refused_folders(tmp_path):
    odd = save_frames(tmp_path / "odd", [*FRAMES[:2], FRAMES[2, :40]])
    with pytest.raises(InputError) as error:
        read_stack(odd)
    sizes = "64x40 pixels, frame0.png has 64x48; expected frames of one size"
    assert str(error.value) == f"{odd / 'frame2.png'}: {sizes}"

    (odd / "frame2.png").write_bytes(b"%PDF")
    with pytest.raises(InputError, match=r"frame2\.png: holds a PDF document"):
        read_stack(odd)

    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: a folder without DICOM slices or frames; expected a NIfTI, NRRD"):
        read_stack(tmp_path / "empty")

    with pytest.raises(InputError, match=r"frame1\.png: a single image; expected a NIfTI, NRRD"):
        read_stack(odd / "frame1.png")
