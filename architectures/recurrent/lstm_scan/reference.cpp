#include "architectures/recurrent/lstm_scan/reference.h"

namespace hippodrome {

template void lstm_scan_forward_reference<float>(const LstmScanForward<float>&);
template void lstm_scan_forward_reference<double>(const LstmScanForward<double>&);
template void lstm_scan_backward_reference<float>(const LstmScanBackward<float>&);
template void lstm_scan_backward_reference<double>(const LstmScanBackward<double>&);

}  // namespace hippodrome
