#pragma once

#include <cstdint>
#include <string_view>

namespace hippodrome {

// One field of a message in protocol buffers' wire format.
struct ProtobufField {
  uint64_t number = 0;
  uint64_t value = 0;      // of a varint or of a number of 32 or 64 bits, as its bits
  std::string_view bytes;  // of what has a length: text, bytes, a message
};

// Reads a message field by field, in the order of the file. Nothing of it is trusted.
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}

  // The next field; false at the end and at what is no field.
  bool next(ProtobufField& field);
  // Whether the end that `next` met is the message's.
  bool whole() const { return rest_.empty() && !broken_; }

 private:
  bool take_varint(uint64_t& value);
  bool take_fixed(size_t size, uint64_t& value);
  bool take_field(ProtobufField& field);

  std::string_view rest_;
  bool broken_ = false;
};

}  // namespace hippodrome
