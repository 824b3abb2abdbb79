// For tests: reads the raw dump on a disk's image as whoever collects it would, writes its core,
// and says what the dump says of itself. Without a core: what the header says.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <vector>

#include "coredump/chunk_reader.h"
#include "coredump/header.h"
#include "coredump/information.h"

namespace {

using namespace duet;

// A part of the file that is not there reads as zeros.
std::vector<std::byte> bytes_at(int image, disk::Area area) {
  std::vector<std::byte> bytes(area.size);
  if (::pread(image, bytes.data(), bytes.size(), static_cast<off_t>(area.offset)) < 0) {
    std::perror("read");
  }
  return bytes;
}

int read_dump(int image, const char* core_path) {
  using ull = unsigned long long;
  auto header = coredump::choose_header(bytes_at(image, coredump::header_copy(0)),
                                        bytes_at(image, coredump::header_copy(1)));
  if (!header) {
    std::fprintf(stderr, "no header: %s\n", header.error().message.c_str());
    return 1;
  }
  std::printf(
      "{\"attribute\": \"%s\", \"abort_reason\": \"%s\", \"stored_bytes\": %llu, "
      "\"core_bytes\": %llu, \"elapsed_ms\": %lld",
      std::string(name(header->attribute)).c_str(), std::string(name(header->abort_reason)).c_str(),
      ull{header->stored}, ull{header->core_done}, static_cast<long long>(header->elapsed.count()));
  if (core_path == nullptr) {
    std::printf("}\n");
    return 0;
  }
  auto reader = coredump::ChunkReader::make({header->boot_nonce, header->epoch}, header->room);
  if (!reader) return 1;
  coredump::Information information;
  std::ofstream core(core_path, std::ios::binary);
  while ((*reader)->phase() == coredump::ChunkReader::Phase::reading) {
    auto next = (*reader)->next();
    auto part = (*reader)->on_bytes(bytes_at(image, {disk::data_offset + next.offset, next.size}));
    if (!part) continue;
    if (part->kind == coredump::ChunkKind::information) {
      if (auto said = coredump::decode_information(part->plain)) information = std::move(*said);
    } else {
      core.write(reinterpret_cast<const char*>(part->plain.data()),
                 static_cast<std::streamsize>(part->plain.size()));
    }
  }
  coredump::Outcome outcome;
  outcome.complete = (*reader)->phase() == coredump::ChunkReader::Phase::complete;
  outcome.core_bytes = (*reader)->core_done();
  outcome.raw_bytes = (*reader)->raw_done();
  outcome.end = (*reader)->reason();
  std::printf(", \"dump\": %s}\n", to_json(information, outcome).c_str());
  return core.flush() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "dump_reader IMAGE [CORE]\n");
    return 2;
  }
  int image = ::open(argv[1], O_RDONLY | O_CLOEXEC);
  if (image < 0) {
    std::perror(argv[1]);
    return 1;
  }
  int code = read_dump(image, argc == 3 ? argv[2] : nullptr);
  ::close(image);
  return code;
}
