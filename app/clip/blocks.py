"""The blocks that a tower computes one after another, and a call before each of them."""

from collections.abc import Callable
from typing import Any

from torch import nn


def call_before_each_block(
    network: nn.Module, function: Callable[[], object]
) -> Callable[[], None]:
    """Have a function called, in the thread that computes, before each block of each pass.

    Args:
        network: whatever stands in a list or a sequence of modules counts as a block.
        function: has to be quick: a pass has some fifty blocks.

    Returns:
        What puts an end to it.
    """

    def hook(*_: Any) -> None:
        function()

    handles = [block.register_forward_pre_hook(hook) for block in _blocks(network)]

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end


def _blocks(network: nn.Module) -> set[nn.Module]:
    return {
        block
        for part in network.modules()
        if isinstance(part, nn.ModuleList | nn.Sequential)
        for block in part
    }
