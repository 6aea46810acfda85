#include "architectures/ssm/scan_step/reference.h"

namespace hippodrome::scan_step {

template void scan_step_reference(const Params<float, float>&);
template void scan_step_reference(const Params<double, double>&);

}  // namespace hippodrome::scan_step
