// What is wrong in the files of a volume: structure and order of directories, numbers of names and
// links, names that lead nowhere, files without names. Only looks, a little in each step, so a
// checker runs beside a service; the volume must not change from the first step to the last (a
// snapshot, or an idle volume).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "files/attributes.h"
#include "files/draft.h"

namespace duet::files {

inline constexpr std::size_t max_findings = 1000;

struct Finding {
  FileKey file;
  std::string what;
};
struct CheckReport {
  std::vector<Finding> findings;  // the first max_findings
  std::uint64_t found = 0;        // all of them
  std::uint64_t inodes = 0;
  std::uint64_t directories = 0;
  std::uint64_t names = 0;

  void add(FileKey file, std::string what);
};

// One directory, or the extended attributes of one file, a block in each step.
class DirectoryCheck {
 public:
  // `named` is told of every name that leads to an inode.
  using Named = std::function<void(InodeNumber, FileType)>;
  explicit DirectoryCheck(FileKey file, Named named = {}) : file_(file), named_(std::move(named)) {}

  // True: done. Failure: busy; run it again.
  Attempt<bool> step(filesystem::View& view, CheckReport& report);

 private:
  Attempt<bool> check_block(Draft& draft, CheckReport& report);
  Attempt<bool> check_names(Draft& draft, const Inode& inode, CheckReport& report);
  void check_entry(const Entry& entry, CheckReport& report);
  Attempt<void> check_target(Draft& draft, const Entry& entry, CheckReport& report);
  void finish(const Inode& inode, CheckReport& report);

  FileKey file_;
  Named named_;
  std::uint64_t block_ = 0;
  std::uint64_t key_ = 0;
  std::uint64_t names_ = 0;
  std::uint64_t directories_ = 0;
  std::uint64_t hash_ = 0;
  std::vector<std::string> of_one_hash_;  // names seen
  std::vector<bool> slots_ = std::vector<bool>(max_attributes);
};

// To the end at once. Failure: busy (not all of it is in memory; the report is worth nothing).
Attempt<void> check_directory(filesystem::View& view, FileKey directory, CheckReport& report);

// A whole volume. Links are counted for max_counted inodes at a time (4 bytes each); a volume with
// more is walked through several times.
class VolumeCheck {
 public:
  static constexpr std::uint64_t default_counted = std::uint64_t{1} << 24;
  explicit VolumeCheck(VolumeId volume, std::uint64_t max_counted = default_counted)
      : volume_(volume), max_counted_(max_counted) {}

  // True: done. Failure: busy, and stale (no such volume).
  Attempt<bool> step(filesystem::View& view, CheckReport& report);

 private:
  enum class Phase : std::uint8_t { start, walk, count };

  Attempt<bool> walk(filesystem::View& view, CheckReport& report);
  Attempt<bool> compare(filesystem::View& view, CheckReport& report);
  Attempt<void> check_inode(Draft& draft, FileKey file, const Inode& inode, CheckReport& report);
  Attempt<bool> climb(Draft& draft, CheckReport& report);
  void check_links(FileKey file, const Inode& inode, CheckReport& report) const;
  FileKey current() const { return {volume_, InodeNumber(at_)}; }
  bool first_pass() const { return first_ == 0; }

  VolumeId volume_;
  std::uint64_t max_counted_;
  Phase phase_ = Phase::start;
  std::uint64_t end_ = 0;    // inode numbers are below
  std::uint64_t first_ = 0;  // of those that are counted
  std::uint64_t at_ = 0;
  std::vector<std::uint32_t> names_;       // that lead to an inode
  std::optional<DirectoryCheck> inside_;   // of the inode at_
  std::optional<InodeNumber> climbed_to_;  // from the directory at_ to the root
  std::uint64_t climbed_ = 0;
};

}  // namespace duet::files
