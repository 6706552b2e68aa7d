"""What share of a network the figures of a comparison stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparsim.network import Network
from sparsim.workload import Workload

__all__ = ["coverage", "without_weights"]

WITHOUT_WEIGHT = "a product without a weight"
COUNTED = re.compile(r"([\d,]+) multiplications(?: for ([\d,]+) samples)?")


def without_weights(network: Network) -> list[int | None]:
    """Return the multiplications a sample of every product of two activations, None where the file does not say."""
    reasons = [reason for reason in network.skipped.values() if reason.startswith(WITHOUT_WEIGHT)]
    found = [COUNTED.search(reason) for reason in reasons]
    counts = [match and [int((part or "1").replace(",", "")) for part in match.groups()] for match in found]
    return [count[0] // count[1] if count else None for count in counts]


def coverage(network: Network, products: Sequence[Workload], training: bool = False) -> str:
    """Say how many layers and multiplications are covered, and what share of the network's that is.

    Parameters
    ----------
    products : of one sample, with dense weights counted.
    training : the products are those of a training step, products without weights are counted for inference.
    """
    macs = sum((workload.dense_twin or workload).dense_multiplies for workload in products)
    several = f", {len(products)} products" if len(products) != len(network) else ""
    bare = without_weights(network)
    arrays = len(network.skipped) - len(bare)
    layers = f"{len(network)} layer{'' if len(network) == 1 else 's'}{several}"
    head = f"{layers} with {macs:,} multiply-accumulates a sample, all products with weights"
    told = f"{head}{_left_out(bare, macs, training)}"
    return told + (f"; {arrays} arrays of the file are no matrix products" if arrays else "")


def _left_out(bare: Sequence[int | None], macs: int, training: bool) -> str:
    if not bare:
        return ""
    known = sum(each for each in bare if each is not None)
    open_ones = sum(each is None for each in bare)
    told = f"; {len(bare)} kind(s) of products without weights are left out"
    if training or not known:
        return f"{told}, an unknown share of the network's"
    share = macs / (macs + known)
    if open_ones:
        return f"{told}, so {share:.1%} of the network's at most: the sizes of {open_ones} of them are not known"
    return f"{told} with {known:,} more, so the figures cover {share:.1%} of the network's"
