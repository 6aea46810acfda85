#pragma once

#include <stdexcept>
#include <string>

namespace hippodrome {

// A promise that a fuzz target found broken; libFuzzer and GoogleTest both report what is thrown.
inline void fuzz_check(bool holds, const std::string& promise) {
  if (!holds) {
    throw std::logic_error("broken promise: " + promise);
  }
}

// An error of a reader: one line that begins with the file's name.
inline void fuzz_check_sentence(const std::string& message, const std::string& name) {
  fuzz_check(message.rfind(name, 0) == 0, "errors begin with the file's name: " + message);
  fuzz_check(message.find('\n') == std::string::npos, "errors are one line: " + message);
}

}  // namespace hippodrome
