#include "cores.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/zero.h"
#include "client.h"
#include "platform/descriptor.h"
#include "render.h"

namespace duet::cli {
namespace {

using admin::CoreVerb;

// The daemon's own limit is shorter.
constexpr Duration core_answer_limit = seconds(15);
constexpr std::size_t hole = 4096;  // bytes; what is zero is not written

Result<admin::CoreReply> ask(Client& client, const admin::CoreOrder& order) {
  client.send(order);
  auto reply = client.receive(core_answer_limit);
  if (!reply) return std::unexpected(reply.error());
  auto* expected = std::get_if<admin::CoreReply>(&*reply);
  if (expected == nullptr) return fail(ErrorCode::io_error, "unexpected answer from duetd");
  if (!expected->ok) return fail(ErrorCode::io_error, expected->why);
  return std::move(*expected);
}

Result<admin::CoreOrder> order_of(const Target& target, const Arguments& a, CoreVerb verb) {
  admin::CoreOrder order;
  order.verb = verb;
  if (!a.identity.empty()) {
    auto node = target.find_node(a.identity);
    if (!node) return std::unexpected(node.error());
    order.identity = *node;
  }
  order.id = a.name;
  return order;
}

Result<admin::CoreReply> ask(const Target& target, const Arguments& a, CoreVerb verb) {
  auto order = order_of(target, a, verb);
  if (!order) return std::unexpected(order.error());
  auto client = Client::connect(target);
  if (!client) return std::unexpected(client.error());
  return ask(**client, *order);
}

std::unexpected<Error> failed_to(const std::string& what) {
  return fail(ErrorCode::io_error, what + ": " + std::strerror(errno));
}

// A file that is not there yet, until finish(); removed if that never comes.
class Output {
 public:
  static Result<std::unique_ptr<Output>> create(const std::string& path) {
    const std::string draft = path + ".part";
    const int file = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return failed_to("cannot write " + draft);
    return std::unique_ptr<Output>(new Output(path, draft, file));
  }
  ~Output() {
    if (there_) ::unlink(draft_.c_str());
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  Status append(Bytes bytes) {
    while (!bytes.empty()) {
      const Bytes block = bytes.first(std::min(hole, bytes.size()));
      bytes = bytes.subspan(block.size());
      if (!all_zero(block)) {
        if (auto written = write(block); !written) return written;
      }
      size_ += block.size();
    }
    return {};
  }
  Status finish() {
    if (::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0 || ::fsync(file_.get()) != 0) {
      return failed_to("cannot write " + draft_);
    }
    if (::rename(draft_.c_str(), path_.c_str()) != 0) return failed_to("cannot write " + path_);
    there_ = false;
    return {};
  }
  std::uint64_t size() const { return size_; }

 private:
  Output(std::string path, std::string draft, int file)
      : path_(std::move(path)), draft_(std::move(draft)), file_(file) {}
  Status write(Bytes bytes) {
    std::uint64_t at = size_;
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return failed_to("cannot write " + draft_);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      at += static_cast<std::uint64_t>(n);
    }
    return {};
  }

  std::string path_;
  std::string draft_;
  platform::Descriptor file_;
  bool there_ = true;
  std::uint64_t size_ = 0;
};

Result<std::uint64_t> save(const Target& target, const Arguments& a) {
  auto order = order_of(target, a, CoreVerb::show);
  if (!order) return std::unexpected(order.error());
  auto client = Client::connect(target);
  if (!client) return std::unexpected(client.error());
  auto shown = ask(**client, *order);
  if (!shown) return std::unexpected(shown.error());
  if (shown->cores.empty()) return fail(ErrorCode::io_error, "unexpected answer from duetd");
  order->id = shown->cores[0].id;
  auto out = Output::create(a.save_as);
  if (!out) return std::unexpected(out.error());
  (*client)->catch_interrupts();
  order->verb = CoreVerb::read;
  for (bool end = false; !end;) {
    order->offset = (*out)->size();
    auto part = ask(**client, *order);
    if (!part) return std::unexpected(part.error());
    if (auto status = (*out)->append(part->data); !status) return std::unexpected(status.error());
    end = part->end;
  }
  if ((*out)->size() != shown->cores[0].size) {
    return fail(ErrorCode::io_error, "the core has changed while it was read");
  }
  if (auto status = (*out)->finish(); !status) return std::unexpected(status.error());
  return (*out)->size();
}

}  // namespace

int core_list(const Target& target, const Arguments& a) {
  auto reply = ask(target, a, CoreVerb::list);
  if (!reply) return failure(reply.error());
  const auto text = a.json ? cores_json(*reply) : cores_text(*reply);
  std::fputs(text.c_str(), stdout);
  return done;
}

int core_show(const Target& target, const Arguments& a) {
  auto reply = ask(target, a, CoreVerb::show);
  if (!reply) return failure(reply.error());
  if (reply->cores.empty()) return complain(failed, "unexpected answer from duetd");
  const auto& core = reply->cores[0];
  const auto text = a.json ? core_json(core) : core_text(core);
  std::fputs(text.c_str(), stdout);
  return done;
}

int core_save(const Target& target, const Arguments& a) {
  auto size = save(target, a);
  if (!size) return failure(size.error());
  std::fprintf(stdout, "%s: %s; gdb /usr/sbin/duet-engine %s\n", a.save_as.c_str(),
               human_size(*size).c_str(), a.save_as.c_str());
  return done;
}

int core_delete(const Target& target, const Arguments& a) {
  auto reply = ask(target, a, CoreVerb::remove);
  return reply ? done : failure(reply.error());
}

}  // namespace duet::cli
