#include "coredump/effort.h"

#include <algorithm>
#include <utility>

namespace duet::coredump {

void Effort::on_piece(const Piece& piece) {
  pause_ = std::max(0, pause_ - 1);
  // What was begun right after a change came too late to be its fault.
  if (piece.hungry && pieces_ > 0) return change(1);
  ++pieces_;
  waited_ += piece.waited;
  made_ += piece.made;
  plain_ += piece.plain;
  stored_ += piece.stored;
  if (pieces_ < span || plain_ == 0) return;
  const double left = static_cast<double>(stored_) / static_cast<double>(plain_);
  if (easier_ != 0 && left > pays * easier_) {
    pause_ = std::exchange(next_pause_, std::min(2 * next_pause_, max_pause));
    return change(1);
  }
  if (easier_ != 0) next_pause_ = min_pause;
  // The next effort takes about twice the time, at most.
  const bool harder = waited_ > made_ && pause_ == 0 && value_ > 0;
  const double easier = harder ? left : easier_;
  change(harder ? -1 : 0);
  easier_ = easier;
}

// Begins to judge anew.
void Effort::change(int by) {
  value_ = std::clamp(value_ + by, 0, ChunkWriter::efforts - 1);
  pieces_ = 0;
  waited_ = made_ = {};
  plain_ = stored_ = 0;
  easier_ = 0;
}

}  // namespace duet::coredump
