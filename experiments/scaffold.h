#pragma once

#include <string>

namespace hippodrome {

// The files of a new layer: a gated linear recurrence that compiles, keeps the laws, and shows where everything goes.
class Scaffold {
 public:
  // `name` and `family` are lower-case identifiers.
  Scaffold(std::string name, std::string family);

  std::string header() const;
  std::string source() const;
  std::string readme() const;
  std::string include_line() const;   // for architectures/registry.cpp
  std::string registry_line() const;

 private:
  std::string fill(const char* text) const;

  std::string name_, family_, type_;
};

}  // namespace hippodrome
