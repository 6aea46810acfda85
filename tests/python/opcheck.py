"""Checks libhippodrome_ops.so inside Python's torch. Usage: opcheck.py LIBRARY

Every public op goes through torch.library.opcheck (schema, autograd registration, fake tensors, AOT dispatch with symbolic
sizes) and has its values and gradients compared with its plain-loop twin. The ops behind them (`_name_forward`,
`_name_backward`) are caught while they run and go through the checks that hold for them. Updates in place are called without
gradients. A registered op that no case reaches is a failure, so a new op needs a case in ops_check/cases.
"""

import pathlib
import sys
import warnings

# Not needed here, and torch says so in a warning.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
# In isolated mode (-I) Python does not look beside the script. Last, so that nothing there hides an installed module; and
# without compiled files in the source folder.
sys.path.append(str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

import torch

from ops_check.cases import OPERATORS, UPDATES_IN_PLACE
from ops_check.in_place import check_update_in_place
from ops_check.inner import NAMESPACE
from ops_check.public import check_operator
from ops_check.tally import Tally


def one_library_each():
    """The library uses this Python's LibTorch and OpenMP, not a second copy by way of its own search path."""
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if ".so" in line}
    for start in ("libtorch_cpu.so", "libc10.so", "libgomp"):
        found = sorted(f for f in files if f.rsplit("/", 1)[-1].startswith(start))
        assert len(found) == 1, f"{start} is loaded {len(found)} times: {found}"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: opcheck.py LIBRARY")
    torch.set_num_threads(1)
    torch.ops.load_library(sys.argv[1])
    tally = Tally()
    tally.check("one copy of each library", one_library_each)
    reached = set()
    for name, operator in OPERATORS.items():
        reached |= check_operator(name, operator, tally)
    for name, make in UPDATES_IN_PLACE.items():
        reached |= check_update_in_place(name, make, tally)
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith(NAMESPACE)}
    for name in sorted(registered - reached):
        tally.fail(name, "registered, and no case reaches it")
    print(f"{len(registered)} ops, {tally.passed} checks passed, {len(tally.failed)} failed")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
