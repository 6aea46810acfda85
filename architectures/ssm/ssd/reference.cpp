#include "architectures/ssm/ssd/reference.h"

namespace hippodrome::ssd_kernel {

template void ssd_reference(const Params<float>&);
template void ssd_reference(const Params<double>&);
template void ssd_reference_backward(const Params<float>&, const Gradients<float>&);
template void ssd_reference_backward(const Params<double>&, const Gradients<double>&);

}  // namespace hippodrome::ssd_kernel
