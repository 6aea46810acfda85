#include "architectures/rwkv/wkv4/reference.h"

namespace hippodrome {

template void wkv4_forward_reference<float>(const Wkv4Forward<float>&);
template void wkv4_forward_reference<double>(const Wkv4Forward<double>&);
template void wkv4_backward_reference<float>(const Wkv4Backward<float>&);
template void wkv4_backward_reference<double>(const Wkv4Backward<double>&);

}  // namespace hippodrome
