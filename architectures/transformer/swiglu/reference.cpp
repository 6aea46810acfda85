#include "architectures/transformer/swiglu/reference.h"

namespace hippodrome {

template void swiglu_forward_reference(const SwigluForward<float>&);
template void swiglu_forward_reference(const SwigluForward<double>&);
template void swiglu_backward_reference(const SwigluBackward<float>&);
template void swiglu_backward_reference(const SwigluBackward<double>&);

}  // namespace hippodrome
