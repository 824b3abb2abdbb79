// LUNs of a Pool: vdisks whose changes come from the log (filesystem::Storage).
#include <algorithm>
#include <array>
#include <utility>

#include "base/assert.h"
#include "pool/flush.h"
#include "pool/pool.h"
#include "pool/tables.h"

namespace duet::pool {
namespace {

using filesystem::LunCreateRecord;
using filesystem::LunDeleteRecord;
using filesystem::Record;
using filesystem::ReservationsRecord;
using filesystem::WriteRecord;
using filesystem::ZeroRecord;

constexpr std::uint64_t max_luns_created = (1u << 24) - 1;  // their number is part of the NAA
constexpr std::uint64_t file_overhead = 512;                // bytes in memory, roughly

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

std::unexpected<Error> no_such_lun(LunNumber lun) {
  return fail(ErrorCode::not_found, "there is no LUN " + std::to_string(lun.value()));
}

Status check_range(const LunInfo& lun, std::uint64_t offset, std::uint64_t length) {
  if (offset > lun.size || length > lun.size - offset) {
    return fail(ErrorCode::invalid, "beyond the end of LUN " + lun.name);
  }
  return {};
}

std::uint64_t total_size(const std::vector<Slice>& slices) {
  std::uint64_t size = 0;
  for (const Slice& slice : slices) size += slice.bytes.size();
  return size;
}

LunNumber number_of(const Record& record) {
  return std::visit([](const auto& r) { return r.lun; }, record);
}

}  // namespace

Pool::Lun* Pool::lun_of(LunNumber number) {
  auto found = luns_.find(number);
  return found == luns_.end() ? nullptr : &found->second;
}
const Pool::Lun* Pool::lun_of(LunNumber number) const {
  auto found = luns_.find(number);
  return found == luns_.end() ? nullptr : &found->second;
}

std::vector<LunInfo> Pool::luns() const {
  std::vector<LunInfo> infos;
  for (const auto& [number, lun] : luns_) infos.push_back(lun.info);
  return infos;
}

const LunInfo* Pool::find(LunNumber number) const {
  const Lun* lun = lun_of(number);
  return lun == nullptr ? nullptr : &lun->info;
}

Result<LogRecord> Pool::prepare_create(const std::string& name, std::uint64_t size,
                                       bool reserve) const {
  if (state_ != StorageState::active || deactivated_) {
    return fail(ErrorCode::refused, "the pool is not active");
  }
  if (size == 0 || size > filesystem::max_lun_size) {
    return fail(ErrorCode::invalid,
                "a LUN has 1 to " + std::to_string(filesystem::max_lun_size) + " bytes");
  }
  LunCreateRecord record;
  record.name = name;
  record.size = (size + block_size - 1) / block_size * block_size;
  record.reserve = reserve;
  auto number = free_lun();
  if (!number) return std::unexpected(number.error());
  record.lun = *number;
  give_identity(record);
  if (auto status = check(record); !status) return std::unexpected(status.error());
  return encode(record);
}

Result<LunNumber> Pool::free_lun() const {
  LunNumber number;
  while (luns_.contains(number) || coming_luns_.contains(number)) number = number.next();
  if (number.value() > filesystem::max_lun_number || luns_created_ >= max_luns_created) {
    return fail(ErrorCode::no_space, "the pool has no room for another LUN");
  }
  return number;
}

// Unique in the pool, and with the random pool id in the world; the same on whichever node serves.
void Pool::give_identity(LunCreateRecord& record) const {
  const std::uint64_t created = luns_created_ + 1;
  const Bytes id = std::as_bytes(std::span(options_.pool));
  const std::array<std::byte, 3> count{static_cast<std::byte>(created >> 16),
                                       static_cast<std::byte>(created >> 8),
                                       static_cast<std::byte>(created)};
  record.serial = to_hex(id.first(8)) + to_hex(count);
  record.naa = std::uint64_t{3} << 60 | load_be<std::uint64_t>(id.data()) >> 28 << 24 | created;
}

// ---- changes ----

// What apply needs, apart from room.
Status Pool::check(const Record& record) const {
  if (const auto* create = std::get_if<LunCreateRecord>(&record)) {
    if (!filesystem::valid_lun_name(create->name)) {
      return fail(ErrorCode::invalid, "a LUN name has 1 to 63 characters a-z A-Z 0-9 . _ -");
    }
    if (!filesystem::valid_lun_serial(create->serial) || create->size == 0 ||
        create->size > filesystem::max_lun_size || create->size % block_size != 0) {
      return fail(ErrorCode::invalid, "LUN " + create->name + " has impossible properties");
    }
    for (const auto* luns : {&luns_, &coming_luns_}) {
      for (const auto& [number, lun] : *luns) {
        if (number == create->lun || lun.info.name == create->name) {
          return fail(ErrorCode::already_exists, "there is a LUN " + lun.info.name + " already");
        }
      }
    }
    if (!volumes_.contains(first_volume)) {
      return fail(ErrorCode::not_found, "the volume for LUNs is missing");
    }
    return {};
  }
  const Lun* lun = lun_of(number_of(record));
  if (lun == nullptr) return no_such_lun(number_of(record));
  if (const auto* write = std::get_if<WriteRecord>(&record)) {
    return check_range(lun->info, write->offset, total_size(write->data));
  }
  if (const auto* zero = std::get_if<ZeroRecord>(&record)) {
    return check_range(lun->info, zero->offset, zero->length);
  }
  return {};
}

std::uint64_t Pool::dirty_bytes() const {
  return (dirty_blocks_ + flushing_blocks_) * block_size + changed_.size() * file_overhead;
}

bool Pool::needs_consistency_point() const {
  return dirty_blocks_ * block_size + changed_.size() * file_overhead >= options_.dirty_limit / 2;
}

Status Pool::admit(const LogRecord& log_record) const {
  if (state_ != StorageState::active || deactivated_) {
    return fail(ErrorCode::refused, "the pool is not active");
  }
  auto record = decode(log_record);
  if (!record) return std::unexpected(record.error());
  if (auto status = check(*record); !status) return status;
  const auto* create = std::get_if<LunCreateRecord>(&*record);
  if (held_.contains(create ? first_volume : lun_of(number_of(*record))->file->key.volume)) {
    return fail(ErrorCode::busy, "the volume is being replaced");
  }
  if (create) return create->reserve ? admit_reservation(*create) : Status();
  const Lun& lun = *lun_of(number_of(*record));
  if (!lun.info.offline.empty() && !std::holds_alternative<LunDeleteRecord>(*record)) {
    return fail(ErrorCode::refused, "LUN " + lun.info.name + " is offline: " + lun.info.offline);
  }
  if (const auto* write = std::get_if<WriteRecord>(&*record)) {
    return room_for_lun(lun, total_size(write->data) / block_size + 2);
  }
  // Gives back more than it takes.
  if (std::holds_alternative<ZeroRecord>(*record)) return room_in_memory(2);
  return {};
}

void Pool::change(const Record& record) {
  std::visit(
      Overloaded{
          [this](const WriteRecord& r) { write(lun_of(r.lun)->file->key, r.offset, r.data); },
          [this](const ZeroRecord& r) { zero(lun_of(r.lun)->file->key, r.offset, r.length); },
          [this](const LunCreateRecord& r) {
            const FileKey key{first_volume, allocate_inode(first_volume)};
            Lun& lun = luns_[r.lun];
            lun.info = {r.lun, r.name, r.size, r.serial, r.naa, {}, {}, r.reserve};
            set_inode(key, inode_of(lun.info, first_volume));
            lun.file = files_.at(key);
            note_created(r.naa);
            keep_lun(lun, false);
            if (r.reserve) keep_anew(first_volume);
          },
          [this](const LunDeleteRecord& r) {
            const FileKey key = lun_of(r.lun)->file->key;
            set_inode(key, Inode{});
            luns_.erase(r.lun);
            if (kept_.contains(key.volume)) keep_anew(key.volume);
            zero(catalogue(), r.lun.value() * lun_slot_blocks * block_size,
                 lun_slot_blocks * block_size);
          },
          [this](const ReservationsRecord& r) {
            Lun& lun = *lun_of(r.lun);
            lun.info.reservations = r.state;
            keep_lun(lun, true);
          },
      },
      record);
}

// A replayed LUN may be younger than a clone that did not come to be: its count was given all the
// same.
void Pool::note_created(std::uint64_t naa) {
  LunCreateRecord next;
  give_identity(next);
  ++luns_created_;
  if (naa >> 24 == next.naa >> 24) luns_created_ = std::max(luns_created_, naa & max_luns_created);
}

// The catalogue's file; made when the first LUN is.
FileKey Pool::catalogue() {
  const FileKey key{pool_volume, lun_catalogue};
  if (!files_.contains(key)) {
    Inode inode;
    inode.type = filesystem::FileType::system;
    inode.size = (std::uint64_t{filesystem::max_lun_number} + 1) * lun_slot_blocks * block_size;
    set_inode(key, inode);
  }
  return key;
}

void Pool::keep_lun(const Lun& lun, bool reservations) {
  const FileKey key = catalogue();
  const std::uint64_t at = lun.info.number.value() * lun_slot_blocks * block_size;
  write(key, at, {copy_to_slice(encode_lun(lun.info, lun.file->key))});
  if (!reservations) return;
  zero(key, at + block_size, (lun_slot_blocks - 1) * block_size);
  const auto& state = lun.info.reservations;
  if (state.empty()) return;
  OwnedBuffer blocks = make_buffer((state.size() + block_size - 1) / block_size * block_size);
  std::ranges::copy(state, blocks.bytes.begin());
  write(key, at + block_size, {blocks.slice()});
}

Status Pool::apply(const LogPosition& position, const LogRecord& log_record) {
  if (state_ != StorageState::active) return fail(ErrorCode::refused, "the pool is not active");
  if (position.sequence <= applied_.sequence) return {};  // I8, I9
  auto record = decode(log_record);
  Status status;
  if (!record) {
    status = std::unexpected(record.error());
  } else {
    status = check(*record);
  }
  if (!status) {
    const Error error{
        status.error().code,
        "log record " + std::to_string(position.sequence.value()) + ": " + status.error().message};
    status = poison(log_record, error);
    if (state_ == StorageState::active) applied_ = position;
    return status;
  }
  change(*record);
  applied_ = position;
  return {};
}

// Never skips a bad record silently, and never dies of it: the partner would replay it and die,
// too.
Status Pool::poison(const LogRecord& record, const Error& error) {
  const std::uint64_t number = record.words[0];
  Lun* lun = nullptr;
  if (record.kind >= nvlog::RecordKind::write && record.kind <= nvlog::RecordKind::reservations &&
      number <= filesystem::max_lun_number) {
    lun = lun_of(LunNumber(static_cast<std::uint16_t>(number)));
  }
  if (lun != nullptr) {
    if (lun->info.offline.empty()) {
      lun->info.offline = error.message.substr(0, max_offline_reason);
      keep_lun(*lun, false);
    }
    set_health(lasting_health());
  } else {
    state_ = StorageState::offline;
    if (flush_) flush_->stop();
    flush_.reset();
    fail_later(deactivated_, {ErrorCode::refused, error.message});
    set_health("offline: " + error.message);
  }
  return std::unexpected(error);
}

void Pool::skip(const LogPosition& position) {
  if (state_ == StorageState::active && position.sequence > applied_.sequence) applied_ = position;
}

// ---- reads ----

Status Pool::check_read(LunNumber number, std::uint64_t offset, std::uint64_t length) const {
  switch (state_) {
    case StorageState::closed:
    case StorageState::offline:
      return fail(ErrorCode::refused, "the pool is not open: " + health_);
    case StorageState::fenced:
      return fail(ErrorCode::reservation_conflict, health_);
    case StorageState::read_only:
    case StorageState::active:
      break;
  }
  const Lun* lun = lun_of(number);
  if (lun == nullptr) return no_such_lun(number);
  if (!lun->info.offline.empty()) {
    return fail(ErrorCode::refused, "LUN " + lun->info.name + " is offline: " + lun->info.offline);
  }
  if (offset % sector_size != 0 || length % sector_size != 0 ||
      length > filesystem::max_read_length || offset > lun->info.size ||
      length > lun->info.size - offset) {
    return fail(ErrorCode::invalid, "a read that LUN " + lun->info.name + " does not have");
  }
  return {};
}

void Pool::read(LunNumber number, std::uint64_t offset, std::uint64_t length,
                ports::Done<std::vector<Slice>> done) {
  if (auto status = check_read(number, offset, length); !status) {
    return fail_later(done, status.error());
  }
  read_file(lun_of(number)->file->key, offset, length, std::move(done));
}

}  // namespace duet::pool
