"""What the header of a DICOM file says of the series it belongs to, here or on other machines' storage."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

from pydicom import Dataset, dcmread

from pipeline.batch.places import is_url, open_place
from pipeline.errors import InputError
from pipeline.readers.content import is_dicom
from pipeline.readers.dicom import BROKEN, numbers
from pipeline.readers.dicom_file import is_deflated
from pipeline.scan import quiet

_TAGS = ["SeriesInstanceUID", "Rows", "NumberOfFrames", "ImagePositionPatient"]
_HEAD_BYTES = 136
#: Bytes that a header mostly lies in.
_FETCHED = 1 << 16


@dataclass(frozen=True)
class DicomHeader:
    """`is_slice`: holds a single image. `position` of it in mm, None where the header does not say."""

    series: str
    is_slice: bool
    position: tuple[float, ...] | None


def read_dicom_header(place: str) -> DicomHeader | None:
    """The header of a file; None where it is no DICOM, deflated, or unreadable: whoever reads it whole says why."""
    if place.rpartition("/")[2].upper() == "DICOMDIR":
        return None
    try:
        with open_place(place, look=True) as stream:
            head = stream.read(_FETCHED)
            # what lies deflated is unpacked as a whole, however much it is: whoever reads the file measures it first
            if not is_dicom(head[:_HEAD_BYTES]) or is_deflated(head):
                return None
            stream.seek(0)
            if is_url(place):
                # pydicom seeks a lot, and each seek of a remote file may be a request
                found = _header(io.BytesIO(head))
                if found:
                    return found
                stream.seek(0)
            return _header(stream)
    except InputError:
        return None


def _header(stream: IO[bytes]) -> DicomHeader | None:
    try:
        with quiet():
            header = dcmread(stream, force=True, stop_before_pixels=True, specific_tags=_TAGS)
            return _read(header)
    except BROKEN:
        return None


def _read(header: Dataset) -> DicomHeader:
    position = numbers(header, "ImagePositionPatient", 3)
    single = int(header.get("NumberOfFrames") or 1) == 1 and "Rows" in header
    series = str(header.get("SeriesInstanceUID", ""))
    return DicomHeader(series, single, None if position is None else tuple(map(float, position)))
