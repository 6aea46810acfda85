"""Tensors that the cases are made of."""

import torch


class Inputs:
    """Deterministic leaf tensors. `strided` lays them out in a way that no kernel takes as it is."""

    def __init__(self, dtype, strided):
        self.dtype = dtype
        self.strided = strided
        self.generator = torch.Generator().manual_seed(20)

    @property
    def wide_dtype(self):
        """In which states are kept."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def lay_out(self, tensor):
        # torch's own schema check cannot copy a strided tensor without elements.
        if not self.strided or tensor.numel() == 0:
            return tensor
        # Every other element of a larger array, axes in reverse order in memory.
        order = tuple(reversed(range(tensor.dim())))
        large = tensor.new_zeros([2 * size for size in reversed(tensor.shape)])
        view = large[tuple(slice(None, None, 2) for _ in order)].permute(order)
        return view.copy_(tensor)

    def leaf(self, values, dtype=None):
        return self.lay_out(values.to(dtype or self.dtype)).requires_grad_()

    def draw(self, *shape):
        """Normally distributed float64 as it is, neither laid out nor a leaf."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def normal(self, *shape, scale=1.0, shift=0.0, dtype=None):
        return self.leaf(self.draw(*shape) * scale + shift, dtype)

    def negative(self, *shape):
        """Below -0.1: decays."""
        with torch.no_grad():
            return self.normal(*shape).abs_().add_(0.1).neg_()

    def positions(self, batch, length):
        """Rows that start anew, continue the given state or begin with padding; in long rows, each of that once more."""
        rows = torch.arange(length).repeat(batch, 1)
        for b in range(batch):
            rows[b] += (0, 3, -1)[b % 3]
            if length > 8:
                start = length // 2 + b
                rows[b, start:] = torch.arange(length - start)
                rows[b, length // 3 : length // 3 + 2] = -1
                rows[b, length - 2 + b :] = -1
        return self.lay_out(rows)
