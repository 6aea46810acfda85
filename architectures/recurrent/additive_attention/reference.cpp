#include "architectures/recurrent/additive_attention/reference.h"

namespace hippodrome {

template void additive_attention_forward_reference<float>(const AdditiveAttentionForward<float>&);
template void additive_attention_forward_reference<double>(const AdditiveAttentionForward<double>&);
template void additive_attention_weights_reference<float>(const AdditiveAttentionForward<float>&);
template void additive_attention_weights_reference<double>(const AdditiveAttentionForward<double>&);
template void additive_attention_backward_reference<float>(const AdditiveAttentionBackward<float>&);
template void additive_attention_backward_reference<double>(const AdditiveAttentionBackward<double>&);

}  // namespace hippodrome
