# SPDX-License-Identifier: AGPL-3.0-or-later
"""Labels: numbers of channels that tensors carry element by element, and which of them go together."""

from __future__ import annotations

import torch

NONE = 0  # the label of an element that belongs to no channel: of the image, a constant, the zeros of a padding
ROOM = 1024  # labels to begin with


class Labels:
    """Channels by number, in classes of those that go together; some classes must stay whole.

    Labels are FP64, in which integers are exact, so that whatever moves a tensor's values can move its labels.
    """

    def __init__(self):
        """Begin without channels."""
        self._root = torch.arange(ROOM)
        self._count = 1
        self._whole: dict[str, int] = {}  # reason to the label that stands for it

    def fresh(self, count: int) -> torch.Tensor:
        """Return labels of new channels, shape (count,)."""
        first, self._count = self._count, self._count + count
        if self._count > len(self._root):
            self._root = torch.cat([self._root, torch.arange(len(self._root), 2 * self._count)])
        return torch.arange(first, self._count, dtype=torch.float64)

    def whole(self, reason: str) -> torch.Tensor:
        """Return a label, shape (), of channels that must stay for a reason, the same for the same reason."""
        if reason not in self._whole:
            self._whole[reason] = int(self.fresh(1))
        return torch.tensor(self._whole[reason], dtype=torch.float64)

    def roots(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the smallest label of the class of each label, in the same shape, int64."""
        labels = labels.long()
        roots = self._root[labels]
        while not torch.equal(roots, further := self._root[roots]):
            roots = self._root[labels] = further
        return roots

    def tie(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """Let channels go together that meet in an element, of two tensors whose shapes broadcast."""
        a, b = torch.broadcast_tensors(self.roots(a), self.roots(b))
        meet = (a != b) & (a != NONE) & (b != NONE)
        a, b = a[meet], b[meet]
        while len(a):
            low, high = torch.minimum(a, b), torch.maximum(a, b)
            self._root.scatter_reduce_(0, high, low, "amin")
            a, b = self.roots(a), self.roots(b)
            a, b = a[a != b], b[a != b]

    def keep(self, labels: torch.Tensor, reason: str) -> None:
        """Let channels stay whole."""
        self.tie(labels, self.whole(reason))

    def reasons(self) -> dict[int, str]:
        """Return the roots of the classes that must stay whole, each with its first reason."""
        roots = {reason: int(self.roots(torch.tensor(label))) for reason, label in self._whole.items()}
        return {root: reason for reason, root in reversed(roots.items())}
