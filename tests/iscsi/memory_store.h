// A store in memory for tests and measurements of the iSCSI service. Can hold its answers back.
#pragma once

#include <map>
#include <vector>

#include "services/scsi_target.h"

namespace duet::tests {

class MemoryStore final : public services::UnitStore {
 public:
  void attach(services::ScsiTarget& target) { target_ = &target; }
  void add(LunNumber lun, std::size_t size) { media_[lun] = make_buffer(size); }
  MutableBytes medium(LunNumber lun) { return media_.at(lun).bytes; }

  // While held, nothing is answered; release() answers in order.
  void hold() { held_ = true; }
  void release() {
    held_ = false;
    for (auto& [lun, done] : std::exchange(kept_, {})) answer(lun, std::move(done));
  }
  std::size_t kept() const { return kept_.size(); }
  // Aborted work stays kept instead of being answered at once.
  void keep_aborted(bool keep) { keep_aborted_ = keep; }
  std::size_t aborts() const { return aborts_; }

  void read(LunNumber lun, const scsi::StoreRead& order) override {
    done(lun, {.tag = order.tag,
               .data = {copy_to_slice(medium(lun).subspan(order.offset, order.length))}});
  }
  void write(LunNumber lun, scsi::StoreWrite&& order) override {
    std::byte* to = medium(lun).data() + order.offset;
    for (const auto& slice : order.data) {
      std::memcpy(to, slice.bytes.data(), slice.bytes.size());
      to += slice.bytes.size();
    }
    done(lun, {.tag = order.tag, .data = {}});
  }
  void zero(LunNumber lun, const scsi::StoreZero& order) override {
    std::memset(medium(lun).data() + order.offset, 0, order.length);
    done(lun, {.tag = order.tag, .data = {}});
  }
  void flush(LunNumber lun, const scsi::StoreFlush& order) override {
    done(lun, {.tag = order.tag, .data = {}});
  }
  void save_reservations(LunNumber lun, scsi::StoreReservations&& order) override {
    done(lun, {.tag = order.tag, .data = {}});
  }
  void abort(LunNumber lun, const scsi::StoreAbort& order) override {
    ++aborts_;
    if (keep_aborted_) return;
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      if (it->first != lun || it->second.tag != order.tag) continue;
      kept_.erase(it);
      answer(lun, {.tag = order.tag, .outcome = scsi::StoreDone::Outcome::cancelled, .data = {}});
      return;
    }
  }

 private:
  void done(LunNumber lun, scsi::StoreDone&& done) {
    if (held_) {
      kept_.emplace_back(lun, std::move(done));
    } else {
      answer(lun, std::move(done));
    }
  }
  void answer(LunNumber lun, scsi::StoreDone&& done) { target_->store_done(lun, std::move(done)); }

  services::ScsiTarget* target_ = nullptr;
  std::map<LunNumber, OwnedBuffer> media_;
  bool held_ = false;
  bool keep_aborted_ = false;
  std::size_t aborts_ = 0;
  std::vector<std::pair<LunNumber, scsi::StoreDone>> kept_;
};

inline scsi::LogicalUnit memory_unit(const std::string& target_name, LunNumber lun,
                                     std::size_t size, std::uint16_t ports) {
  scsi::UnitConfig config;
  config.serial = "memory-" + std::to_string(lun.value());
  config.naa = 0x3000000000000000 + lun.value();
  config.target_name = target_name;
  config.target_ports = ports;
  config.blocks = size / config.block_size;
  return {config, {}};
}

}  // namespace duet::tests
