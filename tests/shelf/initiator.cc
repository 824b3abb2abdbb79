#include "initiator.h"

#include <poll.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace duet::testing {

namespace {

void put_be(std::uint8_t* to, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to[i] = static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
}

std::uint64_t get_be(const std::uint8_t* from, int bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8 | from[i];
  return value;
}

void on_answer(iscsi_context*, int status, void* command, void* private_data) {
  auto& pending = *static_cast<Initiator::Pending*>(private_data);
  auto* task = static_cast<scsi_task*>(command);
  pending.done = true;
  if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR || !task) return;
  pending.answer.status = status;
  if (status == SCSI_STATUS_CHECK_CONDITION)
    pending.answer.sense = static_cast<std::uint32_t>(task->sense.key) << 16 |
                           static_cast<std::uint32_t>(task->sense.ascq);
  // With CHECK CONDITION libiscsi has the sense data there.
  if (status == SCSI_STATUS_GOOD && task->datain.size > 0)
    pending.answer.data.assign(task->datain.data, task->datain.data + task->datain.size);
}

}  // namespace

Initiator::Initiator(const std::string& portal, const std::string& iqn, std::string name,
                     unsigned isid)
    : iscsi_(iscsi_create_context(name.c_str())) {
  if (!iscsi_) throw std::runtime_error("no iSCSI context");
  iscsi_set_isid_random(iscsi_, isid, 1);
  iscsi_set_targetname(iscsi_, iqn.c_str());
  iscsi_set_session_type(iscsi_, ISCSI_SESSION_NORMAL);
  iscsi_set_header_digest(iscsi_, ISCSI_HEADER_DIGEST_NONE);
  iscsi_set_noautoreconnect(iscsi_, 1);
  iscsi_set_timeout(iscsi_, static_cast<int>(limit.count()));
  // Not iscsi_full_connect: it would take the unit attentions away.
  if (iscsi_connect_sync(iscsi_, portal.c_str()) != 0 || iscsi_login_sync(iscsi_) != 0) {
    const std::string why = iscsi_get_error(iscsi_);
    iscsi_destroy_context(iscsi_);
    throw std::runtime_error(portal + ": " + why);
  }
}

Initiator::~Initiator() {
  iscsi_destroy_context(iscsi_);  // calls back what is still pending
  for (auto* pending : pending_) {
    scsi_free_scsi_task(pending->task);
    delete pending;
  }
}

Initiator::Pending* Initiator::start(std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out) {
  auto* pending = new Pending;
  pending_.push_back(pending);
  pending->out = std::move(out);
  constexpr int most_data_in = 65536;
  const bool writes = !pending->out.empty();
  static constexpr int lengths[] = {6, 10, 10, 0, 16, 12, 0, 0};
  const int cdb_size = lengths[cdb.at(0) >> 5];
  cdb.resize(16);
  pending->task = scsi_create_task(cdb_size, cdb.data(), writes ? SCSI_XFER_WRITE : SCSI_XFER_READ,
                                   writes ? static_cast<int>(pending->out.size()) : most_data_in);
  if (!writes && cdb[0] == 0x00) {  // TEST UNIT READY has no data
    pending->task->xfer_dir = SCSI_XFER_NONE;
    pending->task->expxferlen = 0;
  }
  iscsi_data data{pending->out.size(), pending->out.data()};
  if (iscsi_scsi_command_async(iscsi_, 0, pending->task, on_answer, writes ? &data : nullptr,
                               pending) != 0)
    pending->done = true;
  // It leaves now, not when somebody waits for it.
  if (!pending->done) iscsi_service(iscsi_, POLLOUT);
  return pending;
}

void Initiator::serve(Pending& pending, std::chrono::milliseconds wait) {
  const auto end = std::chrono::steady_clock::now() + wait;
  while (!pending.done) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return;
    pollfd fd{iscsi_get_fd(iscsi_), static_cast<short>(iscsi_which_events(iscsi_)), 0};
    if (fd.fd < 0) return;
    ::poll(&fd, 1, static_cast<int>(std::min<long>(left.count(), 1000)));
    if (iscsi_service(iscsi_, fd.revents) < 0) return;
  }
}

Answer Initiator::finish(Pending* pending, std::chrono::milliseconds wait) {
  serve(*pending, wait);
  return pending->answer;
}

Answer Initiator::run(std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out,
                      std::chrono::milliseconds wait) {
  return finish(start(std::move(cdb), std::move(out)), wait);
}

void Initiator::clear_attentions() {
  while (test_unit_ready().status == SCSI_STATUS_CHECK_CONDITION) {
  }
}

Answer Initiator::write(std::uint8_t value, std::uint8_t flags) {
  return run({0x2a, flags, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::uint8_t>(512, value));
}

int Initiator::read() {
  const auto answer = run({0x28, 0, 0, 0, 0, 0, 0, 0, 1});
  return answer.good() && answer.data.size() == 512 ? answer.data[0] : -1;
}

Answer Initiator::reserve_out(std::uint8_t action, std::uint8_t type, std::uint64_t key,
                              std::uint64_t action_key, std::uint8_t flags) {
  std::vector<std::uint8_t> list(24);
  put_be(&list[0], key, 8);
  put_be(&list[8], action_key, 8);
  list[20] = flags;
  return run({0x5f, action, type, 0, 0, 0, 0, 0, 24}, list);
}

Answer Initiator::reserve_in(std::uint8_t action) {
  return run({0x5e, action, 0, 0, 0, 0, 0, 0x10, 0});
}

std::vector<std::uint64_t> Initiator::keys() {
  const auto answer = reserve_in(0);
  std::vector<std::uint64_t> keys;
  if (!answer.good()) throw std::runtime_error("READ KEYS failed");
  for (std::size_t at = 8; at + 8 <= answer.data.size(); at += 8)
    keys.push_back(get_be(&answer.data[at], 8));
  return keys;
}

}  // namespace duet::testing
