"""How many images a second the cores could do if decoding and encoding were all that they did."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What one image costs, with every core at work.

    Attributes:
        decode_core_s: core-seconds to decode and preprocess one image.
        encode_core_s: core-seconds of the image tower for one image, at the best batch size.
    """

    decode_core_s: float
    encode_core_s: float

    @property
    def core_s(self) -> float:
        """Of the whole."""
        return self.decode_core_s + self.encode_core_s


def bound(cores: float, cost: Cost, client_cpu_s: float = 0.0, seconds: float = 1.0) -> float:
    """Images a second that `cores` can do at most.

    Args:
        cores: that may be used.
        cost: of one image.
        client_cpu_s: CPU seconds that the load generator took from the same cores.
        seconds: within how many seconds it took them.
    """
    return (cores - client_cpu_s / seconds) / cost.core_s


def best_batch(seconds: Mapping[int, float]) -> int:
    """The batch size with the least time for one image, given the time for one batch of each."""
    return min(seconds, key=lambda size: seconds[size] / size)
