"""What a file is that should have been a model, told by how it begins."""

from __future__ import annotations

from pathlib import Path

KNOWN = {
    b"<": "it is a web page; a gated file wants you to log in where it is published, and to accept its licence",
    b"version https://git-lfs": "it is a Git LFS pointer; fetch the file that it stands for (git lfs pull)",
    b'{"error"': "it is a server's error message; a gated file wants you to log in where it is published",
    b"Access to": "it is a server's refusal; a gated file wants you to log in where it is published",
    b"Access denied": "it is a server's refusal; a gated file wants you to log in where it is published",
    b"Invalid username or password": "it is a server's refusal; a gated file wants you to log in where it is published",
    b"Unauthorized": "it is a server's refusal; a gated file wants you to log in where it is published",
    b"Entry not found": "it is a server's answer that there is no such file; look up its address",
    b"Not Found": "it is a server's answer that there is no such file; look up its address",
    b"Salted__": "it is encrypted (openssl); decrypt it first",
    b"age-encryption.org": "it is encrypted (age); decrypt it first",
    b"-----BEGIN PGP": "it is encrypted (PGP); decrypt it first",
    b"\x1f\x8b": "it is a gzip archive; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "it is a 7z archive; unpack it first",
    b"Rar!": "it is a RAR archive; unpack it first",
}
# A flag of the first entry, in byte 6 (PKWARE's APPNOTE, 4.4.4); WinZip's AES sets it too.
ZIP, ENCRYPTED = b"PK\x03\x04", 1


def told_by_first_bytes(path: Path) -> str:
    """What is known of the file; empty if nothing is."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        return "it is empty; fetch it again"
    if start.startswith(ZIP) and len(start) > 6 and start[6] & ENCRYPTED:
        return "it is an encrypted zip archive; decrypt it first"
    return next((what for begin, what in KNOWN.items() if start.lstrip().startswith(begin)), "")
