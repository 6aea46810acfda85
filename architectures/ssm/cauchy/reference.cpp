#include "architectures/ssm/cauchy/reference.h"

namespace hippodrome {

template void cauchy_forward_reference<float>(const CauchyForward<float>&);
template void cauchy_forward_reference<double>(const CauchyForward<double>&);
template void cauchy_backward_reference<float>(const CauchyBackward<float>&);
template void cauchy_backward_reference<double>(const CauchyBackward<double>&);

}  // namespace hippodrome
