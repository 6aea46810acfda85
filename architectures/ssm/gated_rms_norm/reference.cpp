#include "architectures/ssm/gated_rms_norm/reference.h"

namespace hippodrome::gated_rms_norm_op {

template void forward_reference(const Forward<float>&);
template void forward_reference(const Forward<double>&);
template void backward_reference(const Backward<float>&);
template void backward_reference(const Backward<double>&);

}  // namespace hippodrome::gated_rms_norm_op
