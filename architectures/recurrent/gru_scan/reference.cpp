#include "architectures/recurrent/gru_scan/reference.h"

namespace hippodrome {

template void gru_scan_forward_reference<float>(const GruScanForward<float>&);
template void gru_scan_forward_reference<double>(const GruScanForward<double>&);
template void gru_scan_backward_reference<float>(const GruScanBackward<float>&);
template void gru_scan_backward_reference<double>(const GruScanBackward<double>&);

}  // namespace hippodrome
