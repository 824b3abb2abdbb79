// The test-only control of a shelf: a line in, a line out. The language is in
// docs/protocols/shelf_control.md.
#pragma once

#include <string>
#include <string_view>

#include "shelf/cut_network.h"
#include "shelf/shelf.h"

namespace duet::shelf {

class Control {
 public:
  Control(Shelf& shelf, CutNetwork& network) : shelf_(shelf), network_(network) {}

  // "ok", "ok ..." or "error: ...", without the line's end.
  std::string execute(std::string_view line);

 private:
  std::string power_off(const std::string& which);
  std::string power_on(const std::string& which);
  std::string status();
  template <class Do>
  std::string for_disks(const std::string& which, Do act);

  Shelf& shelf_;
  CutNetwork& network_;
};

}  // namespace duet::shelf
