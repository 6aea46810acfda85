#include "architectures/ssm/causal_conv1d/reference.h"

namespace hippodrome {

template void causal_conv1d_forward_reference<float>(const CausalConv1dForward<float>&);
template void causal_conv1d_forward_reference<double>(const CausalConv1dForward<double>&);
template void causal_conv1d_backward_reference<float>(const CausalConv1dBackward<float>&);
template void causal_conv1d_backward_reference<double>(const CausalConv1dBackward<double>&);

}  // namespace hippodrome
