#include "files/record.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "files/apply.h"
#include "files/view_fixture.h"

namespace duet::files {
namespace {

using filesystem::LogRecord;

std::vector<std::byte> joined(const LogRecord& record) {
  std::vector<std::byte> bytes;
  for (const Slice& slice : record.payload) {
    bytes.insert(bytes.end(), slice.bytes.begin(), slice.bytes.end());
  }
  return bytes;
}

RequestId some_id() {
  RequestId id;
  for (std::size_t i = 0; i < id.client.size(); ++i)
    id.client[i] = static_cast<std::byte>(0xc0 + i);
  id.xid = 0x01020304;
  return id;
}

constexpr FileKey five{test_volume, InodeNumber(5)};
constexpr FileKey six{test_volume, InodeNumber(6)};

std::vector<Request> one_of_each() {
  SetInode all{six, 07777, 1, 2, 3, -4, -5, 6};
  SetInode some;
  some.file = six;
  some.owner = 9;
  return {Create{five, "name", {0644, 1, 2}, CreateMode::unchecked, 0, 77},
          Create{five, "name", {0644, 1, 2}, CreateMode::exclusive, 42, {}},
          MakeDirectory{five, "name", {0755, 3, 4}},
          MakeSymlink{five, "name", {0777, 5, 6}, "../target"},
          MakeSpecial{five, "name", {0020600, 5, 6}, 8},
          Link{six, five, "name"},
          Remove{five, std::string(255, 'n'), RemoveWhat::directory},
          Rename{five, "name", six, "other"},
          all,
          some,
          Write{six, 77, {bytes_of("da"), bytes_of("ta")}},
          Zero{six, 77, 88},
          SetAttribute{six, "name", SetMode::create, bytes_of("value")},
          SetAttribute{six, "name", SetMode::replace, {}},
          RemoveAttribute{six, "name"},
          CreateVdisk{test_volume, 8192, {0600, 0, 0}, five.inode, "lun"},
          CreateVdisk{test_volume, 8192, {0600, 0, 0}, {}, ""},
          DeleteVdisk{six},
          ResizeVdisk{six, 4096}};
}

TEST(FileRecord, CreateIsTheExampleOfTheDocument) {
  Record record{Create{five, "a.txt", {0644, 1000, 100}, CreateMode::guarded, 0, {}},
                0x18e9bf0f8d4e8000, some_id(), InodeNumber(7)};
  LogRecord out = encode(record);
  EXPECT_EQ(static_cast<int>(out.kind), 32);
  EXPECT_EQ(out.words, (nvlog::Words{0x1'0000'0001, 5, 0x18e9bf0f8d4e8000, 7}));
  EXPECT_EQ(to_hex(joined(out)),
            "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf04030201"  // client, xid
            "0100a401e803000064000000"                  // how, no size, mode, owner, group
            "0000000000000000"                          // verifier
            "0000000000000000"                          // size
            "05612e747874");                            // name
}

TEST(FileRecord, EachKindComesBackAsItWas) {
  for (bool with_id : {false, true}) {
    std::set<int> kinds;
    for (const Request& request : one_of_each()) {
      Record record{request, -12345, {}, {}};
      if (with_id) record.id = some_id();
      LogRecord out = encode(record);
      kinds.insert(static_cast<int>(out.kind));
      EXPECT_TRUE(is_file_record(out.kind));
      auto back = decode_record(out);
      ASSERT_TRUE(back) << back.error().message;
      EXPECT_EQ(back->time, -12345);
      EXPECT_EQ(back->id, record.id);
      EXPECT_EQ(back->request.index(), request.index());
      EXPECT_EQ(volume_of(back->request), test_volume);
      LogRecord again = encode(*back);
      EXPECT_EQ(again.kind, out.kind);
      EXPECT_EQ(again.words, out.words);
      EXPECT_EQ(joined(again), joined(out));
      std::visit(
          [&]<class T>(const T& r) {
            if constexpr (requires { r == r; }) EXPECT_EQ(r, std::get<T>(request));
          },
          back->request);
    }
    EXPECT_EQ(kinds.size(), std::variant_size_v<Request>);
  }
}

TEST(FileRecord, DataIsNotCopiedAndMayLieInAnyPieces) {
  Slice data = bytes_of(std::string(9000, 'x'));
  LogRecord out = encode({Write{six, 77, {data}}, 1, some_id(), {}});
  auto back = decode_record(out);
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<Write>(back->request).data[0].bytes.data(), data.bytes.data());
  for (const Request& request : one_of_each()) {
    LogRecord whole = encode({request, 1, some_id(), {}});
    LogRecord pieces{whole.kind, whole.words, {}};
    for (std::byte b : joined(whole)) pieces.payload.push_back(copy_to_slice({&b, 1}));
    auto decoded = decode_record(pieces);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(joined(encode(*decoded)), joined(whole));
  }
}

// Each byte of each record cut off, one too many, and every rule of the document.
TEST(FileRecord, EveryRuleIsChecked) {
  for (const Request& request : one_of_each()) {
    LogRecord whole = encode({request, 1, some_id(), {}});
    const bool open_end = std::holds_alternative<Write>(request) ||
                          std::holds_alternative<SetAttribute>(request) ||
                          std::holds_alternative<MakeSymlink>(request);
    std::vector<std::byte> bytes = joined(whole);
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      auto cut = decode_record({whole.kind, whole.words, {copy_to_slice(Bytes(bytes).first(n))}});
      if (n < 20 || !open_end) {
        EXPECT_FALSE(cut) << n;
      }
    }
    bytes.push_back(std::byte{0});
    auto longer = decode_record({whole.kind, whole.words, {copy_to_slice(bytes)}});
    if (!open_end || std::holds_alternative<MakeSymlink>(request)) {
      EXPECT_FALSE(longer);
    }
    LogRecord flags = whole;
    flags.words[0] |= std::uint64_t{1} << 33;
    EXPECT_FALSE(decode_record(flags));
  }
  auto refused = [](const Request& request) {
    auto status = check(request);
    return !status && status.error().code == ErrorCode::invalid;
  };
  const NewFile file{0644, 0, 0};
  EXPECT_TRUE(refused(Create{five, "", file, {}, 0, {}}));
  EXPECT_TRUE(refused(Create{five, std::string(256, 'x'), file, {}, 0, {}}));
  EXPECT_TRUE(refused(Create{five, "x", {0100644, 0, 0}, {}, 0, {}}));
  EXPECT_TRUE(refused(Create{five, "x", file, CreateMode(3), 0, {}}));
  EXPECT_TRUE(refused(Create{five, "x", file, CreateMode::exclusive, 0, {}}));
  EXPECT_TRUE(refused(Create{five, "x", file, CreateMode::guarded, 1, {}}));
  EXPECT_TRUE(
      refused(Create{five, "x", file, CreateMode::guarded, 0, filesystem::max_file_size + 1}));
  EXPECT_TRUE(refused(MakeDirectory{five, "", file}));
  EXPECT_TRUE(refused(MakeSymlink{five, "x", file, ""}));
  EXPECT_TRUE(refused(MakeSymlink{five, "x", file, std::string(max_target + 1, 'x')}));
  EXPECT_TRUE(refused(MakeSymlink{five, "x", file, std::string(1, '\0')}));
  EXPECT_TRUE(refused(MakeSpecial{five, "x", {0644, 0, 0}, 0}));
  EXPECT_TRUE(refused(Link{six, five, ""}));
  EXPECT_TRUE(refused(Remove{five, "x", RemoveWhat(3)}));
  EXPECT_TRUE(refused(Rename{five, "", six, "x"}));
  EXPECT_TRUE(refused(Rename{five, "x", six, ""}));
  EXPECT_TRUE(refused(SetInode{six, 0100000, {}, {}, {}, {}, {}, {}}));
  EXPECT_TRUE(refused(Write{six, filesystem::max_file_size + 1, {bytes_of("x")}}));
  EXPECT_TRUE(refused(Write{six, 0, {bytes_of(std::string(max_write + 1, 'x'))}}));
  EXPECT_TRUE(refused(Zero{six, 0, 0}));
  EXPECT_TRUE(refused(Zero{six, 0, max_zero + 1}));
  EXPECT_TRUE(refused(Zero{six, filesystem::max_file_size + 1, 1}));
  EXPECT_TRUE(refused(SetAttribute{six, "x", SetMode(3), {}}));
  EXPECT_TRUE(refused(SetAttribute{six, "x", {}, bytes_of(std::string(max_value + 1, 'x'))}));
  EXPECT_TRUE(refused(RemoveAttribute{six, ""}));
  EXPECT_TRUE(refused(CreateVdisk{test_volume, 0, file, {}, ""}));
  EXPECT_TRUE(refused(CreateVdisk{test_volume, 4095, file, {}, ""}));
  EXPECT_TRUE(refused(CreateVdisk{test_volume, 4096, file, {}, "x"}));
  EXPECT_TRUE(refused(CreateVdisk{test_volume, 4096, file, five.inode, ""}));
  EXPECT_TRUE(refused(ResizeVdisk{six, filesystem::max_lun_size + 4096}));
  for (int kind : {0, 16, 31, 47, 255}) {
    auto unknown = decode_record({static_cast<nvlog::RecordKind>(kind), {}, {}});
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code, ErrorCode::unsupported_version);
  }
  LogRecord empty = encode({Write{six, 0, {bytes_of("x")}}, 1, {}, {}});
  empty.payload.clear();
  EXPECT_FALSE(decode_record(empty));
  // A field that is not set is zeros.
  SetInode some;
  some.file = six;
  some.owner = 9;
  std::vector<std::byte> bytes = joined(encode({some, 1, {}, {}}));
  const nvlog::Words words{1, 6, 1, 0};
  const auto kind = static_cast<nvlog::RecordKind>(RecordKind::set_inode);
  EXPECT_TRUE(decode_record({kind, words, {copy_to_slice(bytes)}}));
  bytes[1] = std::byte{1};  // mode
  EXPECT_FALSE(decode_record({kind, words, {copy_to_slice(bytes)}}));
  bytes[1] = std::byte{0};
  bytes[0] |= std::byte{0x80};  // an unknown field
  EXPECT_FALSE(decode_record({kind, words, {copy_to_slice(bytes)}}));
}

TEST(FileRecord, ApplyingReturnsTheReplyAndWhoseItIs) {
  MemoryView view;
  LogRecord record = encode({MakeDirectory{test_root, "d", {0755, 0, 0}}, 1, some_id(), {}});
  auto applied = apply(view, record);
  ASSERT_TRUE(applied);
  EXPECT_EQ(applied->id, some_id());
  EXPECT_TRUE(applied->reply.created);
  EXPECT_EQ(applied->reply.file, (FileKey{test_volume, InodeNumber(3)}));
  EXPECT_EQ(applied->reply.changes.size(), 2u);
}

TEST(FileRecord, OneThatDoesNotFitIsAnErrorThatNamesIt) {
  MemoryView view;
  auto before = view.remount();
  auto error = [&](const Record& record) {
    auto applied = view.run([&] { return apply(view, encode(record)); });
    EXPECT_FALSE(applied);
    EXPECT_TRUE(view.same(*before));
    return applied ? Error{} : applied.error();
  };
  Error removed = error({Remove{test_root, "x"}, 1, {}, {}});
  EXPECT_EQ(removed.code, ErrorCode::invalid);
  EXPECT_EQ(removed.message, "file record of kind 37 for volume 1, inode 2: no entry");
  EXPECT_EQ(error({Write{six, 0, {bytes_of("x")}}, 1, {}, {}}).code, ErrorCode::invalid);
  // Made under another number than the first time: handles would lead astray.
  Error other = error({MakeDirectory{test_root, "d", {}}, 1, {}, InodeNumber(9)});
  EXPECT_EQ(other.code, ErrorCode::invalid);
  view.space_left = 0;
  EXPECT_EQ(error({MakeDirectory{test_root, "d", {}}, 1, {}, {}}).code, ErrorCode::no_space);
  view.space_left = {};
  view.commit(MakeDirectory{test_root, "e", {}});
  before = view.remount();
  view.unreadable = {{test_root, 0}};
  EXPECT_EQ(error({MakeDirectory{test_root, "d", {}}, 1, {}, {}}).code, ErrorCode::io_error);
}

}  // namespace
}  // namespace duet::files
