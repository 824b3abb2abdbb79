// Notices an engine that runs but makes no progress. Sans-I/O: it is shown the progress counter now
// and then.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace duet::node {

class EngineWatchdog {
 public:
  explicit EngineWatchdog(Duration limit) : limit_(limit) {}

  void started(Instant now) { progress_ = 0, changed_ = now, watching_ = true; }
  void ended() { watching_ = false; }
  // True when the engine has made no progress for the limit: it shall be killed. A pause of the
  // observer itself (this process was stopped, too) is no proof against the engine: it gets a fresh
  // limit.
  bool stalled(std::uint64_t progress, Instant now) {
    bool paused = now - looked_ > limit_ / 2;
    looked_ = now;
    if (!watching_) return false;
    if (progress != progress_ || paused) progress_ = progress, changed_ = now;
    return now - changed_ >= limit_;
  }
  static constexpr int looks_per_limit = 10;
  Duration interval() const { return limit_ / looks_per_limit; }

 private:
  Duration limit_;
  std::uint64_t progress_ = 0;
  Instant changed_{};
  Instant looked_{};
  bool watching_ = false;
};

}  // namespace duet::node
