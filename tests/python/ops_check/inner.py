"""The ops behind the public ones, caught while these run."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

NAMESPACE = "hippodrome::"
# They are given gradients, not differentiated.
INNER_CHECKS = ("test_schema", "test_faketensor")


def describe(argument):
    if isinstance(argument, (list, tuple)):
        return f"[{', '.join(map(describe, argument))}]"
    if not isinstance(argument, torch.Tensor):
        return repr(argument)
    return str(argument.dtype)[6:] + str(argument.dim()) + ("" if argument.is_contiguous() else "s")


class Inner(TorchDispatchMode):
    """Keeps the first call of each of our ops that is not public, for every set of given arguments and dtypes."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.name().startswith(NAMESPACE + "_"):
            kind = tuple(map(describe, (*args, *kwargs.values())))
            self.calls.setdefault((function, kind), (args, kwargs))
        return function(*args, **kwargs)

    def names(self):
        return {function.name() for function, _ in self.calls}

    def check(self, tally):
        for (function, kind), (args, kwargs) in self.calls.items():
            tally.check(
                f"{function.name()}({', '.join(kind)})",
                lambda: torch.library.opcheck(function, args, kwargs, test_utils=INNER_CHECKS),
            )
