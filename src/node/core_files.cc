#include "node/core_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/coverage.h"

namespace duet::node {
namespace {

enum : std::uint8_t { info_severity, notice_severity, warning_severity };

constexpr const char* goes = "the identity goes to another node: ask there";

admin::CoreReply refusal(std::string why) {
  admin::CoreReply reply;
  reply.why = std::move(why);
  return reply;
}
admin::CoreReply refusal(const Error& error) {
  if (error.code == ErrorCode::cancelled) return refusal(goes);
  if (error.code == ErrorCode::busy) return refusal("busy: try again");
  return refusal(error.message);
}

}  // namespace

CoreFiles::CoreFiles(Ports ports, CoreCollector::Rules rules)
    : ports_(std::move(ports)), rules_(rules), folder_(ports_.store) {}

CoreFiles::~CoreFiles() {
  *alive_ = false;
  ports_.scheduler.cancel(report_timer_);
}

// ---- collecting ----

void CoreFiles::collect(std::uint8_t index, ports::Disk& disk) {
  if (std::ranges::find(waiting_, index, &Waiting::index) != waiting_.end()) return;
  if (given_up_.contains(index)) return tell_over({index, &disk, {}});
  waiting_.push_back({index, &disk, {}});
  if (!collector_) next();
}

std::unique_ptr<CoreCollector> CoreFiles::make_collector(ports::Disk& disk) {
  CoreCollector::Ports p{
      ports_.scheduler,
      folder_,
      disk,
      ports_.clients_wait,
      ports_.in_use,
      [this](const std::string& text) { ports_.log(notice_severity, "coredump.removed", text); }};
  return std::make_unique<CoreCollector>(std::move(p), rules_);
}

void CoreFiles::next() {
  if (waiting_.empty()) return;
  collector_ = make_collector(*waiting_.front().disk);
  collector_->start([this](const CoreCollector::Outcome& outcome) { collected(outcome); });
  report();
}

void CoreFiles::report() {
  if (!collector_) return;
  const auto progress = collector_->progress();
  ports_.tell({waiting_.front().index, progress.done, progress.total, false});
  report_timer_ =
      ports_.scheduler.at(ports_.scheduler.now() + report_interval, [this] { report(); });
}

void CoreFiles::tell_over(const Waiting& of) const {
  ports_.tell({of.index, 0, 0, true});
}

void CoreFiles::log_end(const ports::Disk& disk, const CoreCollector::Outcome& outcome) const {
  using End = CoreCollector::End;
  if (outcome.id.empty()) return;  // whether there is a dump is not known
  const std::string what = fmt::format("dump {} on {}", outcome.id, disk.name());
  switch (outcome.end) {
    case End::no_dump:
      break;
    case End::saved:
      ports_.log(notice_severity, "coredump.saved",
                 fmt::format("{}: {}; `duet core show {}`", what, outcome.text, outcome.id));
      break;
    case End::dropped:
      ports_.log(warning_severity, "coredump.dropped",
                 fmt::format("{}: no core file: {}", what, outcome.text));
      break;
    case End::interrupted:
      ports_.log(warning_severity, "coredump.interrupted",
                 fmt::format("{}: left on the disk: {}", what, outcome.text));
      break;
  }
}

void CoreFiles::answer(ports::Done<void> needed_by, const CoreCollector::Outcome& outcome) {
  if (!needed_by) return;
  Result<void> result;
  if (outcome.end == CoreCollector::End::interrupted) {
    MARK(needed_disk_keeps_its_header);
    result = fail(ErrorCode::io_error, outcome.text);
  }
  ports_.scheduler.post(
      [then = std::move(needed_by), result = std::move(result)]() mutable { then(result); });
}

// It calls us at its end.
void CoreFiles::retire(std::unique_ptr<CoreCollector> ended) {
  ports_.scheduler.post([gone = std::move(ended)] {});
}

void CoreFiles::collected(const CoreCollector::Outcome& outcome) {
  ports_.scheduler.cancel(report_timer_);
  Waiting was = std::move(waiting_.front());
  waiting_.pop_front();
  log_end(*was.disk, outcome);
  retire(std::move(collector_));
  tell_over(was);
  answer(std::move(was.needed_by), outcome);
  next();
}

void CoreFiles::cancel(std::uint8_t index) {
  auto there = std::ranges::find(waiting_, index, &Waiting::index);
  if (there == waiting_.end()) return;
  if (there == waiting_.begin()) return collector_->leave();
  tell_over(*there);
  waiting_.erase(there);
}

void CoreFiles::disk_needed(std::uint8_t index, ports::Disk& disk, ports::Done<void> then) {
  const auto instead_of = [this, &then](ports::Done<void>& before) {
    auto first = std::exchange(before, std::move(then));
    if (!first) return;
    ports_.scheduler.post([first = std::move(first)]() mutable {
      first(fail(ErrorCode::busy, "asked for once more"));
    });
  };
  if (auto asked = given_up_.find(index); asked != given_up_.end()) {
    return instead_of(asked->second.needed_by);
  }
  auto there = std::ranges::find(waiting_, index, &Waiting::index);
  if (there != waiting_.end() && there == waiting_.begin()) {
    instead_of(there->needed_by);
    return collector_->disk_needed();
  }
  if (there != waiting_.end()) {
    MARK(waiting_dump_given_up);
    tell_over(*there);
    waiting_.erase(there);
  }
  auto& given_up = given_up_[index];
  given_up = {make_collector(disk), std::move(then)};
  given_up.collector->start([this, index, &disk](const CoreCollector::Outcome& outcome) {
    log_end(disk, outcome);
    auto ended = std::move(given_up_.extract(index).mapped());
    retire(std::move(ended.collector));
    answer(std::move(ended.needed_by), outcome);
  });
  given_up.collector->disk_needed();
}

// ---- orders ----

void CoreFiles::close() {
  for (auto& [number, done] : std::exchange(orders_, {})) done(refusal(goes));
}

// `done` is called once: with the answer, or when we are closed.
CoreFiles::Done CoreFiles::counted(Done done) {
  const auto number = ++last_order_;
  orders_.emplace(number, std::move(done));
  return [this, alive = alive_, number](admin::CoreReply reply) {
    if (!*alive) return;
    auto node = orders_.extract(number);
    if (!node.empty()) node.mapped()(std::move(reply));
  };
}

void CoreFiles::carry_out(const admin::CoreOrder& order, Done done) {
  if (orders_.size() >= max_orders) return done(refusal("too many orders wait: try again"));
  done = counted(std::move(done));
  switch (order.verb) {
    case admin::CoreVerb::list:
      return with_cores(std::move(done), [this](Cores cores, Done then) {
        auto reply = std::make_shared<admin::CoreReply>();
        reply->ok = true;
        if (auto now = collecting_item()) reply->cores.push_back(std::move(*now));
        std::ranges::sort(cores, CoreFolder::older);
        list(std::make_shared<Cores>(std::move(cores)), 0, reply, std::move(then));
      });
    case admin::CoreVerb::show:
      return with_core(order.id, std::move(done),
                       [this](const auto& core, Done then) { show(core, std::move(then)); });
    case admin::CoreVerb::read:
      return with_core(order.id, std::move(done),
                       [this, offset = order.offset](const auto& core, Done then) {
                         read(core, offset, std::move(then));
                       });
    case admin::CoreVerb::remove:
      return with_core(order.id, std::move(done),
                       [this](const auto& core, Done then) { remove(core, std::move(then)); });
  }
  done(refusal("no such order"));
}

// The finished ones.
void CoreFiles::with_cores(Done done, std::function<void(Cores, Done)> use) {
  folder_.list([done = std::move(done), use = std::move(use)](Result<CoreFolder::Found> found) {
    if (!found) return done(refusal(found.error()));
    std::erase_if(found->cores, [](const auto& core) { return !core.finished; });
    use(std::move(found->cores), done);
  });
}

void CoreFiles::with_core(const std::string& id, Done done,
                          std::function<void(const CoreFolder::Core&, Done)> use) {
  with_cores(std::move(done), [this, id, use = std::move(use)](const Cores& cores, Done then) {
    const CoreFolder::Core* found = nullptr;
    for (const auto& core : cores) {
      if (id.empty() || !core.id.starts_with(id)) continue;
      if (found != nullptr) return then(refusal("several cores begin with " + id));
      found = &core;
    }
    if (found != nullptr) return use(*found, std::move(then));
    const auto now = collecting_item();
    if (now && !id.empty() && now->id.starts_with(id)) {
      MARK(core_order_while_collecting);
      return then(refusal(fmt::format("core {} is being made of the dump: {} of {} bytes so far",
                                      now->id, now->used, now->size)));
    }
    then(refusal("no core '" + id + "': see `duet core list`"));
  });
}

std::optional<admin::CoreItem> CoreFiles::collecting_item() const {
  if (!collector_) return {};
  const auto progress = collector_->progress();
  if (progress.id.empty()) return {};
  return admin::CoreItem{rules_.node, progress.id, true, progress.total, progress.done, 0, {}};
}

admin::CoreItem CoreFiles::item(const CoreFolder::Core& core, std::string details) const {
  return {rules_.node, core.id, false, core.size, core.used, core.created, std::move(details)};
}

// One JSON at a time, as long as the reply has room.
void CoreFiles::list(std::shared_ptr<Cores> cores, std::size_t at,
                     std::shared_ptr<admin::CoreReply> reply, Done done) {
  if (at == cores->size()) return done(std::move(*reply));
  folder_.read_details((*cores)[at].id, [this, cores, at, reply,
                                         done = std::move(done)](Result<std::string> details) {
    if (!details && details.error().code == ErrorCode::cancelled) {
      return done(refusal(details.error()));
    }
    std::size_t told = 0;
    for (const auto& core : reply->cores) told += core.details.size();
    std::string text = details ? std::move(*details) : std::string();
    if (told + text.size() > admin::CoreReply::max_details) text.clear();
    reply->cores.push_back(item((*cores)[at], std::move(text)));
    list(cores, at + 1, reply, done);
  });
}

void CoreFiles::show(const CoreFolder::Core& core, Done done) {
  folder_.read_details(core.id, [this, core, done = std::move(done)](Result<std::string> details) {
    if (!details) return done(refusal(details.error()));
    admin::CoreReply reply;
    reply.ok = true;
    reply.cores.push_back(item(core, std::move(*details)));
    done(std::move(reply));
  });
}

void CoreFiles::read(const CoreFolder::Core& core, std::uint64_t offset, Done done) {
  folder_.read(
      core.file, offset, admin::CoreOrder::max_piece,
      [size = core.size, offset, done = std::move(done)](Result<std::vector<std::byte>> bytes) {
        if (!bytes) return done(refusal(bytes.error()));
        admin::CoreReply reply;
        reply.ok = true;
        reply.data = std::move(*bytes);
        reply.end = reply.data.empty() || offset + reply.data.size() >= size;
        done(std::move(reply));
      });
}

void CoreFiles::remove(const CoreFolder::Core& core, Done done) {
  folder_.remove(core.id, [this, id = core.id, done = std::move(done)](const Result<void>& r) {
    if (!r) return done(refusal(r.error()));
    ports_.log(notice_severity, "coredump.removed", "core " + id + " is removed, as ordered");
    admin::CoreReply reply;
    reply.ok = true;
    done(std::move(reply));
  });
}

}  // namespace duet::node
