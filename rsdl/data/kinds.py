"""Image formats, recognized by the first bytes and by the suffix of a name."""

from rsdl.core.errors import CorruptSampleError

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
    (b"II+\x00", "tif"),
    (b"MM\x00+", "tif"),
    (b"\x93NUMPY", "npy"),
    (b"BM", "bmp"),
    (b"RIFF", "webp"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
)
SUFFIXES = {
    ".jpg": "jpg", ".jpeg": "jpg", ".jfif": "jpg", ".png": "png", ".tif": "tif", ".tiff": "tif",
    ".npy": "npy",
}  # fmt: skip
# Packing stores these as PNG or TIFF, so shards do not contain them.
CONVERTED = {".bmp": "bmp", ".webp": "webp", ".jp2": "jp2"}
READABLE = SUFFIXES | CONVERTED
NAMES = {
    "jpg": "JPEG", "png": "PNG", "tif": "TIFF", "npy": "NumPy array", "bmp": "BMP", "webp": "WebP",
    "jp2": "JPEG 2000",
}  # fmt: skip


def sniff(data: bytes) -> str | None:
    """Return the format of ``data`` by its first bytes, a key of ``NAMES``, or ``None``."""
    for mark, kind in SIGNATURES:
        if data.startswith(mark) and (kind != "webp" or data[8:12] == b"WEBP"):
            return kind
    return None


def check_kind(data: bytes, extension: str, where: str) -> None:
    """Reject an image whose bytes do not match its extension.

    Raises:
        CorruptSampleError: If ``data`` is empty or of another kind than ``extension``.
    """
    if not data:
        raise CorruptSampleError(where, "is empty (0 bytes)", "remove or replace the file")
    kind = sniff(data)
    if kind != extension:
        found = f"holds a {NAMES[kind]}" if kind else "holds no image that rsdl reads"
        remedy = "rename it" if kind else "remove or replace the file"
        raise CorruptSampleError(where, f"is named as a {NAMES[extension]} but {found}", remedy)
