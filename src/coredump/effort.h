// How hard a dump is compressed: as hard as the disk gives it time for, and as it pays. A disk that
// never waits is as fast as it can be, and then less to write is time won. But compressing takes
// processor time that the disk's driver may need: nothing is spent where bytes do not become fewer.
#pragma once

#include "base/time.h"
#include "coredump/chunk_writer.h"

namespace duet::coredump {

class Effort {
 public:
  static constexpr int span = 4;                         // pieces by which an effort is judged
  static constexpr int min_pause = 16, max_pause = 256;  // pieces until what did not pay is tried
  static constexpr double pays = 0.9;  // of the bytes that the next easier effort leaves

  struct Piece {
    Duration waited{};    // before it was begun, because enough pieces were ready
    Duration made{};      // how long it took
    bool hungry = false;  // before it was begun the disk was ready for a piece, and there was none
    std::uint64_t plain = 0, stored = 0;  // bytes
  };

  // As ChunkWriter::put takes it. Begins with what is quickest: the disk waits for the first piece.
  int value() const { return value_; }
  // A piece was made at this effort.
  void on_piece(const Piece& piece);

 private:
  void change(int by);
  int value_ = ChunkWriter::efforts - 1;
  // At this effort.
  int pieces_ = 0;
  Duration waited_{}, made_{};
  std::uint64_t plain_ = 0, stored_ = 0;
  double easier_ = 0;  // stored by plain at the next easier effort; 0: not known
  // Harder efforts are left alone for so many pieces, next time twice as many.
  int pause_ = 0, next_pause_ = min_pause;
};

}  // namespace duet::coredump
