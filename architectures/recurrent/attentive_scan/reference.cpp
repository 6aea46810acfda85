#include "architectures/recurrent/attentive_scan/reference.h"

namespace hippodrome {

template void attentive_scan_forward_reference<float>(const AttentiveScanForward<float>&);
template void attentive_scan_forward_reference<double>(const AttentiveScanForward<double>&);
template void attentive_scan_backward_reference<float>(const AttentiveScanBackward<float>&);
template void attentive_scan_backward_reference<double>(const AttentiveScanBackward<double>&);

}  // namespace hippodrome
