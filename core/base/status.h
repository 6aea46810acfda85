#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expression` is an error; the function returns absl::Status or StatusOr<T>.
#define RETURN_IF_ERROR(expression)                                          \
  do {                                                                       \
    if (absl::Status hippodrome_status = (expression); !hippodrome_status.ok()) { \
      return hippodrome_status;                                              \
    }                                                                        \
  } while (false)

#define HIPPODROME_CONCAT_INNER(a, b) a##b
#define HIPPODROME_CONCAT(a, b) HIPPODROME_CONCAT_INNER(a, b)

// ASSIGN_OR_RETURN(auto value, f()): value of a StatusOr, or returns its error.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_INNER(HIPPODROME_CONCAT(hippodrome_statusor_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_INNER(temporary, declaration, expression) \
  auto temporary = (expression);                                   \
  if (!temporary.ok()) return std::move(temporary).status();       \
  declaration = *std::move(temporary)
