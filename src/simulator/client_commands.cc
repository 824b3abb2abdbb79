// What a simulated initiator asks for.
#include <algorithm>

#include "simulator/client.h"

namespace duet::simulator {
namespace {

constexpr std::uint32_t pool_block = 8;  // logical blocks in 4 KiB

using Cdb = std::vector<std::uint8_t>;

void put(Cdb& cdb, std::size_t at, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) {
    cdb[at + i] = static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
  }
}

// Commands of 16 bytes with a block address at 2 and a count at 10.
Cdb cdb16(std::uint8_t opcode, std::uint64_t first, std::uint32_t count) {
  Cdb cdb(16);
  cdb[0] = opcode;
  put(cdb, 2, first, 8);
  put(cdb, 10, count, 4);
  return cdb;
}

void append_blocks(std::vector<std::byte>& out, const BlockRange& range, Stamp stamp,
                   std::uint32_t i) {
  out.resize(out.size() + block_size);
  if (stamp == 0) return;
  fill_block(MutableBytes(out).last(block_size), stamp, range, range.first + i);
}

}  // namespace

std::uint64_t Client::zone_start(const SharedLun& lun, std::uint64_t zone) const {
  return (lun.blocks - zone_blocks) / pool_block * zone / 2 * pool_block;
}

Client::CommandPtr Client::make(Kind kind, SharedLun& lun) {
  auto command = std::make_shared<Command>();
  command->kind = kind;
  command->lun = &lun;
  command->request.lun = lun.number;
  command->request.cdb = Cdb(6);  // TEST UNIT READY
  return command;
}

Client::CommandPtr Client::choose() {
  SharedLun& lun = *luns_[random_.below(luns_.size())];
  const auto dice = random_.below(100);
  if (lun.reservations && dice >= 94) {
    return dice >= 97 && !lun.reservations->busy() ? reserve_out(lun) : reserve_in(lun);
  }
  if (dice < 14) return compare_and_write(lun);
  if (dice < 16) return flush(lun);
  const std::uint64_t zone = random_.below(3);
  const std::uint64_t start = zone_start(lun, zone);
  const std::uint64_t size = zone == 0 ? zone_blocks - swap_blocks : zone_blocks;
  std::uint64_t first = 0;
  std::uint32_t count = pool_block;
  if (dice < 18) {  // all of it
    count = static_cast<std::uint32_t>(size);
  } else if (dice < 26) {  // any
    count = 1 + static_cast<std::uint32_t>(random_.below(24));
    first = random_.below(size - count + 1);
  } else {  // what a file system does
    if (dice < 36) count *= 1 + static_cast<std::uint32_t>(random_.below(4));
    first = random_.below((size - count) / pool_block + 1) * pool_block;
  }
  const auto what = random_.below(100);
  if (what < 45) return read(lun, start + first, count);
  if (what < 95) return write(lun, start + first, std::min(count, write_blocks_max));
  return zero(lun, start + first, count);
}

Client::CommandPtr Client::read(SharedLun& lun, std::uint64_t first, std::uint32_t count) {
  auto command = make(Kind::read, lun);
  command->range = {lun.identity, lun.number, first, count};
  command->request.cdb = cdb16(0x88, first, count);
  command->request.data_in = count * block_size;
  return command;
}

Client::CommandPtr Client::write(SharedLun& lun, std::uint64_t first, std::uint32_t count) {
  auto command = make(Kind::write, lun);
  command->range = {lun.identity, lun.number, first, count};
  command->value = history_.fresh_stamp(options_.number);
  command->request.cdb = cdb16(0x8a, first, count);
  for (std::uint32_t i = 0; i < count; ++i) {
    append_blocks(command->request.data_out, command->range, command->value, i);
  }
  return command;
}

Client::CommandPtr Client::zero(SharedLun& lun, std::uint64_t first, std::uint32_t count) {
  auto command = make(Kind::zero, lun);
  command->range = {lun.identity, lun.number, first, count};
  if (random_.chance(1, 2)) {  // WRITE SAME without data
    command->request.cdb = cdb16(0x93, first, count);
    command->request.cdb[1] = 0x01;
    return command;
  }
  constexpr std::size_t one_descriptor = 16;  // UNMAP
  command->request.cdb = Cdb(10);
  command->request.cdb[0] = 0x42;
  put(command->request.cdb, 7, 8 + one_descriptor, 2);
  Cdb list(8 + one_descriptor);
  put(list, 0, 6 + one_descriptor, 2);
  put(list, 2, one_descriptor, 2);
  put(list, 8, first, 8);
  put(list, 16, count, 4);
  auto bytes = std::as_bytes(std::span(list));
  command->request.data_out.assign(bytes.begin(), bytes.end());
  return command;
}

// A lock word: taken when free, freed when taken, as far as we have seen.
Client::CommandPtr Client::compare_and_write(SharedLun& lun) {
  const std::uint64_t start = zone_start(lun, 0) + zone_blocks - swap_blocks;
  const std::uint32_t count =
      random_.chance(3, 4) ? 1 : 1 + static_cast<std::uint32_t>(random_.below(swap_blocks));
  const std::uint64_t first = start + random_.below(swap_blocks - count + 1);
  if (random_.chance(1, 4)) return read(lun, first, count);
  auto command = make(Kind::compare_and_write, lun);
  command->range = {lun.identity, lun.number, first, count};
  bool taken = false;
  for (std::uint32_t i = 0; i < count; ++i) {
    auto seen = seen_.find({lun.number, first + i});
    command->expected.push_back(seen == seen_.end() ? 0 : seen->second);
    taken = taken || command->expected.back() != 0;
  }
  command->value = taken && random_.chance(1, 2) ? 0 : history_.fresh_stamp(options_.number);
  command->request.cdb = cdb16(0x89, first, 0);
  command->request.cdb[13] = static_cast<std::uint8_t>(count);
  auto& data = command->request.data_out;
  for (std::uint32_t i = 0; i < count; ++i) {
    append_blocks(data, command->range, command->expected[i], i);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    append_blocks(data, command->range, command->value, i);
  }
  return command;
}

Client::CommandPtr Client::flush(SharedLun& lun) {
  auto command = make(Kind::flush, lun);
  command->request.cdb = cdb16(0x91, 0, 0);  // SYNCHRONIZE CACHE, to the end
  return command;
}

Client::CommandPtr Client::serial(SharedLun& lun) {
  auto command = make(Kind::serial, lun);
  command->request.cdb = {0x12, 0x01, 0x80, 0x00, 0xff, 0x00};  // INQUIRY, VPD page 80h
  command->request.data_in = 255;
  return command;
}

Client::CommandPtr Client::reserve_in(SharedLun& lun) {
  using Action = scsi::PersistentReserveIn::ServiceAction;
  constexpr std::uint16_t allocation = 8192;
  auto command = make(Kind::reserve_in, lun);
  command->report = random_.chance(1, 2)   ? Action::read_keys
                    : random_.chance(1, 2) ? Action::read_reservation
                                           : Action::read_full_status;
  command->request.cdb = Cdb(10);
  command->request.cdb[0] = 0x5e;
  command->request.cdb[1] = static_cast<std::uint8_t>(command->report);
  put(command->request.cdb, 7, allocation, 2);
  command->request.data_in = allocation;
  return command;
}

Client::CommandPtr Client::reserve_out(SharedLun& lun) {
  using Action = scsi::PersistentReserveOut::ServiceAction;
  const scsi::Reservations& state = lun.reservations->any_state();
  const scsi::Registration* own = state.find(nexus_);
  scsi::ReservationRequest r;
  if (own != nullptr) r.key = own->key;
  const auto fresh_key = [&] { return ReservationKey(random_.next() | 1); };
  const auto any_type = [&] {
    constexpr std::uint8_t types[] = {1, 3, 5, 5, 6, 7, 8};
    return types[random_.below(std::size(types))];
  };
  const auto dice = random_.below(100);
  if (own == nullptr || dice < 20) {
    r.action = random_.chance(1, 2) ? Action::register_key : Action::register_and_ignore;
    r.service_action_key = own != nullptr && random_.chance(1, 3) ? ReservationKey{} : fresh_key();
    r.persist = random_.chance(1, 2);
  } else if (dice < 45) {
    r.action = Action::reserve;
    r.type = any_type();
  } else if (dice < 70) {
    r.action = Action::release;
    r.type =
        state.reservation() ? static_cast<std::uint8_t>(state.reservation()->type) : any_type();
  } else if (dice < 95) {
    const auto& victim = state.registrations()[random_.below(state.registrations().size())];
    r.action = random_.chance(1, 2) ? Action::preempt : Action::preempt_and_abort;
    r.service_action_key = victim.key;
    r.type = any_type();
  } else {
    r.action = Action::clear;
  }
  auto command = make(Kind::reserve_out, lun);
  command->reservation = r;
  constexpr std::size_t list_size = 24;
  command->request.cdb = Cdb(10);
  command->request.cdb[0] = 0x5f;
  command->request.cdb[1] = static_cast<std::uint8_t>(r.action);
  command->request.cdb[2] = r.type;
  put(command->request.cdb, 5, list_size, 4);
  Cdb list(list_size);
  put(list, 0, r.key.value(), 8);
  put(list, 8, r.service_action_key.value(), 8);
  list[20] = r.persist ? 1 : 0;
  auto bytes = std::as_bytes(std::span(list));
  command->request.data_out.assign(bytes.begin(), bytes.end());
  lun.reservations->begin(nexus_, r);
  return command;
}

}  // namespace duet::simulator
