#include "ha/cluster_disk.h"

#include "ha/output.h"

namespace duet::ha::testing {

using ports::ReservationType;

bool ClusterDisk::may_read(Nexus nexus) const {
  return !holder_ || type_ == ReservationType::write_exclusive_registrants_only ||
         registered(nexus);
}

bool ClusterDisk::may_write(Nexus nexus) const {
  return !holder_ || registered(nexus);
}

Result<DiskReply> ClusterDisk::conflict() const {
  return fail(ErrorCode::reservation_conflict, "reservation conflict");
}

std::vector<std::byte> ClusterDisk::read(std::uint64_t offset) const {
  auto it = blocks_.find(offset);
  return it != blocks_.end() ? it->second : std::vector<std::byte>(4096);
}

Result<DiskReply> ClusterDisk::preempt(Nexus nexus, const Preempt& p, Effects& effects) {
  auto own = keys_.find(nexus);
  if (own == keys_.end() || own->second != p.key) return conflict();
  bool takes = holder_ && keys_.at(*holder_) == p.victim;
  bool found = false;
  for (auto it = keys_.begin(); it != keys_.end();) {
    if (it->second != p.victim) {
      ++it;
      continue;
    }
    found = true;
    if (it->first == nexus) {
      ++it;
      continue;
    }
    effects.preempted.push_back(it->first);
    it = keys_.erase(it);
  }
  if (!found) return conflict();
  effects.abort = p.abort;
  if (takes) {
    holder_ = nexus;
    type_ = p.type;
  }
  ++generation_;
  return DiskReply{};
}

Result<DiskReply> ClusterDisk::execute(Nexus nexus, const DiskOperation& operation,
                                       Effects& effects) {
  return std::visit(
      Overloaded{
          [&](const ReadBlock& r) -> Result<DiskReply> {
            if (!may_read(nexus)) return conflict();
            return DiskReply{read(r.offset)};
          },
          [&](const WriteBlock& w) -> Result<DiskReply> {
            if (!may_write(nexus)) return conflict();
            write(w.offset, w.bytes);
            return DiskReply{};
          },
          [&](const ReadKeys&) -> Result<DiskReply> {
            ports::RegisteredKeys keys{generation_, {}};
            for (const auto& [n, key] : keys_) keys.keys.push_back(key);
            return DiskReply{keys};
          },
          [&](const ReadReservation&) -> Result<DiskReply> {
            return DiskReply{
                ports::ReservationState{generation_, holder_.has_value(), holder_key(), type_}};
          },
          [&](const RegisterKey& r) -> Result<DiskReply> {
            ++generation_;
            if (r.key != ReservationKey(0)) {
              keys_[nexus] = r.key;
              return DiskReply{};
            }
            keys_.erase(nexus);
            if (holder_ == nexus) holder_.reset();
            return DiskReply{};
          },
          [&](const Reserve& r) -> Result<DiskReply> {
            auto own = keys_.find(nexus);
            if (own == keys_.end() || own->second != r.key) return conflict();
            if (holder_ && (*holder_ != nexus || type_ != r.type)) return conflict();
            holder_ = nexus;
            type_ = r.type;
            return DiskReply{};
          },
          [&](const Preempt& p) -> Result<DiskReply> { return preempt(nexus, p, effects); },
      },
      operation);
}

}  // namespace duet::ha::testing
