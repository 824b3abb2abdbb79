// Runs many seeds in child processes, so that a run that ends the process ends only its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "simulator/run.h"

namespace duet {

struct Outcome {
  std::uint64_t seed = 0;
  std::string invariant;  // empty: clean
  std::string what;
  std::uint64_t hash = 0;
  std::uint64_t steps = 0;
  std::uint64_t takeovers = 0;
  std::uint64_t cores = 0;
  std::uint64_t operations = 0;
  std::uint64_t faults = 0;
  std::int64_t simulated_ms = 0;
  std::int64_t violated_ms = 0;  // since the first fault could happen
};

class Workers {
 public:
  // `make`: the options of a seed.
  using Make = std::function<simulator::RunOptions(std::uint64_t seed)>;
  // Called for each seed as it ends; false: no more.
  using Report = std::function<bool(const Outcome&)>;

  Workers(unsigned jobs, Make make) : jobs_(jobs), make_(std::move(make)) {}
  void run(std::uint64_t first, std::uint64_t count, const Report& report);
  // Of all that has run: by name, how often.
  const std::map<std::string, std::uint64_t>& marks() const { return marks_; }

 private:
  struct Child;
  void start(Child& child);
  bool read(Child& child, const Report& report);

  unsigned jobs_;
  Make make_;
  std::map<std::string, std::uint64_t> marks_;
};

}  // namespace duet
