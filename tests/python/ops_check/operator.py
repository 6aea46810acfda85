"""What a case says of a public op."""

import dataclasses
from collections.abc import Callable

import torch

from .inputs import Inputs

SIZES = [(2, 18, 70), (3, 6, 1)]  # B, D, L: past a chunk of tokens and no multiples of a vector; one token


@dataclasses.dataclass
class Operator:
    # Label -> (inputs, B, D, L, whether the optional tensors are given) -> args, kwargs.
    cases: dict[str, Callable]
    positions: bool = True  # the last argument says where each token stands; not where tokens do not meet
    differentiable: bool = True  # not of results that are only looked at
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.bfloat16)

    def variants(self):
        """Yields a label, the dtype and fresh (args, kwargs) for every case."""
        for name, make in self.cases.items():
            for sizes in SIZES:
                for dtype in self.dtypes:
                    for strided in (False, True):
                        for options in (False, True):
                            label = f"{name} B,D,L={sizes} {str(dtype)[6:]}"
                            label += " strided" * strided + " with state and positions" * options
                            yield label, dtype, make(Inputs(dtype, strided), *sizes, options)
