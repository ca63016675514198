"""What `edgepose verify` found on a plan, as its passport keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a plan agreed with the CPU on the device that ran it, and in which words it was said."""

    agrees: bool
    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.agrees, bool) or not isinstance(self.text, str):
            raise ValueError("a verdict is true or false, and a text")
