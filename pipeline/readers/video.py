"""Videos, through PyAV (FFmpeg): MP4, MOV, AVI, Matroska, WebM and GIF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from pipeline.errors import InputError
from pipeline.readers.content import DAMAGE, damaged
from pipeline.readers.movie import Movie, check_length, gather

#: FFmpeg's reader by what the file holds. It is named, because others follow links to further files and addresses.
DEMUXERS = {"mp4": "mov", "avi": "avi", "matroska": "matroska", "gif": "gif"}
_BROKEN = (*DAMAGE, FFmpegError)
#: Largest frame: 8192x4320 pixels.
_MAX_FRAME = 36_000_000
_THREADS = 2


def read(path: Path, content: str) -> Movie:
    """The frames of a video's first picture stream, RGB, upright, and the time between two of them.

    Of a file that is cut short or damaged, the frames that can be decoded are read, and a note says so.

    Raises
    ------
    InputError
        Where no frame can be decoded, their sizes differ, or they are too large or too many.
    """
    try:
        with path.open("rb") as file, av.open(file, format=DEMUXERS[content]) as container:
            if not container.streams.video:
                raise InputError(path, "a file without a picture stream", "a video with frames")
            stream = container.streams.video[0]
            _check(path, stream)
            rate = stream.average_rate or stream.guessed_rate
            lost = _Lost()
            frames = gather(path, _frames(container, stream, lost))
            promised = stream.frames
    except InputError:
        raise
    except _BROKEN:
        raise damaged(path, "MP4, MOV, AVI, Matroska, WebM or GIF") from None
    return Movie(frames, float(1 / rate) if rate else None, notes=_notes(len(frames), promised, lost))


class _Lost:
    """What could not be decoded."""

    packets, cut_short = 0, False


def _check(path: Path, stream: av.VideoStream) -> None:
    width, height = stream.width, stream.height
    if width * height > _MAX_FRAME:
        raise InputError(path, f"frames of {width}x{height} pixels", f"at most {_MAX_FRAME // 10**6} million pixels")
    if width and height:
        check_length(path, stream.frames or 1, height, width)
    stream.thread_count = _THREADS
    # a frame may be larger than the file says; FFmpeg looks at this before it makes room for it
    stream.codec_context.options = {"max_pixels": str(_MAX_FRAME)}


def _frames(container: av.container.InputContainer, stream: av.VideoStream, lost: _Lost) -> Iterator[np.ndarray]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            lost.cut_short = True
            packet = None
        if packet is None:
            return
        try:
            frames = packet.decode()
        except FFmpegError:
            lost.packets += 1
            continue
        for frame in frames:
            yield np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


def _notes(read: int, promised: int, lost: _Lost) -> tuple[str, ...]:
    if promised > read:
        return (f"cut short or damaged: {read} of {promised} frames can be read",)
    if lost.cut_short or lost.packets:
        return (f"cut short or damaged: {read} frames can be read",)
    return ()
