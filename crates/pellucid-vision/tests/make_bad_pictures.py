"""Makes the hostile and broken files in bad/ (Python's standard library only)."""

import struct
import zlib
from pathlib import Path

HERE = Path(__file__).parent / "bad"


def png(width: int, height: int, pixels: bytes, checksum_offset: int = 0) -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels, 9)),
        (b"IEND", b""),
    ]
    file = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        checksum = (zlib.crc32(kind + content) + checksum_offset) & 0xFFFFFFFF
        file += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return file


def bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + 60, 0, 0, 54) + info + bytes(60)


def jpeg(width: int, height: int) -> bytes:
    """A header that claims a size, an empty scan and an end."""
    quantisation = b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes([1, 0x11, 0])
    table = bytes([0, 1] + [0] * 14) + bytes([0])
    huffman = b"".join(b"\xff\xc4" + struct.pack(">HB", 3 + len(table), kind) + table for kind in (0x00, 0x10))
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 0, 63, 0])
    return b"\xff\xd8" + quantisation + frame + huffman + scan + b"\x00\xff\xd9"


def gif(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + bytes([2, 2, 0x4C, 1, 0])
    return b"GIF89a" + screen + frame + b";"


def float_tiff() -> bytes:
    """2 x 2 gray 32-bit floats."""
    entries = [
        (256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 32), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 16), (339, 3, 1, 3),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHI", b"II", 42, 24) + struct.pack("<4f", 0, 0.5, 1, 2) + directory + bytes(4)


FILES = {
    "empty.png": b"",
    "lfs_pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
    "html.jpg": b"<!DOCTYPE html>\n<title>404 Not Found</title>\n",
    "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n',
    "zeros.png": bytes(200),
    "avif.avif": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1" + bytes(8),
    "document.pdf": b"%PDF-1.7\n",
    "claims_16384.png": png(16384, 16384, bytes(100)),
    "claims_16384.bmp": bmp(16384, 16384),
    "claims_65535.jpg": jpeg(65535, 65535),
    "claims_65535.gif": gif(65535, 65535),
    "no_width.gif": gif(0, 5),
    "wrong_checksum.png": png(2, 2, bytes(14), checksum_offset=1),
    "float.tif": float_tiff(),
}

HERE.mkdir(exist_ok=True)
for name, content in FILES.items():
    (HERE / name).write_bytes(content)
