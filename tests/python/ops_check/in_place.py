"""Updates in place, which inference calls without gradients."""

import torch

from .comparison import expect_near
from .inner import INNER_CHECKS
from .inputs import Inputs


def check_update_in_place(name, make, tally):
    """The names of the ops that were checked."""
    op = getattr(torch.ops.hippodrome, name).default

    def same_as_the_twin(args, state, twin, dtype):
        y_of_twin, state_of_twin = twin()
        expect_near("y", op(*args), y_of_twin, dtype)
        expect_near("the state", state, state_of_twin, dtype)

    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for strided in (False, True):
            for options in (False, True):
                label = f"{name} {str(dtype)[6:]}" + " strided" * strided + " with all arguments" * options
                with torch.no_grad():
                    args, state, twin = make(Inputs(dtype, strided), 3, 6, options)
                    tally.check(label, lambda: torch.library.opcheck(op, args, {}, test_utils=INNER_CHECKS))
                    tally.check(f"{label}: values", lambda: same_as_the_twin(args, state, twin, dtype))
    return {op.name()}
