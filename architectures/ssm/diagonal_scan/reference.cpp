#include "architectures/ssm/diagonal_scan/reference.h"

namespace hippodrome {

template void diagonal_scan_forward_reference<float>(const DiagonalScanForward<float>&);
template void diagonal_scan_forward_reference<double>(const DiagonalScanForward<double>&);
template void diagonal_scan_backward_reference<float>(const DiagonalScanBackward<float>&);
template void diagonal_scan_backward_reference<double>(const DiagonalScanBackward<double>&);

}  // namespace hippodrome
