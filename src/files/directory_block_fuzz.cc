// A directory of one block, or of a root and two leaves (the input in pieces): it is looked through
// and changed, or refused; never a crash.
#include <algorithm>

#include "files/look.h"
#include "files/read_directory.h"
#include "files/view_fixture.h"

using namespace duet;
using namespace duet::files;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned choice = data[0];
  Bytes in = std::as_bytes(std::span(data + 1, size - 1));
  MemoryView view;
  MemoryView::File& root = view.files[test_root];
  const std::size_t blocks = choice % 2 == 0 ? 1 : 3;
  const std::size_t piece = (in.size() + blocks - 1) / blocks;
  for (std::size_t i = 0; i < blocks; ++i) {
    auto block = std::make_unique<MemoryView::Block>();
    Bytes part = in.subspan(std::min(in.size(), i * piece));
    part = part.first(std::min({part.size(), piece, block->size()}));
    std::ranges::copy(part, block->begin());
    root.blocks[i] = std::move(block);
  }
  root.inode.size = blocks * filesystem::block_size;
  root.inode.entries = 1 + choice / 2;
  std::vector<std::string> names;
  std::uint64_t last = cookie_start;
  for (;;) {
    auto listing = list(view, {.directory = test_root, .cookie = last, .inodes = choice % 4 == 3});
    if (!listing) break;
    for (const ListedName& name : listing->names) {
      ASSERT(name.cookie > last);
      last = name.cookie;
      if (name.cookie > cookie_dot_dot) names.push_back(name.name);
    }
    if (listing->end) break;
    ASSERT(!listing->names.empty());
  }
  for (const std::string& name : names) {
    (void)view.run([&] { return lookup(view, test_root, name); });
  }
  view.commit(Create{test_root, "new", {}, CreateMode::unchecked, 0, {}});
  for (std::size_t i = 0; i < names.size(); i += 3) view.commit(Remove{test_root, names[i]});
  for (std::size_t i = 1; i < names.size(); i += 3) {
    view.commit(Rename{test_root, names[i], test_root, "moved" + std::to_string(i)});
  }
  return 0;
}
