#include "files/record.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "base/assert.h"
#include "files/directory_block.h"

namespace duet::files {
namespace {

using filesystem::LogRecord;

constexpr std::uint64_t flag_id = std::uint64_t{1} << 32;
constexpr std::size_t id_size = 20;
constexpr std::size_t max_fixed_payload = 8 * 1024;  // bytes, of all but write and set_attribute

struct Header {
  std::uint64_t inode = 0;  // word 1
  std::uint64_t extra = 0;  // word 3
};

// ---- the fields of each kind, once for both directions ----
//
// header(): what stands in words 1 and 3; body(): what stands in the payload.

template <class F>
void header(auto& r, F&& f) {
  using R = std::remove_cvref_t<decltype(r)>;
  if constexpr (std::is_same_v<R, CreateVdisk>) {
    f.directory(r.volume, r.directory);
  } else if constexpr (requires { r.file.inode; }) {
    f.inode(r.file);
  } else {
    f.inode(r.directory);
  }
  if constexpr (requires { r.offset; }) {
    f.extra(r.offset);
  } else if constexpr (std::is_same_v<R, ResizeVdisk>) {
    f.extra(r.size);
  }
}

template <class F>
void new_file(auto& file, F&& f) {
  f(file.mode);
  f(file.owner);
  f(file.group);
}
template <class F>
void body(auto& r, F&& f) {
  using R = std::remove_cvref_t<decltype(r)>;
  if constexpr (std::is_same_v<R, Create>) {
    f(r.how);
    f.optionals(r.size);
    new_file(r.file, f);
    f(r.verifier);
    f.value(r.size);
    f.name(r.name);
  } else if constexpr (std::is_same_v<R, MakeDirectory>) {
    new_file(r.file, f);
    f.name(r.name);
  } else if constexpr (std::is_same_v<R, MakeSymlink>) {
    new_file(r.file, f);
    f.name(r.name);
    f.rest(r.target);
  } else if constexpr (std::is_same_v<R, MakeSpecial>) {
    new_file(r.file, f);
    f(r.device);
    f.name(r.name);
  } else if constexpr (std::is_same_v<R, Link>) {
    f.other(r.directory);
    f.name(r.name);
  } else if constexpr (std::is_same_v<R, Remove>) {
    f(r.what);
    f.name(r.name);
  } else if constexpr (std::is_same_v<R, Rename>) {
    f.other(r.to_directory);
    f.name(r.name);
    f.name(r.to_name);
  } else if constexpr (std::is_same_v<R, SetInode>) {
    f.optionals(r.mode, r.owner, r.group, r.size, r.accessed, r.modified, r.guard);
    f.value(r.mode);
    f.value(r.owner);
    f.value(r.group);
    f.value(r.size);
    f.value(r.accessed);
    f.value(r.modified);
    f.value(r.guard);
  } else if constexpr (std::is_same_v<R, Zero>) {
    f(r.length);
  } else if constexpr (std::is_same_v<R, SetAttribute>) {
    f(r.how);
    f.name(r.name);  // the value follows
  } else if constexpr (std::is_same_v<R, RemoveAttribute>) {
    f.name(r.name);
  } else if constexpr (std::is_same_v<R, CreateVdisk>) {
    f(r.size);
    new_file(r.file, f);
    f.name(r.name);
  }
}

struct PutHeader {
  VolumeId volume;
  Header out;
  void inode(const FileKey& key) { out.inode = key.inode.value(); }
  void directory(VolumeId, InodeNumber number) { out.inode = number.value(); }
  void extra(std::uint64_t v) { out.extra = v; }
};
struct GetHeader {
  VolumeId volume;
  Header in;
  bool used_extra = false;
  void inode(FileKey& key) { key = {volume, InodeNumber(in.inode)}; }
  void directory(VolumeId& of, InodeNumber& number) {
    of = volume;
    number = InodeNumber(in.inode);
  }
  void extra(std::uint64_t& v) {
    v = in.extra;
    used_extra = true;
  }
};

template <class T>
using Raw =
    std::make_unsigned_t<typename std::conditional_t<std::is_enum_v<T>, std::underlying_type<T>,
                                                     std::type_identity<T>>::type>;

struct PutBody {
  ByteWriter& out;
  template <class T>
  void operator()(const T& v) {
    out.put(static_cast<Raw<T>>(v));
  }
  void optionals(const auto&... v) {
    unsigned bit = 0;
    unsigned mask = 0;
    ((mask |= (v.has_value() ? 1u : 0u) << bit++), ...);
    out.put(static_cast<std::uint8_t>(mask));
  }
  template <class T>
  void value(const std::optional<T>& v) {
    (*this)(v.value_or(T{}));
  }
  void other(const FileKey& key) { out.put(key.inode.value()); }
  void name(const std::string& s) {
    out.put(static_cast<std::uint8_t>(s.size()));
    rest(s);
  }
  void rest(const std::string& s) { out.put_bytes(std::as_bytes(std::span(s))); }
};
struct GetBody {
  ByteReader& in;
  VolumeId volume;
  bool good = true;  // besides in.ok(): unknown bits, a field that should be 0
  template <class T>
  void operator()(T& v) {
    v = static_cast<T>(in.get<Raw<T>>());
  }
  void optionals(auto&... v) {
    unsigned mask = in.get<std::uint8_t>();
    ((mask & 1 ? static_cast<void>(v.emplace()) : v.reset(), mask >>= 1), ...);
    good = good && mask == 0;
  }
  template <class T>
  void value(std::optional<T>& v) {
    T raw{};
    (*this)(raw);
    if (v) {
      v = raw;
    } else {
      good = good && raw == T{};
    }
  }
  void other(FileKey& key) { key = {volume, InodeNumber(in.get<std::uint64_t>())}; }
  void name(std::string& s) { take(s, in.get<std::uint8_t>()); }
  void rest(std::string& s) { take(s, in.remaining()); }
  void take(std::string& s, std::size_t n) {
    Bytes bytes = in.get_bytes(n);
    s.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
};

// ---- rules ----

struct Rules {
  static const char* check(const NewFile& file) {
    return (file.mode & ~07777) != 0 ? "mode" : nullptr;
  }
  // Names that may not be made are outcomes of their own (exists, invalid), not broken records.
  static const char* check(const std::string& name) {
    return name.empty() || name.size() > max_name ? "name" : nullptr;
  }
  const char* operator()(const Create& r) const {
    if (r.how > CreateMode::exclusive) return "mode of creation";
    if ((r.how == CreateMode::exclusive) != (r.verifier != 0)) return "verifier";
    if (r.size && *r.size > filesystem::max_file_size) return "size";
    if (auto error = check(r.file)) return error;
    return check(r.name);
  }
  const char* operator()(const MakeDirectory& r) const {
    if (auto error = check(r.file)) return error;
    return check(r.name);
  }
  const char* operator()(const MakeSymlink& r) const {
    if (auto error = check(r.file)) return error;
    if (r.target.empty() || r.target.size() > max_target) return "target";
    if (r.target.find('\0') != std::string::npos) return "target";
    return check(r.name);
  }
  const char* operator()(const MakeSpecial& r) const {
    switch (r.file.mode & ~07777) {
      case 0010000:  // FIFO
      case 0020000:  // character device
      case 0060000:  // block device
      case 0140000:  // socket
        return check(r.name);
      default:
        return "mode";
    }
  }
  const char* operator()(const Link& r) const { return check(r.name); }
  const char* operator()(const Remove& r) const {
    if (r.what > RemoveWhat::directory) return "what to remove";
    return check(r.name);
  }
  const char* operator()(const Rename& r) const {
    if (auto error = check(r.name)) return error;
    return check(r.to_name);
  }
  const char* operator()(const SetInode& r) const {
    if (r.mode && (*r.mode & ~07777) != 0) return "mode";
    if (r.size && *r.size > filesystem::max_file_size) return "size";
    return nullptr;
  }
  const char* operator()(const Write& r) const {
    std::uint64_t size = 0;
    for (const Slice& slice : r.data) size += slice.bytes.size();
    if (size > max_write) return "length";
    return r.offset > filesystem::max_file_size ? "offset" : nullptr;
  }
  const char* operator()(const Zero& r) const {
    if (r.length == 0 || r.length > max_zero) return "length";
    return r.offset > filesystem::max_file_size ? "offset" : nullptr;
  }
  const char* operator()(const SetAttribute& r) const {
    if (r.how > SetMode::replace) return "how to set";
    if (r.value.bytes.size() > max_value) return "length of the value";
    return check(r.name);
  }
  const char* operator()(const RemoveAttribute& r) const { return check(r.name); }
  const char* operator()(const CreateVdisk& r) const {
    if (auto error = check_size(r.size)) return error;
    if (auto error = check(r.file)) return error;
    if (r.directory == filesystem::no_inode) return r.name.empty() ? nullptr : "name";
    return check(r.name);
  }
  const char* operator()(const DeleteVdisk&) const { return nullptr; }
  const char* operator()(const ResizeVdisk& r) const { return check_size(r.size); }

  static const char* check_size(std::uint64_t size) {
    const bool good =
        size > 0 && size <= filesystem::max_lun_size && size % filesystem::block_size == 0;
    return good ? nullptr : "size";
  }
};

std::unexpected<Error> poison(nvlog::RecordKind kind, const char* what) {
  return fail(ErrorCode::invalid,
              "file record of kind " + std::to_string(static_cast<int>(kind)) + ": " + what);
}

template <std::size_t... I>
Request empty_request(std::size_t index, std::index_sequence<I...>) {
  Request request;
  ((index == I ? static_cast<void>(request.emplace<I>()) : void()), ...);
  return request;
}

// The first `n` bytes, which may lie in several slices.
std::vector<std::byte> first_bytes(const std::vector<Slice>& payload, std::size_t n) {
  std::vector<std::byte> bytes;
  for (const Slice& slice : payload) {
    const std::size_t take = std::min(n - bytes.size(), slice.bytes.size());
    bytes.insert(bytes.end(), slice.bytes.begin(),
                 slice.bytes.begin() + static_cast<std::ptrdiff_t>(take));
  }
  return bytes;
}
std::vector<Slice> behind(const std::vector<Slice>& payload, std::size_t n) {
  std::vector<Slice> rest;
  for (const Slice& slice : payload) {
    const std::size_t skip = std::min(n, slice.bytes.size());
    n -= skip;
    if (skip < slice.bytes.size()) rest.push_back({slice.owner, slice.bytes.subspan(skip)});
  }
  return rest;
}

}  // namespace

VolumeId volume_of(const Request& request) {
  return std::visit(
      [](const auto& r) {
        if constexpr (requires { r.volume; }) {
          return r.volume;
        } else if constexpr (requires { r.file.inode; }) {
          return r.file.volume;
        } else {
          return r.directory.volume;
        }
      },
      request);
}

bool is_file_record(nvlog::RecordKind kind) {
  const auto k = static_cast<std::uint8_t>(kind);
  return k >= static_cast<std::uint8_t>(RecordKind::create) &&
         k <= static_cast<std::uint8_t>(RecordKind::resize_vdisk);
}

RecordKind kind_of(const Request& request) {
  return static_cast<RecordKind>(static_cast<std::size_t>(RecordKind::create) + request.index());
}

Status check(const Request& request) {
  if (const char* field = std::visit(Rules{}, request)) {
    return fail(ErrorCode::invalid, std::string("file request: ") + field);
  }
  return {};
}

LogRecord encode(const Record& record) {
  ASSERT(check(record.request));
  LogRecord out;
  out.kind = static_cast<nvlog::RecordKind>(kind_of(record.request));
  ByteWriter writer;
  if (record.id) {
    writer.put_bytes(record.id->client);
    writer.put(record.id->xid);
  }
  PutHeader words;
  std::visit(
      [&](const auto& r) {
        header(r, words);
        PutBody put{writer};
        body(r, put);
      },
      record.request);
  const std::uint64_t volume = volume_of(record.request).value();
  const bool creates = record.created != filesystem::no_inode;
  ASSERT(!creates || words.out.extra == 0);
  out.words = {volume | (record.id ? flag_id : 0), words.out.inode,
               static_cast<std::uint64_t>(record.time),
               creates ? record.created.value() : words.out.extra};
  if (writer.size() > 0) out.payload.push_back(copy_to_slice(writer.take()));
  if (auto* write = std::get_if<Write>(&record.request)) {
    out.payload.insert(out.payload.end(), write->data.begin(), write->data.end());
  } else if (auto* set = std::get_if<SetAttribute>(&record.request)) {
    if (!set->value.bytes.empty()) out.payload.push_back(set->value);
  }
  return out;
}

Result<Record> decode_record(const LogRecord& record) {
  if (!is_file_record(record.kind)) {
    return fail(
        ErrorCode::unsupported_version,
        "file record: kind " + std::to_string(static_cast<int>(record.kind)) + " is unknown");
  }
  std::uint64_t total = 0;
  for (const Slice& slice : record.payload) total += slice.bytes.size();
  if (total > max_write + max_fixed_payload) return poison(record.kind, "length of the payload");
  Record out;
  out.time = static_cast<std::int64_t>(record.words[2]);
  out.request = empty_request(
      static_cast<std::size_t>(record.kind) - static_cast<std::size_t>(RecordKind::create),
      std::make_index_sequence<std::variant_size_v<Request>>());
  const bool has_id = (record.words[0] & flag_id) != 0;
  if (record.words[0] >> 33 != 0) return poison(record.kind, "flags");
  const VolumeId volume(static_cast<std::uint32_t>(record.words[0]));

  const bool has_data = std::holds_alternative<Write>(out.request);
  std::vector<std::byte> bytes =
      first_bytes(record.payload, has_data ? (has_id ? id_size : 0)
                                           : std::min<std::uint64_t>(total, max_fixed_payload));
  ByteReader reader(bytes);
  if (has_id) {
    out.id.emplace();
    Bytes client = reader.get_bytes(out.id->client.size());
    std::ranges::copy(client, out.id->client.begin());
    out.id->xid = reader.get<std::uint32_t>();
  }
  GetHeader words{volume, {record.words[1], record.words[3]}};
  GetBody get{reader, volume};
  std::visit(
      [&](auto& r) {
        header(r, words);
        body(r, get);
      },
      out.request);
  if (!reader.ok() || !get.good) return poison(record.kind, "payload");
  const std::size_t read = bytes.size() - reader.remaining();
  if (auto* write = std::get_if<Write>(&out.request)) {
    write->data = behind(record.payload, read);
    if (write->data.empty()) return poison(record.kind, "length");
  } else if (auto* set = std::get_if<SetAttribute>(&out.request)) {
    std::vector<Slice> rest = behind(record.payload, read);
    if (total - read > max_value) return poison(record.kind, "length of the value");
    if (rest.size() == 1) {
      set->value = rest[0];
    } else if (!rest.empty()) {
      set->value = copy_to_slice(first_bytes(rest, total - read));
    }
  } else if (read != total) {
    return poison(record.kind, "length of the payload");
  }
  if (!words.used_extra) out.created = InodeNumber(record.words[3]);
  if (const char* field = std::visit(Rules{}, out.request)) return poison(record.kind, field);
  return out;
}

}  // namespace duet::files
