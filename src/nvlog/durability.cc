#include "nvlog/durability.h"

namespace duet::nvlog {

std::string_view name(Durability mode) {
  switch (mode) {
    case Durability::mirrored:
      return "mirrored";
    case Durability::local:
      return "local";
    case Durability::write_through:
      return "write-through";
  }
  return "?";
}

}  // namespace duet::nvlog
