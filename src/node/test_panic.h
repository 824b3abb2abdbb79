// `duet node panic`, for tests: ways in which an engine can die.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace duet::node {

enum class PanicKind : std::uint8_t { null, assert, stack, abort, hang };
std::optional<PanicKind> panic_kind(std::string_view name);

// Does not return, but for `abort`, where another thread ends the process soon.
void panic_on_purpose(PanicKind kind);

}  // namespace duet::node
