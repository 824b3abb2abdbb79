// The build id of an ELF file (.note.gnu.build-id).
#pragma once

#include <string>

namespace duet::platform {

// Hexadecimal; empty: the file cannot be read, or has none.
std::string elf_build_id(const std::string& path);

}  // namespace duet::platform
