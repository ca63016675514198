"""What a TensorRT plan computes in, as its passport keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LISTED = 20  # names of layers that a passport keeps
LEAST_SHARE = 0.9  # of the multiply-adds that the ONNX has in INT8 (or FP16): less of them in it is worth a warning


@dataclass(frozen=True)
class Computes:
    """What a plan computes in. Precisions are "INT8", "FP16", "FP32"; "unknown" where TensorRT does not tell.

    Attributes:
        shares: precision -> share of all multiply-adds of the ONNX's convolutions and matrix products.
        meant: precision that the ONNX says -> share of the multiply-adds that it has in it and that run in it, or in
            a narrower one.
        fell_back: ONNX names of layers that run in a wider precision than the ONNX says, at most LISTED.
        fallen: how many there are.
        layers: of the plan, of all kinds.
        weighted: of these, those with weights.
        reformats: of these, those that only change a tensor's form.
        unfused: of these, those without weights that quantise or dequantise.
    """

    shares: dict[str, float] = field(default_factory=dict)
    meant: dict[str, float] = field(default_factory=dict)
    fell_back: tuple[str, ...] = ()
    fallen: int = 0
    layers: int = 0
    weighted: int = 0
    reformats: int = 0
    unfused: int = 0

    def __post_init__(self) -> None:
        for shares in (self.shares, self.meant):
            if not isinstance(shares, Mapping) or not all(_is_share(value) for value in shares.values()):
                raise ValueError(f"shares {shares!r}: damaged")
        if not isinstance(self.fell_back, tuple) or not all(isinstance(name, str) for name in self.fell_back):
            raise ValueError(f"fell_back {self.fell_back!r}: damaged")
        for key in ("fallen", "layers", "weighted", "reformats", "unfused"):
            if not isinstance(count := getattr(self, key), int) or count < 0:
                raise ValueError(f"{key} {count!r}: damaged")

    @property
    def kept(self) -> bool:
        """Whether the plan computes in what the ONNX says, for LEAST_SHARE of each precision's multiply-adds."""
        return all(share >= LEAST_SHARE for share in self.meant.values())

    def text(self) -> str:
        """The same in words."""
        if not self.shares:
            return f"no layer tells its precision; {self.layers} layers"
        parts = [f"multiply-adds {', '.join(f'{share:.0%} {name}' for name, share in self.shares.items())}"]
        parts += [f"{share:.0%} of what the ONNX has in {name}" for name, share in self.meant.items()]
        parts.append(f"{self.layers} layers, {self.reformats} reformat, {self.unfused} quantise on their own")
        if self.fallen:
            names = list(self.fell_back[:5])
            more = self.fallen - len(names)
            parts.append(f"wider than the ONNX says: {', '.join(names)}{f' and {more} more' * (more > 0)}")
        return "; ".join(parts)


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
