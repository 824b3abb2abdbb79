#include "node/core_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

namespace duet::node {
namespace {

using files::Handle;

constexpr std::size_t id_length = 16;
constexpr std::string_view core_end = ".core";
constexpr std::string_view details_end = ".json";
constexpr std::string_view draft_end = ".tmp";

std::unexpected<Error> failure(const files::Failure& f) {
  return fail(files::error_code(f.outcome),
              std::string(files::name(f.outcome)) + (f.message.empty() ? "" : ": " + f.message));
}

// ID of a name of ours with this end; empty: another name.
std::string id_in(const std::string& name, std::string_view end) {
  const auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (name.size() != id_length + end.size() || !name.ends_with(end)) return {};
  std::string id = name.substr(0, id_length);
  return std::ranges::all_of(id, digit) ? id : std::string();
}

std::string named(const std::string& id, std::string_view end) {
  return id + std::string(end);
}

CoreFolder::Found sorted(const Handle& directory, const std::vector<files::ListedName>& names) {
  CoreFolder::Found found;
  std::map<std::string, CoreFolder::Core> cores;
  for (const auto& n : names) {
    const std::string id = id_in(n.name, core_end);
    if (id.empty() || !n.attributes || n.type != filesystem::FileType::regular) continue;
    const auto& inode = *n.attributes;
    cores[id] = {id,
                 {{directory.file.volume, n.inode}, inode.created},
                 inode.size,
                 inode.blocks * filesystem::block_size,
                 inode.created,
                 false};
  }
  for (const auto& n : names) {
    const std::string id = id_in(n.name, details_end);
    if (auto core = cores.find(id); !id.empty() && core != cores.end()) {
      core->second.finished = true;
    } else if (!id.empty() || !id_in(n.name, draft_end).empty()) {
      found.strays.push_back(n.name);
    }
  }
  for (auto& [id, core] : cores) found.cores.push_back(std::move(core));
  return found;
}

}  // namespace

std::string CoreFolder::id_of(BootNonce boot_nonce) {
  return fmt::format("{:016x}", boot_nonce.value());
}

// `use` gets a Result<T>, unless we are gone.
template <class T, class F>
files::FileStore::Done<T> CoreFolder::then(F use) {
  return [alive = alive_, use = std::move(use)](files::Attempt<T> a) mutable {
    if (!*alive) return;
    if (a) return use(Result<T>(std::move(*a)));
    use(Result<T>(failure(a.error())));
  };
}

template <class Request>
void CoreFolder::change(Request request, std::vector<Handle> handles,
                        ports::Done<files::Changed> done) {
  store_.change({std::move(request), std::move(handles), {}},
                then<files::Changed>(std::move(done)));
}

void CoreFolder::open_volume(ports::Done<Handle> done) {
  store_.open_volume(
      volume, then<files::Found>([done = std::move(done)](Result<files::Found> root) mutable {
        if (!root) return done(std::unexpected(root.error()));
        done(root->file);
      }));
}

void CoreFolder::open(ports::Done<Handle> done) {
  open_volume([this, done = std::move(done)](Result<Handle> root) mutable {
    if (!root) return done(std::move(root));
    store_.look_up(
        *root, name,
        then<files::Found>([done = std::move(done)](Result<files::Found> found) mutable {
          if (!found) return done(std::unexpected(found.error()));
          if (found->inode.type != filesystem::FileType::directory) {
            return done(fail(ErrorCode::io_error, "'cores' of the root volume is no directory"));
          }
          done(found->file);
        }));
  });
}

void CoreFolder::make(ports::Done<Handle> done) {
  open([this, done = std::move(done)](Result<Handle> folder) mutable {
    if (folder || folder.error().code != ErrorCode::not_found) return done(std::move(folder));
    open_volume([this, done = std::move(done)](Result<Handle> root) mutable {
      if (!root) return done(std::move(root));
      change(files::MakeDirectory{root->file, name, {0700, 0, 0}}, {*root},
             [done = std::move(done)](Result<files::Changed> made) mutable {
               if (!made) return done(std::unexpected(made.error()));
               done(made->file);
             });
    });
  });
}

// ---- looks ----

void CoreFolder::list(ports::Done<Found> done) {
  open([this, done = std::move(done)](Result<Handle> folder) mutable {
    if (!folder && folder.error().code == ErrorCode::not_found) return done(Found{});
    if (!folder) return done(std::unexpected(folder.error()));
    list_from(*folder, files::cookie_start, std::make_shared<std::vector<files::ListedName>>(),
              std::move(done));
  });
}

void CoreFolder::list_from(const Handle& directory, std::uint64_t cookie,
                           std::shared_ptr<std::vector<files::ListedName>> names,
                           ports::Done<Found> done) {
  const files::ListRequest request{
      .cookie = cookie, .limit = files::max_listed_with_inodes, .inodes = true, .dots = false};
  store_.list(directory, request,
              then<files::Listing>([this, directory, names,
                                    done = std::move(done)](Result<files::Listing> part) mutable {
                if (!part) return done(std::unexpected(part.error()));
                for (auto& n : part->names) names->push_back(std::move(n));
                if (part->end || part->names.empty() || names->size() >= max_names) {
                  auto found = sorted(directory, *names);
                  for (auto& core : found.cores) {
                    auto known = written_.find(core.id);
                    if (known != written_.end()) core.used = std::max(core.used, known->second);
                  }
                  return done(std::move(found));
                }
                list_from(directory, names->back().cookie, names, std::move(done));
              }));
}

void CoreFolder::find(const std::string& id, ports::Done<Core> done) {
  list([id, done = std::move(done)](Result<Found> found) mutable {
    if (!found) return done(std::unexpected(found.error()));
    auto core = std::ranges::find(found->cores, id, &Core::id);
    if (core == found->cores.end()) return done(fail(ErrorCode::not_found, "no core " + id));
    done(std::move(*core));
  });
}

void CoreFolder::read_details(const std::string& id, ports::Done<std::string> done) {
  open([this, id, done = std::move(done)](Result<Handle> folder) mutable {
    if (!folder) return done(std::unexpected(folder.error()));
    store_.look_up(
        *folder, named(id, details_end),
        then<files::Found>([this, done = std::move(done)](Result<files::Found> found) mutable {
          if (!found) return done(std::unexpected(found.error()));
          read(found->file, 0, max_details,
               [done = std::move(done)](Result<std::vector<std::byte>> bytes) mutable {
                 if (!bytes) return done(std::unexpected(bytes.error()));
                 done(std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()));
               });
        }));
  });
}

void CoreFolder::read(const Handle& core, std::uint64_t offset, std::uint64_t length,
                      ports::Done<std::vector<std::byte>> done) {
  store_.read(core, offset, length,
              then<files::Contents>([done = std::move(done)](Result<files::Contents> part) mutable {
                if (!part) return done(std::unexpected(part.error()));
                std::vector<std::byte> bytes;
                for (const Slice& s : part->data)
                  bytes.insert(bytes.end(), s.bytes.begin(), s.bytes.end());
                done(std::move(bytes));
              }));
}

void CoreFolder::space(ports::Done<files::Space> done) {
  open_volume([this, done = std::move(done)](Result<Handle> root) mutable {
    if (!root) return done(std::unexpected(root.error()));
    store_.get_space(*root, then<files::Space>(std::move(done)));
  });
}

// ---- changes ----

void CoreFolder::remove(const std::string& id, ports::Done<void> done) {
  open([this, id, done = std::move(done)](Result<Handle> folder) mutable {
    if (!folder && folder.error().code == ErrorCode::not_found) return done({});
    if (!folder) return done(std::unexpected(folder.error()));
    written_.erase(id);
    remove_names(*folder, {named(id, core_end), named(id, draft_end), named(id, details_end)},
                 std::move(done));
  });
}

// From the last one on.
void CoreFolder::remove_names(const Handle& directory, std::vector<std::string> names,
                              ports::Done<void> done) {
  if (names.empty()) return done({});
  std::string last = std::move(names.back());
  names.pop_back();
  change(files::Remove{directory.file, std::move(last), files::RemoveWhat::file}, {directory},
         [this, directory, names = std::move(names),
          done = std::move(done)](Result<files::Changed> removed) mutable {
           if (!removed && removed.error().code != ErrorCode::not_found) {
             return done(std::unexpected(removed.error()));
           }
           remove_names(directory, std::move(names), std::move(done));
         });
}

void CoreFolder::create_file(const Handle& directory, const std::string& file_name,
                             ports::Done<Handle> done) {
  change(files::Create{directory.file,
                       file_name,
                       {0600, 0, 0},
                       files::CreateMode::unchecked,
                       0,
                       std::uint64_t{0}},
         {directory}, [done = std::move(done)](Result<files::Changed> made) mutable {
           if (!made) return done(std::unexpected(made.error()));
           done(made->file);
         });
}

void CoreFolder::create(const std::string& id, ports::Done<Handle> done) {
  make([this, id, done = std::move(done)](Result<Handle> folder) mutable {
    if (!folder) return done(std::move(folder));
    create_file(*folder, named(id, core_end), std::move(done));
  });
}

void CoreFolder::write(const Handle& core, std::uint64_t offset, Bytes data,
                       ports::Done<void> done) {
  change(files::Write{core.file, offset, {copy_to_slice(data)}}, {core},
         [done = std::move(done)](Result<files::Changed> written) mutable {
           if (!written) return done(std::unexpected(written.error()));
           done({});
         });
}

// The JSON is written under another name first: under its own it is whole.
void CoreFolder::finish(const std::string& id, const Handle& core, std::uint64_t size,
                        std::uint64_t used, const std::string& details, ports::Done<void> done) {
  written_[id] = used;
  files::SetInode resize;
  resize.file = core.file;
  resize.size = size;
  auto put = [this, id, details, done = std::move(done)](Result<Handle> folder) mutable {
    if (!folder) return done(std::unexpected(folder.error()));
    auto rename = [this, id, folder = *folder, done = std::move(done)](Status written) mutable {
      if (!written) return done(std::move(written));
      change(files::Rename{folder.file, named(id, draft_end), folder.file, named(id, details_end)},
             {folder}, [done = std::move(done)](Result<files::Changed> renamed) mutable {
               if (!renamed) return done(std::unexpected(renamed.error()));
               done({});
             });
    };
    create_file(*folder, named(id, draft_end),
                [this, details, rename = std::move(rename)](Result<Handle> draft) mutable {
                  if (!draft) return rename(std::unexpected(draft.error()));
                  write(*draft, 0, std::as_bytes(std::span(details)), std::move(rename));
                });
  };
  change(resize, {core}, [this, put = std::move(put)](Result<files::Changed> resized) mutable {
    if (!resized) return put(std::unexpected(resized.error()));
    open(std::move(put));
  });
}

}  // namespace duet::node
