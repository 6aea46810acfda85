#include "architectures/ssm/causal_fir/reference.h"

namespace hippodrome {

template void causal_fir_forward_reference<float>(const CausalFirForward<float>&);
template void causal_fir_forward_reference<double>(const CausalFirForward<double>&);
template void causal_fir_backward_reference<float>(const CausalFirBackward<float>&);
template void causal_fir_backward_reference<double>(const CausalFirBackward<double>&);

}  // namespace hippodrome
