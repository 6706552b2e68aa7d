"""The order in which partial matrices are merged (Zhang et al., HPCA 2020, section II-C).

A k-ary Huffman tree: the lightest inputs are merged first, so that what is written and read back is small. The first
round takes (leaves - 2) mod (ways - 1) + 2 inputs, which makes every later round full. Ties: columns before results,
then by index. The weight of a result is its actual size, known once the round has run; so the schedule is asked round
by round.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Literal

import numpy as np

from sparsim.matrix import IntArray

__all__ = ["MergeSchedule", "Order"]

Order = Literal["huffman", "sequential", "random", "accumulate"]


class MergeSchedule:
    """Hands out the inputs of one merge round after the other.

    Parameters
    ----------
    weights : of the leaves, int64.
    ways : inputs of a full round.
    order : "huffman"; or a queue of leaves by index ("sequential") or shuffled with ``seed`` ("random"), results last;
        or leaves by index, the result of each round being the first input of the next ("accumulate").
    """

    def __init__(self, weights: IntArray, ways: int, order: Order = "huffman", seed: int = 0) -> None:
        self.leaves = int(weights.size)
        self.ways = ways
        self.rounds = 0
        self.first_round_ways = self.leaves if self.leaves <= ways else (self.leaves - 2) % (ways - 1) + 2
        self._under: list[IntArray] = []
        self._heap: list[tuple[int, int]] | None = None
        self._queue: deque[int] = deque()
        self._accumulate = order == "accumulate"
        if order == "huffman":
            self._heap = [(int(weight), leaf) for leaf, weight in enumerate(weights)]
            heapq.heapify(self._heap)
        else:
            index = np.arange(self.leaves)
            self._queue.extend(
                int(leaf) for leaf in (np.random.default_rng(seed).permutation(index) if order == "random" else index)
            )

    def next_round(self) -> list[int]:
        """Return the nodes merged now, in tree order: leaves 0 .. L-1, result of round r as L + r."""
        take = self.first_round_ways if self.rounds == 0 else self.ways
        if self._heap is not None:
            inputs = [heapq.heappop(self._heap)[1] for _ in range(min(take, len(self._heap)))]
        else:
            inputs = [self._queue.popleft() for _ in range(min(take, len(self._queue)))]
        nodes = np.array(inputs, dtype=np.int64)
        results = [self.leaves_under(node) for node in inputs if node >= self.leaves]
        self._under.append(np.concatenate([nodes[nodes < self.leaves], *results]))
        self.rounds += 1
        return inputs

    def leaves_under(self, result: int) -> IntArray:
        """Return the leaves that the result of a round consists of."""
        return self._under[result - self.leaves]

    def positions(self, inputs: list[int]) -> IntArray:
        """Return the tree position of each leaf if ``inputs`` are merged, int64, -1 for one that takes no part."""
        position = np.full(self.leaves, -1, dtype=np.int64)
        for at, node in enumerate(inputs):
            if node >= self.leaves:
                position[self.leaves_under(node)] = at
        nodes = np.array(inputs, dtype=np.int64)
        alone = np.flatnonzero(nodes < self.leaves)
        position[nodes[alone]] = alone
        return position

    def finish_round(self, merged_elements: int) -> bool:
        """Put the result back with its size; return whether it was the last round."""
        result = self.leaves + self.rounds - 1
        if self._heap is not None:
            if not self._heap:
                return True
            heapq.heappush(self._heap, (merged_elements, result))
        else:
            if not self._queue:
                return True
            if self._accumulate:
                self._queue.appendleft(result)
            else:
                self._queue.append(result)
        return False
