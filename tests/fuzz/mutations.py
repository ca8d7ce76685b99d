"""Changes of good files: bytes anywhere, and values where the format keeps them, so that more than a header is reached.

Every mutation is drawn from a `random.Random`: the same number gives the same input.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace

import nibabel
import pydicom
from pydicom.dataelem import RawDataElement

from tests.fuzz.seeds import Seed

#: Numbers that readers trip over, as they lie in a header.
_WORDS = tuple(
    struct.pack(order + form, value)
    for order in "<>"
    for form, values in (
        ("I", (0, 1, 2, 255, 65535, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)),
        ("H", (0, 1, 255, 32767, 32768, 65535)),
        ("f", (float("nan"), float("inf"), -1.0, 1e30)),
    )
    for value in values
)
#: Beside other files of an input they stay as they are: they have kinds of their own.
_PICTURES = (".png", ".jpg", ".tif")
_TEXT = b'0123456789-+e. %\n=:{}[]",\\/\0'
_NUMBERS = (
    *("0", "-1", "1", "2", "3", "7", "1e9", "nan", "inf", "-inf", "1e308", "1e-308", "0x10", "999999999999999999999"),
    *("65535", "2147483647", "4294967296", "", "1 1", "½", "5.5"),
)
_VALUES = (
    *(None, True, False, 0, 1, -1, 2.5, 1e308, float("nan"), float("inf"), 10**400, 2**63, "", "a", "\0", "é" * 300),
    *([], {}, [[]], [None], [1, 2], {"a": 1}, "12", "../x", "a" * 5000),
)


def mutated(seed: Seed, others: tuple[Seed, ...], kind: str, chance: random.Random) -> Seed:
    """`seed` with one of its files changed; `others` are seeds of the same kind, to take pieces of."""
    about = [name for name in seed.files if not name.endswith(_PICTURES)]
    name = chance.choice(sorted(about or seed.files))
    whole = seed.files[name]
    structured = _BY_KIND.get(kind)
    if structured and chance.random() < 0.5:
        try:
            return structured(seed, name, chance)
        except (ValueError, struct.error, KeyError, IndexError, EOFError, OSError, TypeError, AttributeError,
                zlib.error, OverflowError, NotImplementedError):  # fmt: skip
            pass  # that place can't hold it: change bytes
    content = _spliced(whole, others, chance) if chance.random() < 0.1 else changed(whole, chance)
    return replace(seed, files=seed.files | {name: content})


def changed(content: bytes, chance: random.Random) -> bytes:
    """Cut short, or with a few bytes changed, inserted, repeated or lost, most of them in the header."""
    if chance.random() < 0.1 and content:
        return content[: chance.randrange(len(content))]
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        if not found:
            break
        place = chance.randrange(min(len(found), 700 if chance.random() < 0.7 else len(found)))
        match chance.randrange(7):
            case 0:
                found[place] = chance.randrange(256)
            case 1:
                found[place] ^= 1 << chance.randrange(8)
            case 2:
                word = chance.choice(_WORDS)
                found[place : place + len(word)] = word
            case 3:
                found[place:place] = bytes(chance.choices(_TEXT, k=chance.randrange(1, 5)))
            case 4:
                del found[place : place + chance.choice((1, 2, 4, 8, 64, 1024))]
            case 5:
                piece = found[place : place + chance.choice((1, 4, 32, 256))]
                found[place:place] = piece * chance.choice((1, 2, 50))
            case 6:
                length = chance.choice((4, 16, 64))
                found[place : place + length] = chance.randbytes(length)
    return bytes(found)


def _spliced(content: bytes, others: tuple[Seed, ...], chance: random.Random) -> bytes:
    """The beginning of one file and the end of another."""
    other = chance.choice(sorted(chance.choice(others).files.items()))[1]
    return content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]


def _png(seed: Seed, name: str, chance: random.Random) -> Seed:
    """A chunk changed, with the right CRC; the pixels changed before they are deflated."""
    content = seed.files[name]
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    number = chance.randrange(len(chunks))
    kind, data = chunks[number]
    match chance.randrange(4):
        case 0:
            chunks[number] = kind, changed(data, chance)
        case 1:
            chunks.insert(chance.randrange(len(chunks)), (kind, data))
        case 2:
            names = (b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"tRNS", b"PLTE", b"gAMA")
            chunks.insert(chance.randrange(len(chunks)), (chance.choice(names), chance.randbytes(chance.randrange(40))))
        case 3:
            pixels = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
            first = next(at for at, (kind, _) in enumerate(chunks) if kind == b"IDAT")
            rest = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
            chunks = [*rest[:first], (b"IDAT", zlib.compress(changed(pixels, chance))), *rest[first:]]
    return replace(seed, files={**seed.files, name: content[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)})


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tiff(seed: Seed, name: str, chance: random.Random) -> Seed:
    """An entry of the first directory: its tag, type, count or value."""
    content = bytearray(seed.files[name])
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    entry = start + 2 + 12 * chance.randrange(count)
    match chance.randrange(4):
        case 0:
            struct.pack_into(order + "H", content, entry, chance.choice((254, 256, 257, 258, 259, 262, 273, 277, 317)))
        case 1:
            struct.pack_into(order + "H", content, entry + 2, chance.randrange(0, 19))
        case 2:
            struct.pack_into(order + "I", content, entry + 4, chance.choice((0, 1, 2, 5, 1 << 20, (1 << 32) - 1)))
        case 3:
            value = chance.choice((0, 1, 2, 3, 5, 7, 8, 16, 32, 65535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1))
            struct.pack_into(order + "I", content, entry + 8, value)
    return replace(seed, files={**seed.files, name: bytes(content)})


def _dicom(seed: Seed, name: str, chance: random.Random) -> Seed:
    """An element changed, lost, or of another length: also inside of sequences."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(seed.files[name]), force=True)
        holders = [dataset, *(item for element in dataset if element.VR == "SQ" for item in element.value)]
        holder = chance.choice(holders)
        tag = chance.choice(sorted(holder.keys()))
        element = holder[tag]
        if chance.random() < 0.2:
            del holder[tag]
        elif element.VR in ("US", "SS", "UL", "SL") and chance.random() < 0.8:
            element.value = chance.choice((0, 1, 2, 7, 8, 9, 12, 16, 32, 255, 32767, 65535))
        elif element.VR in ("IS", "DS", "CS", "UI") or chance.random() < 0.5:
            words = [chance.choice(_NUMBERS).encode() for _ in range(chance.choice((1, 1, 2, 3, 6)))]
            value = b"\\".join(words)
            little = dataset.original_encoding[1]
            value += b" " * (len(value) % 2)
            holder[tag] = RawDataElement(tag, element.VR, len(value), value, 0, False, bool(little), True)
        elif isinstance(element.value, bytes):
            element.value = changed(element.value, chance)
        else:
            element.clear()
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=False)
    return replace(seed, files={**seed.files, name: buffer.getvalue()})


def _nifti(seed: Seed, name: str, chance: random.Random) -> Seed:
    """A field of the header, in a zipped file, too; or the bytes inside of the zip."""
    content = seed.files[name]
    zipped = content[:2] == b"\x1f\x8b"
    plain = bytearray(gzip.decompress(content) if zipped else content)
    if zipped and chance.random() < 0.4:
        plain = changed(bytes(plain), chance)
    else:
        header = nibabel.Nifti2Header if plain[:4] == b"\x1c\x02\0\0" else nibabel.Nifti1Header
        fields = header.template_dtype.fields
        field, offset = fields[chance.choice(sorted(fields))][:2]
        size = field.itemsize if chance.random() < 0.2 else field.base.itemsize
        offset += size * chance.randrange(field.itemsize // size)
        word = chance.choice(_WORDS)
        plain[offset : offset + size] = (word * size)[:size] if len(word) < size else word[:size]
    packed = gzip.compress(bytes(plain), mtime=0) if zipped else bytes(plain)
    return replace(seed, files={**seed.files, name: packed})


def _header_lines(seed: Seed, name: str, chance: random.Random) -> Seed:
    """A line of a text header: a number in it, or the line lost, doubled, or with another's value."""
    content = seed.files[name]
    lines = content.split(b"\n")
    header = [at for at, line in enumerate(lines[:40]) if re.match(rb"[A-Za-z ]{3,30}\s?[:=]", line)]
    at, other = chance.choice(header), chance.choice(header)
    match chance.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            key, mark = re.match(rb"([^:=]*)([:=]\s?)", lines[at]).groups()
            lines[at] = key + mark + re.sub(rb"^[^:=]*[:=]\s?", b"", lines[other])
        case _:
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?", lines[at]))
            if not numbers:
                lines[at] += chance.choice(_NUMBERS).encode()
            else:
                found = chance.choice(numbers)
                new = chance.choice(_NUMBERS).encode()
                lines[at] = lines[at][: found.start()] + new + lines[at][found.end() :]
    return replace(seed, files={**seed.files, name: b"\n".join(lines)})


def _jpeg(seed: Seed, name: str, chance: random.Random) -> Seed:
    """The inside of a segment, its length left alone; or a segment twice."""
    content = bytearray(seed.files[name])
    segments, place = [], 2
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", content, place + 2)
        segments.append((place, 2 + length))
        place += 2 + length
    start, length = chance.choice(segments)
    if chance.random() < 0.2:
        content[start:start] = content[start : start + length]
    else:
        for _ in range(chance.choice((1, 1, 2, 4))):
            content[start + chance.randrange(4, length)] = chance.randrange(256)
    return replace(seed, files={**seed.files, name: bytes(content)})


def _boxes(seed: Seed, name: str, chance: random.Random) -> Seed:
    """A word inside of an MP4's tables, all of which are made of 4 bytes."""
    content = bytearray(seed.files[name])
    start = content.find(b"moov")
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = start + 4 * chance.randrange(max(1, (len(content) - start) // 4))
        value = chance.choice((0, 1, 2, 255, 65535, 0x7FFF0000, 1 << 24, (1 << 31) - 1, (1 << 32) - 1))
        struct.pack_into(">I", content, min(place, len(content) - 4), value)
    return replace(seed, files={**seed.files, name: bytes(content)})


def _gif(seed: Seed, name: str, chance: random.Random) -> Seed:
    """The size of the screen, or of a frame."""
    content = bytearray(seed.files[name])
    places = [6, 8, *(at + 1 + 2 * chance.randrange(4) for at in range(13, len(content) - 9) if content[at] == 0x2C)]
    size = chance.choice((0, 1, 2, 33, 255, 4096, 32768, 65535))
    struct.pack_into("<H", content, chance.choice(places), size)
    return replace(seed, files={**seed.files, name: bytes(content)})


def _json(seed: Seed, name: str, chance: random.Random) -> Seed:
    """One value anywhere in a JSON file; a manifest goes on naming the file beside it rightly."""
    content = json.loads(seed.files[name])
    for _ in range(chance.choice((1, 1, 1, 2))):
        content = _with_another_value(content, chance)
    files = {**seed.files, name: json.dumps(content).encode()}
    if name == "config.json":
        manifest = json.loads(files["manifest.json"])
        digest = hashlib.sha256(files[name]).hexdigest()
        manifest["files"][name] = {"bytes": len(files[name]), "sha256": digest}
        files["manifest.json"] = json.dumps(manifest).encode()
    return replace(seed, files=files)


def _with_another_value(content: object, chance: random.Random) -> object:
    places: list[tuple] = []

    def walk(node: object) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(content if isinstance(content, dict | list) else [])
    if not places or chance.random() < 0.03:
        return chance.choice(_VALUES)
    node, key = chance.choice(places)
    match chance.randrange(5):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[chance.choice(("", "a", "id", "box", "size", "counts"))] = chance.choice(_VALUES)
        case 1:
            node.insert(key, node[key])
        case 2 if isinstance(node[key], int | float):
            node[key] = chance.choice((-1, 0, 1, node[key] + 1, -node[key], node[key] * 1000, 10**400, 1e308))
        case 2 if isinstance(node[key], str):
            node[key] = changed(node[key].encode(), chance).decode("latin-1")
        case _:
            node[key] = chance.choice(_VALUES)
    return content


_BY_KIND: dict[str, Callable[[Seed, str, random.Random], Seed]] = {
    "png": _png,
    "jpeg": _jpeg,
    "tiff": _tiff,
    "dicom": _dicom,
    "dicom-series": _dicom,
    "dicom-frames": _dicom,
    "nifti-2d": _nifti,
    "nifti-3d": _nifti,
    "nrrd": _header_lines,
    "metaimage": _header_lines,
    "mp4": _boxes,
    "gif": _gif,
    "release": _json,
    "rle": _json,
    "edits": _json,
    "coco": _json,
}
