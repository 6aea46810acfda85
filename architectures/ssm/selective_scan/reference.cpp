#include "architectures/ssm/selective_scan/reference.h"

namespace hippodrome::s6 {

template void selective_scan_reference(const Params<float>&);
template void selective_scan_reference(const Params<double>&);
template void selective_scan_reference_backward(const Params<float>&, const Gradients<float>&);
template void selective_scan_reference_backward(const Params<double>&, const Gradients<double>&);

}  // namespace hippodrome::s6
