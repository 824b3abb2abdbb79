// The simulator of whole clusters: docs/simulator.md.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "base/coverage.h"
#include "simulator/minimize.h"
#include "simulator/run.h"
#include "workers.h"

namespace duet {
namespace {

using simulator::RunOptions;

struct Arguments {
  std::uint64_t seed = 1;
  std::uint64_t count = 1;
  unsigned jobs = 1;
  bool minimize = false;
  bool trace = false;
  bool keep_going = false;
  std::string sabotage;
  std::int64_t seconds = 0;  // 0: by the seed
  std::vector<std::string> without;
  std::vector<std::size_t> drop;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Nothing: a name that does not exist.
std::optional<RunOptions> base_options(const Arguments& arguments) {
  RunOptions options;
  options.seed = arguments.seed;
  options.print_trace = arguments.trace;
  if (arguments.seconds > 0) options.length = seconds(arguments.seconds);
  if (!arguments.sabotage.empty() && arguments.sabotage != "all") {
    auto safeguard = simulator::find_safeguard(arguments.sabotage);
    if (!safeguard) {
      fmt::print(stderr, "no safeguard '{}'; there are:\n", arguments.sabotage);
      for (const auto& s : simulator::all_safeguards()) {
        fmt::print(stderr, "  {:<18} {}\n", s.name, s.what);
      }
      return std::nullopt;
    }
    options.sabotage.left_out = *safeguard;
  }
  for (const auto& kind : arguments.without) {
    auto fault = simulator::find_fault(kind);
    if (!fault) {
      fmt::print(stderr, "no fault '{}'\n", kind);
      return std::nullopt;
    }
    options.without.insert(*fault);
  }
  options.left_out.insert(arguments.drop.begin(), arguments.drop.end());
  return options;
}

struct Totals {
  std::uint64_t seeds = 0, red = 0, takeovers = 0, cores = 0, operations = 0, faults = 0, steps = 0;
  double simulated = 0;  // seconds

  void add(const Outcome& o) {
    ++seeds;
    red += o.invariant.empty() ? 0 : 1;
    takeovers += o.takeovers;
    cores += o.cores;
    operations += o.operations;
    faults += o.faults;
    steps += o.steps;
    simulated += static_cast<double>(o.simulated_ms) / 1000;
  }
  void print(double wall) const {
    // Of a core of its own: what others do on this machine is not counted.
    rusage used{};
    ::getrusage(RUSAGE_CHILDREN, &used);
    double cpu = static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    fmt::print(
        "{} seeds, {} red; {:.0f} simulated s in {:.1f} s ({:.1f} s of processors): {:.0f} "
        "simulated "
        "s per s and core; {} takeovers, {:.0f} per minute and core; {} cores compared, {} faults, "
        "{} "
        "operations of clients\n",
        seeds, red, simulated, wall, cpu, simulated / cpu, takeovers,
        static_cast<double>(takeovers) / cpu * 60, cores, faults, operations);
  }
};

void print_marks(const std::map<std::string, std::uint64_t>& marks) {
  std::string missed;
  std::size_t reached = 0;
  for (const auto& [name, count] : marks) {
    if (count > 0) {
      ++reached;
    } else {
      missed += " " + name;
    }
  }
  fmt::print("coverage marks: {} of {} reached{}{}\n", reached, marks.size(),
             missed.empty() ? "" : "; not reached:", missed);
}

void print_red(const Outcome& o, const RunOptions& options) {
  fmt::print("RED seed {}: {}: {}\n    replay: {} --trace\n", o.seed, o.invariant, o.what,
             simulator::command_line(options));
  std::fflush(stdout);
}

// In a process of its own.
Outcome run_apart(const RunOptions& options) {
  Outcome found;
  Workers(1, [&](std::uint64_t) { return options; }).run(options.seed, 1, [&](const Outcome& o) {
    found = o;
    return true;
  });
  return found;
}

void shorten(const RunOptions& options, const Outcome& red) {
  auto plan = simulator::plan_of(options);
  unsigned runs = 0;
  auto minimized = simulator::minimize(options, plan, milliseconds(red.violated_ms + 1),
                                       red.invariant, [&](const RunOptions& o) {
                                         if (++runs % 20 == 0)
                                           fmt::print(stderr, "minimizing: {} runs\n", runs);
                                         return run_apart(o).invariant;
                                       });
  fmt::print("minimized to {} of {} faults in {} runs:\n    {} --trace\n", minimized.events,
             plan.events.size(), minimized.runs, simulator::command_line(minimized.options));
  for (std::size_t i = 0; i < plan.events.size(); ++i) {
    if (minimized.options.left_out.contains(i) ||
        minimized.options.without.contains(plan.events[i].fault)) {
      continue;
    }
    fmt::print("    {:>4} at {:>9.3f} s  {}\n", i,
               static_cast<double>(plan.events[i].at / milliseconds(1)) / 1000,
               simulator::describe(plan.events[i]));
  }
}

int run_one(const Arguments& arguments, const RunOptions& options) {
  auto began = now();
  auto r = simulator::run(options);
  auto wall = now() - began;
  fmt::print(
      "seed {}: hash {:016x}, {} steps, {:.0f} simulated s in {:.2f} s ({:.0f} per s), "
      "{} faults, {} takeovers, {} cores, {} operations of clients\n",
      options.seed, r.hash, r.steps, static_cast<double>(r.simulated / milliseconds(1)) / 1e3, wall,
      static_cast<double>(r.simulated / milliseconds(1)) / 1e3 / wall, r.faults, r.takeovers,
      r.cores, r.operations);
  std::map<std::string, std::uint64_t> marks;
  for (const auto& [name, reached] : coverage::marks()) marks[std::string(name)] = reached.count;
  print_marks(marks);
  if (!r.violation) return 0;
  if (!arguments.trace) {
    constexpr std::size_t shown = 60;
    auto first = r.last_lines.size() > shown ? r.last_lines.size() - shown : 0;
    for (auto i = first; i < r.last_lines.size(); ++i) fmt::print("  {}\n", r.last_lines[i]);
  }
  Outcome red;
  red.seed = options.seed;
  red.invariant = r.violation->invariant;
  red.what = r.violation->what;
  red.violated_ms = r.violated_after / milliseconds(1);
  print_red(red, options);
  if (arguments.minimize) shorten(options, red);
  return 1;
}

int run_many(const Arguments& arguments, const RunOptions& base) {
  Totals totals;
  auto make = [&](std::uint64_t seed) {
    auto options = base;
    options.seed = seed;
    return options;
  };
  Workers workers(arguments.jobs, make);
  std::optional<Outcome> first;
  auto began = now();
  workers.run(arguments.seed, arguments.count, [&](const Outcome& o) {
    totals.add(o);
    if (!o.invariant.empty()) {
      print_red(o, make(o.seed));
      if (!first) first = o;
    }
    return true;
  });
  totals.print(now() - began);
  print_marks(workers.marks());
  if (first && arguments.minimize) shorten(make(first->seed), *first);
  return first ? 1 : 0;
}

// Each safeguard in turn: the first seed whose run is violated without it.
int run_sabotage(const Arguments& arguments, const RunOptions& base) {
  std::size_t tried_all = 0, missed = 0;
  auto began = now();
  for (const auto& safeguard : simulator::all_safeguards()) {
    ++tried_all;
    auto make = [&](std::uint64_t seed) {
      auto options = base;
      options.seed = seed;
      options.sabotage.left_out = safeguard.safeguard;
      return options;
    };
    std::optional<Outcome> caught;
    std::uint64_t tried = 0;
    Workers(arguments.jobs, make).run(arguments.seed, arguments.count, [&](const Outcome& o) {
      ++tried;
      if (!o.invariant.empty()) caught = o;
      return !caught;
    });
    if (caught) {
      fmt::print("{:<20} caught by {:<10} with seed {} after {} runs: {}\n", safeguard.name,
                 caught->invariant, caught->seed, tried, caught->what);
    } else {
      fmt::print("{:<20} NOT CAUGHT within {} seeds ({})\n", safeguard.name, tried, safeguard.what);
      ++missed;
    }
    std::fflush(stdout);
  }
  fmt::print("{} safeguards left out, {} caught, in {:.0f} s\n", tried_all, tried_all - missed,
             now() - began);
  return missed == 0 ? 0 : 1;
}

int main_with(const Arguments& arguments) {
  auto base = base_options(arguments);
  if (!base) return 2;
  if (arguments.sabotage == "all") return run_sabotage(arguments, *base);
  if (arguments.count == 1) return run_one(arguments, *base);
  return run_many(arguments, *base);
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  CLI::App app{"Simulates whole clusters: docs/simulator.md."};
  duet::Arguments arguments;
  app.add_option("--seed", arguments.seed, "the first seed");
  app.add_option("--count", arguments.count, "how many seeds")->check(CLI::PositiveNumber);
  app.add_option("--jobs", arguments.jobs, "processes")->check(CLI::Range(1, 256));
  app.add_flag("--minimize", arguments.minimize, "shorten the first failing run");
  app.add_flag("--trace", arguments.trace, "print every line as it comes");
  app.add_option("--sabotage", arguments.sabotage,
                 "leave out one safeguard, or each in turn: all; then red is expected");
  app.add_option("--seconds,--seconds-per-seed", arguments.seconds,
                 "length of the phase with faults; default: by the seed");
  app.add_option("--without", arguments.without, "kinds of faults that do not happen");
  app.add_option("--drop", arguments.drop, "faults of the plan that do not happen")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  return duet::main_with(arguments);
}
