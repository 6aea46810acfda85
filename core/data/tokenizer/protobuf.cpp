#include "core/data/tokenizer/protobuf.h"

namespace hippodrome {

bool ProtobufReader::next(ProtobufField& field) {
  if (rest_.empty() || broken_) {
    return false;
  }
  broken_ = !take_field(field);
  return !broken_;
}

bool ProtobufReader::take_varint(uint64_t& value) {
  value = 0;
  for (size_t i = 0; i < 10 && i < rest_.size(); ++i) {
    const auto byte = static_cast<unsigned char>(rest_[i]);
    value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if (byte < 0x80) {
      rest_.remove_prefix(i + 1);
      return true;
    }
  }
  return false;
}

bool ProtobufReader::take_fixed(size_t size, uint64_t& value) {
  if (rest_.size() < size) {
    return false;
  }
  value = 0;
  for (size_t i = 0; i < size; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(rest_[i])) << (8 * i);
  rest_.remove_prefix(size);
  return true;
}

bool ProtobufReader::take_field(ProtobufField& field) {
  uint64_t tag = 0;
  field = {};
  if (!take_varint(tag) || tag >> 3 == 0) {
    return false;
  }
  field.number = tag >> 3;
  switch (tag & 7) {
    case 0:
      return take_varint(field.value);
    case 1:
      return take_fixed(8, field.value);
    case 5:
      return take_fixed(4, field.value);
    case 2:
      if (!take_varint(field.value) || field.value > rest_.size()) return false;
      field.bytes = rest_.substr(0, field.value);
      rest_.remove_prefix(field.value);
      return true;
    default:  // groups, long out of use
      return false;
  }
}

}  // namespace hippodrome
