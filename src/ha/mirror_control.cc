#include "ha/mirror_control.h"

namespace duet::ha {

bool MirrorControl::advance(World& world, bool wanted, Output& out) {
  // A boot of the partner that we may yet decide to take over keeps its log untouched by the next
  // one.
  dial(world, out);
  auto boot = world.monitor.nonce();
  bool settled = boot != BootNonce(0) && world.monitor.watched() == boot;
  if (wanted && settled && world.engine && open_for_ != boot) {
    open_for_ = boot;
    ++offer_number_;
    offer_at_ = out.now();
    out.act(OpenMirrorWindow{world.partner(), boot});
  }
  if (offer_at_ > out.now()) return false;
  offer_at_ = out.now() + offer_interval;
  if (!open() || open_for_ != boot || !world.engine || world.link != ports::LinkState::ready)
    return false;
  world.send(MirrorOffer{.port = world.engine->mirror_port,
                         .persistent = world.engine->persistent,
                         .nvram = world.engine->nvram,
                         .number = offer_number_},
             boot, out);
  return false;
}

void MirrorControl::on_link(bool ready) {
  if (!ready || !open()) return;
  ++offer_number_;
  offer_at_ = Instant{};
}

void MirrorControl::on_offer(const MirrorOffer& offer, BootNonce sender, World& world,
                             Output& out) {
  world.partner_nvram = PartnerNvram{sender, offer.nvram};
  bool news = sender != dialled_boot_ || offer.number != dialled_number_;
  const auto& own = world.mailbox(world.self());
  bool mirrored = own && own->durability == Durability::mirrored && own->epoch == world.boot_epoch;
  // Dialling is idempotent for an engine whose mirror is up or coming up.
  if (!news && (mirrored || out.now() < dialled_at_ + offer_interval)) return;
  offered_ = Offered{offer, sender};
  dial(world, out);
}

void MirrorControl::dial(World& world, Output& out) {
  if (!offered_ || !world.engine || world.partner_fenced) return;
  auto [offer, boot] = *offered_;
  offered_.reset();
  if (boot != world.monitor.nonce()) return;
  dialled_boot_ = boot;
  dialled_number_ = offer.number;
  dialled_at_ = out.now();
  out.act(DialMirror{offer.port, boot});
}

}  // namespace duet::ha
