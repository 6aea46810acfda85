#include "architectures/ssm/dplr_scan/reference.h"

namespace hippodrome {

template void dplr_scan_forward_reference<float>(const DplrScanForward<float>&);
template void dplr_scan_forward_reference<double>(const DplrScanForward<double>&);
template void dplr_scan_backward_reference<float>(const DplrScanBackward<float>&);
template void dplr_scan_backward_reference<double>(const DplrScanBackward<double>&);

}  // namespace hippodrome
