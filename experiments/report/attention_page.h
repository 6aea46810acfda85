#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace hippodrome {

// A page of its own, without scripts, that draws attention maps (search_evaluation.h's samples): source words along the
// top, target words down the side, a square the darker the more of the target word's attention the source word has.
std::string attention_page(const std::string& title, const nlohmann::json& samples);

}  // namespace hippodrome
