// Brings the two engines' mirrors together: opens the window for one boot of the partner, offers
// it, and has our engine dial what the partner offers. The window is open only while nobody but the
// partner serves its identity; the takeover closes it.
#pragma once

#include <optional>

#include "ha/world.h"

namespace duet::ha {

class MirrorControl {
 public:
  // `wanted`: we neither serve nor are taking over the partner's identity.
  bool advance(World& world, bool wanted, Output& out);
  void on_offer(const MirrorOffer& offer, BootNonce sender, World& world, Output& out);
  void on_link(bool ready);
  // The takeover has closed the window.
  void on_closed() { open_for_ = BootNonce(0); }
  bool open() const { return open_for_ != BootNonce(0); }
  Instant next_time() const { return offer_at_; }

 private:
  void dial(World& world, Output& out);

  struct Offered {
    MirrorOffer offer;
    BootNonce boot;
  };
  BootNonce open_for_;
  std::optional<Offered> offered_;  // the partner's, waiting for our engine or for the giveback
  std::uint64_t offer_number_ = 0;
  Instant offer_at_ = never;
  BootNonce dialled_boot_;
  std::uint64_t dialled_number_ = 0;
  Instant dialled_at_{};
};

}  // namespace duet::ha
