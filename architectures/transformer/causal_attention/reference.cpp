#include "architectures/transformer/causal_attention/reference.h"

namespace hippodrome {

template void causal_attention_forward_reference(const CausalAttentionForward<float>&);
template void causal_attention_forward_reference(const CausalAttentionForward<double>&);
template void causal_attention_backward_reference(const CausalAttentionBackward<float>&);
template void causal_attention_backward_reference(const CausalAttentionBackward<double>&);

}  // namespace hippodrome
