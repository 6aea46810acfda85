"""The arguments that every op is checked with, a file per family.

OPERATORS: public op -> Operator. UPDATES_IN_PLACE, for inference: op -> (inputs, B, D, whether the optional tensors are given)
-> arguments, the state among them, and a function for what the plain twin makes of them: y and the new state.
"""

from . import mamba, recurrent, rwkv, state_spaces, transformer

FAMILIES = (mamba, rwkv, recurrent, state_spaces, transformer)
OPERATORS = {name: operator for family in FAMILIES for name, operator in family.OPERATORS.items()}
UPDATES_IN_PLACE = mamba.UPDATES_IN_PLACE
