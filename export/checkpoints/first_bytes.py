"""What a file is that should have been a model, told by how it begins."""

from __future__ import annotations

from pathlib import Path

KNOWN = {
    b"<": "it is a web page; a gated file wants you to log in where it is published, and to accept its licence",
    b"version https://git-lfs": "it is a Git LFS pointer; fetch the file that it stands for (git lfs pull)",
    b'{"error"': "it is a server's error message; a gated file wants you to log in where it is published",
    b"Access to": "it is a server's refusal; a gated file wants you to log in where it is published",
    b"Salted__": "it is encrypted (openssl); decrypt it first",
    b"age-encryption.org": "it is encrypted (age); decrypt it first",
    b"-----BEGIN PGP": "it is encrypted (PGP); decrypt it first",
    b"\x1f\x8b": "it is a gzip archive; unpack it first",
}


def told_by_first_bytes(path: Path) -> str:
    """What is known of the file; empty if nothing is."""
    with open(path, "rb") as file:
        start = file.read(64).lstrip()
    return next((what for begin, what in KNOWN.items() if start.startswith(begin)), "")
