#include "core/laws/laws.h"

#include <c10/util/Exception.h>

#include <cmath>

#include "core/laws/specimen.h"

namespace hippodrome {

const std::vector<Law>& laws() {
  static const std::vector<Law> all = {
      {"split", "any cut of the sequence with carried state equals the whole, values and gradients", law_checks::split},
      {"step", "token by token equals the whole", law_checks::step},
      {"causality", "no output depends on a later input, by gradient", law_checks::causality},
      {"padding", "padding changes no row's output or state", law_checks::padding},
      {"packing", "sequences packed into one row equal the same alone, values and gradients", law_checks::packing},
      {"batch", "a row in a batch equals the row alone", law_checks::batch},
      {"gradcheck", "gradients equal finite differences in float64, also by the initial state", law_checks::gradcheck},
      {"kernel", "the fast kernel equals the plain one, forward and backward", law_checks::kernel},
      {"state bytes", "the state's measured size is the declared one", law_checks::state_bytes},
      {"live bytes", "memory does not grow from token to token where the state is constant", law_checks::live_bytes},
      {"cost", "FLOPs counted on the reference path are the declared ones", law_checks::cost},
      {"save and load", "a restored state continues bit for bit", law_checks::save_and_load},
      {"clone and select", "clones are independent, selected rows continue as those rows", law_checks::clone_and_select},
      {"determinism", "two runs give the same bits", law_checks::determinism},
      {"initialisation", "initial values survive the construction of a model", law_checks::initialisation},
      {"configuration", "every documented key is read, an unknown one refused", law_checks::configuration},
      {"precision", "bfloat16 gives what float32 gives, to its precision", law_checks::precision},
  };
  return all;
}

absl::StatusOr<std::vector<LawResult>> check_laws(const LawSubject& subject) {
  ASSIGN_OR_RETURN(const LayerEntry* entry, subject.registry->layer(subject.layer));
  RETURN_IF_ERROR(entry->make(subject.config, subject.layer, law_checks::law_site(subject)).status());
  std::vector<LawResult> results;
  for (const Law& law : laws()) {
    const auto failed = [&](const std::string& why) {
      results.push_back({law.name, false, true, INFINITY, 0.0, "", why});
    };
    try {
      results.push_back(law.check(subject));
      results.back().law = law.name;
    } catch (const c10::Error& error) {
      failed(error.what_without_backtrace());
    } catch (const std::exception& error) {
      failed(error.what());
    }
  }
  return results;
}

}  // namespace hippodrome
