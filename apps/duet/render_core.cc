#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/json.hpp>
#include <chrono>

#include "render.h"

namespace duet::cli {
namespace {

namespace json = boost::json;

// What stands beside a core file comes from a volume to which file clients may write: anything may
// stand there.
json::object details_of(const admin::CoreItem& core) {
  boost::system::error_code error;
  auto value = json::parse(core.details, error);
  return !error && value.is_object() ? std::move(value.as_object()) : json::object();
}

// A text of the JSON that is safe on a terminal; empty if it is not there.
std::string text_of(const json::object& details, const char* key) {
  const auto* value = details.if_contains(key);
  if (value == nullptr) return {};
  std::string text = value->is_string() ? std::string(value->as_string()) : json::serialize(*value);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

std::string when(const json::object& details) {
  const auto* time = details.if_contains("time");
  const std::int64_t latest = 253'402'300'799;  // the year 9999
  if (time == nullptr || !time->is_int64() || time->as_int64() <= 0 || time->as_int64() > latest) {
    return "-";
  }
  return fmt::format("{:%F %T}", std::chrono::sys_seconds(std::chrono::seconds(time->as_int64())));
}

std::string state_of(const admin::CoreItem& core, const json::object& details) {
  if (core.collecting) {
    return fmt::format("collecting {} %", core.size == 0 ? 0 : 100 * core.used / core.size);
  }
  const auto* complete = details.if_contains("complete");
  if (complete == nullptr || !complete->is_bool()) return "?";
  return complete->as_bool() ? "complete" : "truncated";
}

json::object item_json(const admin::CoreItem& core) {
  json::object item{
      {"identity", core.identity.value()}, {"id", core.id}, {"collecting", core.collecting}};
  if (core.collecting) {
    item["dump_bytes"] = core.size;
    item["dump_bytes_done"] = core.used;
    return item;
  }
  item["bytes"] = core.size;
  item["bytes_used"] = core.used;
  item["created_ns"] = core.created;
  item["details"] = details_of(core);
  return item;
}

}  // namespace

std::string cores_text(const admin::CoreReply& reply) {
  if (reply.cores.empty()) return "no core files\n";
  std::string out = fmt::format("{:<16} {:<14} {:<19} {:>10} {:>10} {}\n", "id", "state",
                                "panicked", "size", "used", "reason");
  for (const auto& core : reply.cores) {
    const auto details = details_of(core);
    const std::uint64_t size = core.collecting ? 0 : core.size;
    const std::uint64_t used = core.collecting ? 0 : core.used;
    out +=
        fmt::format("{:<16} {:<14} {:<19} {:>10} {:>10} {}\n", core.id, state_of(core, details),
                    when(details), human_size(size), human_size(used), text_of(details, "reason"));
  }
  return out;
}

std::string cores_json(const admin::CoreReply& reply) {
  json::array cores;
  for (const auto& core : reply.cores) cores.push_back(item_json(core));
  return json::serialize(json::object{{"cores", std::move(cores)}}) + "\n";
}

std::string core_text(const admin::CoreItem& core) {
  const auto details = details_of(core);
  std::string out = fmt::format("core {} of node {}: {}\n", core.id, core.identity.value(),
                                state_of(core, details));
  const auto line = [&out](const char* what, const std::string& text) {
    if (!text.empty()) out += fmt::format("  {:<12} {}\n", what, text);
  };
  line("size", fmt::format("{}, {} on the disks", human_size(core.size), human_size(core.used)));
  line("panicked", when(details));
  line("reason", text_of(details, "reason"));
  line("signal", text_of(details, "signal"));
  line("thread", text_of(details, "thread") + " " + text_of(details, "thread_name"));
  line("version", text_of(details, "version"));
  line("build id", text_of(details, "build_id"));
  line("epoch", text_of(details, "epoch"));
  line("log", fmt::format("written {}, freed {}", text_of(details, "log_written"),
                          text_of(details, "log_freed")));
  line("dump", text_of(details, "end"));
  const auto* stack = details.if_contains("stack");
  if (stack == nullptr || !stack->is_array()) return out;
  out += "  stack\n";
  std::size_t number = 0;
  for (const auto& frame : stack->as_array()) {
    const json::object one{{"frame", frame}};
    out += fmt::format("    #{:<3} {}\n", number++, text_of(one, "frame"));
  }
  return out;
}

std::string core_json(const admin::CoreItem& core) {
  return json::serialize(item_json(core)) + "\n";
}

}  // namespace duet::cli
