#include "shelf/control.h"

#include <charconv>
#include <sstream>

namespace duet::shelf {

namespace {

std::optional<std::uint32_t> number(const std::string& text) {
  std::uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

constexpr std::uint32_t max_slow_ms = 600'000;

}  // namespace

template <class Do>
std::string Control::for_disks(const std::string& which, Do act) {
  if (which == "all" || which.empty()) {
    for (auto& disk : shelf_.disks())
      if (Status status = act(*disk); !status) return "error: " + status.error().message;
    return "ok";
  }
  const auto index = number(which);
  if (!index || *index >= shelf_.disks().size()) return "error: no disk " + which;
  Status status = act(*shelf_.disks()[*index]);
  return status ? "ok" : "error: " + status.error().message;
}

// The whole shelf: its connections break too.
std::string Control::power_off(const std::string& which) {
  if (which == "all" || which.empty()) network_.power(false);
  return for_disks(which, [](ShelfDisk& disk) {
    disk.power_off();
    return Status{};
  });
}

std::string Control::power_on(const std::string& which) {
  auto answer = for_disks(which, [](ShelfDisk& disk) { return disk.power_on(); });
  if ((which == "all" || which.empty()) && answer == "ok") network_.power(true);
  return answer;
}

std::string Control::status() {
  std::string text = network_.powered() ? "ok power=on" : "ok power=off";
  for (auto& disk : shelf_.disks())
    text += " disk" + std::to_string(disk->lun().value()) + "=" + disk->status();
  for (const auto& name : network_.cut_names()) text += " cut=" + name;
  return text;
}

std::string Control::execute(std::string_view line) {
  std::istringstream in{std::string(line)};
  std::string command, first, second, extra;
  in >> command >> first >> second >> extra;
  if (!extra.empty()) return "error: too many words";
  const auto disks = [&](auto act) {
    return for_disks(first, [&](ShelfDisk& disk) {
      act(disk);
      return Status{};
    });
  };
  if (command == "status") return status();
  if (command == "power-off") return power_off(first);
  if (command == "power-on") return power_on(first);
  if (command == "power-blip") {
    auto answer = power_off(first);
    return answer == "ok" ? power_on(first) : answer;
  }
  if (command == "fail") return disks([](ShelfDisk& disk) { disk.fail_all(); });
  if (command == "hang") return disks([](ShelfDisk& disk) { disk.hang(); });
  if (command == "heal") return disks([](ShelfDisk& disk) { disk.heal(); });
  if (command == "slow") {
    const auto ms = number(second);
    if (!ms || *ms > max_slow_ms) return "error: slow DISK MILLISECONDS";
    return disks([&](ShelfDisk& disk) { disk.slow(milliseconds(*ms)); });
  }
  if (command == "cut-path" && !first.empty()) {
    network_.cut(first);
    return "ok";
  }
  if (command == "restore-path") {
    if (first.empty() || first == "all")
      network_.restore_all();
    else
      network_.restore(first);
    return "ok";
  }
  return "error: unknown command '" + command +
         "': power-off, power-on, power-blip, fail, hang, slow, heal, cut-path, restore-path, "
         "status";
}

}  // namespace duet::shelf
