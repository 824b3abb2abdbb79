// What can be asked to change in the files of a volume, and its record in the log: one type for
// both, so that a replay runs the code of live requests. Format: docs/formats/file_records.md.
// decode_record() takes foreign bytes; what it refuses is a poison record, which is named, never
// applied.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "filesystem/inode.h"
#include "filesystem/log_record.h"

namespace duet::files {

using filesystem::FileKey;
using filesystem::InodeNumber;
using filesystem::VolumeId;

inline constexpr std::size_t max_target = 4095;      // bytes of a symlink
inline constexpr std::size_t max_value = 64 * 1024;  // bytes of an extended attribute
inline constexpr std::uint64_t max_write = filesystem::max_write_length;  // bytes in one request
inline constexpr std::uint64_t max_zero = filesystem::max_zero_length;    // bytes in one request

// Whose request it was: lets a reply cache be filled again in a replay.
struct RequestId {
  std::array<std::byte, 16> client{};
  std::uint32_t xid = 0;
  auto operator<=>(const RequestId&) const = default;
};

// Permission bits of `mode` (07777), as the protocol server has computed them.
struct NewFile {
  std::uint16_t mode = 0;
  std::uint32_t owner = 0;
  std::uint32_t group = 0;
  bool operator==(const NewFile&) const = default;
};

enum class CreateMode : std::uint8_t {
  unchecked = 0,  // a regular file that exists is opened
  guarded = 1,    // one that exists is an error
  exclusive = 2,  // the same, but for one with this verifier: it was made by this very request
};
struct Create {
  FileKey directory;
  std::string name;
  NewFile file;
  CreateMode how = CreateMode::guarded;
  std::uint64_t verifier = 0;         // exclusive only; not 0 then
  std::optional<std::uint64_t> size;  // unchecked: also of the file that exists
  bool operator==(const Create&) const = default;
};
struct MakeDirectory {
  FileKey directory;
  std::string name;
  NewFile file;
  bool operator==(const MakeDirectory&) const = default;
};
struct MakeSymlink {
  FileKey directory;
  std::string name;
  NewFile file;
  std::string target;  // 1 to max_target bytes without 0
  bool operator==(const MakeSymlink&) const = default;
};
struct MakeSpecial {
  FileKey directory;
  std::string name;
  NewFile file;              // `mode` with one of the type bits FIFO, CHR, BLK, SOCK
  std::uint64_t device = 0;  // major << 32 | minor
  bool operator==(const MakeSpecial&) const = default;
};
struct Link {
  FileKey file;
  FileKey directory;
  std::string name;
  bool operator==(const Link&) const = default;
};
enum class RemoveWhat : std::uint8_t { any = 0, file = 1, directory = 2 };
struct Remove {
  FileKey directory;
  std::string name;
  RemoveWhat what = RemoveWhat::any;
  bool operator==(const Remove&) const = default;
};
struct Rename {
  FileKey directory;
  std::string name;
  FileKey to_directory;
  std::string to_name;
  bool operator==(const Rename&) const = default;
};
struct SetInode {
  FileKey file;
  std::optional<std::uint16_t> mode;  // permission bits
  std::optional<std::uint32_t> owner;
  std::optional<std::uint32_t> group;
  std::optional<std::uint64_t> size;
  std::optional<std::int64_t> accessed;
  std::optional<std::int64_t> modified;
  std::optional<std::int64_t> guard;  // must be the time of the last change, or nothing happens
  bool operator==(const SetInode&) const = default;
};
struct Write {
  FileKey file;
  std::uint64_t offset = 0;
  std::vector<Slice> data;  // at most max_write bytes
};
struct Zero {
  FileKey file;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool operator==(const Zero&) const = default;
};
enum class SetMode : std::uint8_t { either = 0, create = 1, replace = 2 };
struct SetAttribute {
  FileKey file;
  std::string name;
  SetMode how = SetMode::either;
  Slice value;  // at most max_value bytes
};
struct RemoveAttribute {
  FileKey file;
  std::string name;
  bool operator==(const RemoveAttribute&) const = default;
};
// The administrator holds the vdisk that he creates, until he deletes it; it may have names, too.
struct CreateVdisk {
  VolumeId volume;
  std::uint64_t size = 0;  // bytes, a multiple of block_size
  NewFile file;
  InodeNumber directory;  // none: without a name
  std::string name;
  bool operator==(const CreateVdisk&) const = default;
};
struct DeleteVdisk {
  FileKey file;
  bool operator==(const DeleteVdisk&) const = default;
};
struct ResizeVdisk {
  FileKey file;
  std::uint64_t size = 0;
  bool operator==(const ResizeVdisk&) const = default;
};

using Request =
    std::variant<Create, MakeDirectory, MakeSymlink, MakeSpecial, Link, Remove, Rename, SetInode,
                 Write, Zero, SetAttribute, RemoveAttribute, CreateVdisk, DeleteVdisk, ResizeVdisk>;

struct Record {
  Request request;
  std::int64_t time = 0;  // when it happened, ns since 1970
  std::optional<RequestId> id;
  InodeNumber created;  // what the live request made, if it made one; none: not known yet
};

VolumeId volume_of(const Request& request);

enum class RecordKind : std::uint8_t {  // in the opaque range of nvlog::RecordKind
  create = 32,
  make_directory = 33,
  make_symlink = 34,
  make_special = 35,
  link = 36,
  remove = 37,
  rename = 38,
  set_inode = 39,
  write = 40,
  zero = 41,
  set_attribute = 42,
  remove_attribute = 43,
  create_vdisk = 44,
  delete_vdisk = 45,
  resize_vdisk = 46,
};
bool is_file_record(nvlog::RecordKind kind);
RecordKind kind_of(const Request& request);

// Requires: the record keeps the rules that decode_record() checks (prepare() tells), and is of one
// volume.
filesystem::LogRecord encode(const Record& record);
// Errors: unsupported_version (unknown kind), invalid (the message names kind and field).
Result<Record> decode_record(const filesystem::LogRecord& record);
// The rules of one request that need no look at the volume; the same that decode_record() applies.
Status check(const Request& request);

}  // namespace duet::files
