"""Writes PNG files whose bytes depend only on the pixels: without compression, so no compressor version matters."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_BLOCK = 65_535  # bytes in a stored block at most (RFC 1951)


def encode(image: np.ndarray) -> bytes:
    """Encode a uint8 image (H, W) or (H, W, 3) as PNG."""
    height, width = image.shape[:2]
    rows = b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in image)  # each unfiltered
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    stored = b"".join(
        struct.pack("<BHH", number == len(blocks), len(block), len(block) ^ 0xFFFF) + block
        for number, block in enumerate(blocks, 1)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if image.ndim == 2 else 2, 0, 0, 0)
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
