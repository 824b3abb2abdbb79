// For tests: an identity with a third disk, a spare that may bear a dump.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "coredump/dump_writer.h"
#include "coredump/header.h"
#include "coredump/information.h"
#include "disk/areas.h"
#include "node/core_files.h"
#include "node/file_bench.h"

namespace duet::node {

class CoreBench : public FileBench {
 public:
  using Buffer = std::vector<std::byte>;
  static constexpr std::uint8_t spare = 2;  // index of the disk
  static constexpr BootNonce nonce{0xabc};
  static inline const std::string id = "0000000000000abc";

  CoreBench() {
    add_spare();
    start_engine(red);
  }

  void add_spare() {
    shelf.add_blank();
    disk::Label label = shelf.labels[0];
    label.id.bytes[0] = static_cast<std::uint8_t>(0x50 + shelf.labels.size());
    label.role = disk::Role::spare;
    label.mailbox = false;
    label.position = label.disks_in_pool = 0;
    label.redundancy = 0;
    shelf.labels.push_back(label);
    shelf.write_label(shelf.labels.size() - 1);
  }

  // Bytes that do not compress, always the same.
  static Buffer noise(std::size_t size, std::uint64_t seed = 1) {
    Buffer out(size);
    for (auto& b : out) {
      seed = seed * 6364136223846793005U + 1442695040888963407U;
      b = static_cast<std::byte>(seed >> 56);
    }
    return out;
  }
  // Data, a hole of more than a chunk, data that ends within a block.
  static Buffer sparse_core() {
    Buffer core = noise(300'000, 3);
    core.resize(2'500'000);
    const Buffer end = noise(5'001, 4);
    core.insert(core.end(), end.begin(), end.end());
    return core;
  }

  // As the HA core orders it.
  void serve_and_collect() {
    serve_files();
    service->collect_dump(spare);
  }
  // So that collecting takes a while.
  void slow_spare() {
    shelf.media[spare]->latency = [](simulation::DiskOperation operation, std::uint64_t offset,
                                     std::uint64_t) -> std::optional<Duration> {
      const bool chunk = operation == simulation::DiskOperation::read && offset > 0;
      return chunk ? std::optional<Duration>(milliseconds(40)) : std::nullopt;
    };
  }

  struct Dump {
    Buffer core = sparse_core();
    BootNonce boot = nonce;
    coredump::Attribute attribute = coredump::Attribute::completed;
    coredump::AbortReason reason = coredump::AbortReason::none;
    bool end = true;
    std::size_t disk = spare;
    NodeId node = red;
  };
  static coredump::Information information(const Dump& dump) {
    coredump::Information i;
    i.node = dump.node;
    i.signal = 11;
    i.thread = 42;
    i.epoch = Epoch(1);
    i.boot_nonce = dump.boot;
    i.log_written = LogSequence(7);
    i.reason = "signal 11";
    i.stack = {"duet-engine+0x1234"};
    return i;
  }
  coredump::Header header_of(const Dump& dump) const {
    coredump::Header h;
    h.sequence = 5;
    h.cluster = TestShelf::cluster;
    h.disk = shelf.labels[dump.disk].id;
    h.attribute = dump.attribute;
    h.node = dump.node;
    h.abort_reason = dump.reason;
    h.limit = seconds(60);
    h.epoch = Epoch(1);
    h.boot_nonce = dump.boot;
    h.room = TestShelf::disk_size - disk::data_offset;
    return h;
  }
  void put_header(std::size_t disk, const coredump::Header& header) {
    auto block = coredump::encode_header(header);
    ASSERT_TRUE(block) << block.error().message;
    for (int copy : {0, 1}) {
      shelf.media[disk]->poke(coredump::header_copy(copy).offset, *block);
    }
  }
  // Returns the offsets of the chunks on the disk.
  std::vector<std::uint64_t> put_dump(const Dump& dump) {
    auto h = header_of(dump);
    auto writer = *coredump::DumpWriter::make(
        information(dump), h.room, dump.core.size(), coredump::read_from(dump.core),
        {.chunk = coredump::max_plain_size, .size = 1, .chunks = 1});
    std::vector<std::uint64_t> offsets;
    for (bool last = false; !last;) {
      const auto piece = *writer->next(0);
      last = piece.last;
      h.core_done = piece.core_done;
      h.core_total = piece.core_total;
      if (last && !dump.end) break;
      offsets.push_back(disk::data_offset + h.stored);
      shelf.media[dump.disk]->poke(offsets.back(), piece.blocks.bytes);
      h.stored += piece.blocks.bytes.size();
    }
    put_header(dump.disk, h);
    return offsets;
  }

  std::optional<coredump::Header> header(std::size_t disk = spare) const {
    const auto copy = [&](int n) {
      return shelf.media[disk]->peek(coredump::header_copy(n).offset, disk::area_block_size);
    };
    auto chosen = coredump::choose_header(copy(0), copy(1));
    if (!chosen) return {};
    return *chosen;
  }
  coredump::Attribute attribute(std::size_t disk = spare) const {
    auto h = header(disk);
    return h ? h->attribute : coredump::Attribute{};
  }

  // ---- orders ----
  admin::CoreReply core(admin::CoreVerb verb, const std::string& which = {},
                        std::uint64_t offset = 0) {
    admin::CoreOrder o;
    o.verb = verb;
    o.identity = red;
    o.id = which;
    o.offset = offset;
    std::optional<admin::CoreReply> answer;
    service->core_order(o, [&](admin::CoreReply r) {
      EXPECT_FALSE(answer) << "answered twice";
      answer = std::move(r);
    });
    EXPECT_TRUE(scheduler.run_until([&] { return answer.has_value(); }));
    return answer.value_or(admin::CoreReply{});
  }
  std::vector<std::string> core_ids() {
    std::vector<std::string> ids;
    for (const auto& c : core(admin::CoreVerb::list).cores) ids.push_back(c.id);
    return ids;
  }
  // As `duet core save` does it; the text that refuses, if it is refused.
  Result<Buffer> saved(const std::string& which) {
    Buffer all;
    for (;;) {
      auto part = core(admin::CoreVerb::read, which, all.size());
      if (!part.ok) return fail(ErrorCode::refused, part.why);
      EXPECT_LE(part.data.size(), admin::CoreOrder::max_piece);
      all.insert(all.end(), part.data.begin(), part.data.end());
      if (part.end) return all;
    }
  }
  std::string details(const std::string& which = id) {
    auto shown = core(admin::CoreVerb::show, which);
    return shown.cores.empty() ? shown.why : shown.cores[0].details;
  }

  // ---- what was said ----
  // The last text of a phase; empty: none.
  std::string said(std::string_view phase) const {
    for (auto it = told.rbegin(); it != told.rend(); ++it) {
      const auto* fact = std::get_if<LogFact>(&*it);
      if (fact != nullptr && fact->phase == phase) return fact->text;
    }
    return {};
  }
  bool wait_until_said(std::string_view phase) {
    return scheduler.run_until([&] { return !said(phase).empty(); });
  }
  std::size_t overs() const {
    return static_cast<std::size_t>(std::ranges::count_if(told, [](const FromEngine& fact) {
      const auto* c = std::get_if<DumpCollectionFact>(&fact);
      return c != nullptr && c->over;
    }));
  }
};

}  // namespace duet::node
