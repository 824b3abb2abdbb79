#include "coredump/core_layout.h"

#include <elf.h>
#include <signal.h>
#include <sys/procfs.h>

#include <algorithm>
#include <set>
#include <tuple>

namespace duet::coredump {
namespace {

static_assert(sizeof(elf_prstatus) == 336 && sizeof(elf_prpsinfo) == 136);
static_assert(sizeof(siginfo_t) == 128);

constexpr std::uint64_t small_mapping = 1024 * 1024;  // bytes; smaller than a thread's stack

template <class T>
Bytes bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t to) {
  return (n + to - 1) / to * to;
}

// Copies what fits, and leaves the last character 0.
template <std::size_t N>
void copy_text(char (&to)[N], std::string_view text) {
  std::copy_n(text.begin(), std::min(text.size(), N - 1), to);
}

void put_padded(ByteWriter& w, Bytes bytes, std::size_t to) {
  w.put_bytes(bytes);
  while (w.size() % to != 0) w.put(std::uint8_t{0});
}

void put_note(ByteWriter& w, std::uint32_t type, std::string_view owner, Bytes content) {
  if (content.empty()) return;
  w.put(static_cast<std::uint32_t>(owner.size() + 1));
  w.put(static_cast<std::uint32_t>(content.size()));
  w.put(type);
  w.put_bytes(std::as_bytes(std::span(owner)));
  put_padded(w, std::as_bytes(std::span("", 1)), 4);
  put_padded(w, content, 4);
}

elf_prstatus status_of(const ProcessImage& image, const Thread& thread) {
  elf_prstatus s{};
  // Every thread of a core bears the signal that ended the process.
  s.pr_info.si_signo = image.signal;
  s.pr_cursig = static_cast<short>(image.signal);
  s.pr_pid = static_cast<pid_t>(thread.id);
  s.pr_ppid = static_cast<pid_t>(image.parent);
  s.pr_pgrp = static_cast<pid_t>(image.group);
  s.pr_sid = static_cast<pid_t>(image.session);
  std::ranges::copy(
      Bytes(thread.registers).first(std::min(sizeof s.pr_reg, thread.registers.size())),
      std::as_writable_bytes(std::span(s.pr_reg)).begin());
  s.pr_fpvalid = thread.floating.empty() ? 0 : 1;
  return s;
}

elf_prpsinfo process_of(const ProcessImage& image) {
  elf_prpsinfo p{};
  p.pr_sname = 'R';
  p.pr_uid = image.uid;
  p.pr_gid = image.gid;
  p.pr_pid = static_cast<pid_t>(image.pid);
  p.pr_ppid = static_cast<pid_t>(image.parent);
  p.pr_pgrp = static_cast<pid_t>(image.group);
  p.pr_sid = static_cast<pid_t>(image.session);
  copy_text(p.pr_fname, image.name);
  copy_text(p.pr_psargs, image.arguments);
  return p;
}

// NT_FILE: which file is mapped where, in pages; then the names.
std::vector<std::byte> mapped_files(const std::vector<Mapping>& mappings) {
  ByteWriter table;
  ByteWriter names;
  std::uint64_t count = 0;
  for (const Mapping& m : mappings) {
    if (m.inode == 0 || m.path.empty()) continue;
    ++count;
    for (std::uint64_t v : {m.start, m.end, m.offset / page_size}) table.put(v);
    names.put_bytes(std::as_bytes(std::span(m.path)));
    names.put(std::uint8_t{0});
  }
  ByteWriter note;
  note.put(count);
  note.put(page_size);
  note.put_bytes(table.take());
  note.put_bytes(names.take());
  return note.take();
}

// In the order of the kernel: gdb takes the first NT_PRSTATUS for the thread that failed.
std::vector<std::byte> notes_of(const ProcessImage& image) {
  siginfo_t made{};
  made.si_signo = image.signal;
  Bytes signal_information = image.signal_information.size() == sizeof made
                                 ? Bytes(image.signal_information)
                                 : bytes_of(made);
  ByteWriter w;
  for (std::size_t i = 0; i < image.threads.size(); ++i) {
    const Thread& thread = image.threads[i];
    auto status = status_of(image, thread);
    put_note(w, NT_PRSTATUS, "CORE", bytes_of(status));
    if (i == 0) {
      auto process = process_of(image);
      put_note(w, NT_PRPSINFO, "CORE", bytes_of(process));
      put_note(w, NT_SIGINFO, "CORE", signal_information);
      put_note(w, NT_AUXV, "CORE", image.auxiliary_vector);
      put_note(w, NT_FILE, "CORE", mapped_files(image.mappings));
    }
    put_note(w, NT_FPREGSET, "CORE", thread.floating);
    put_note(w, NT_X86_XSTATE, "LINUX", thread.extended);
  }
  return w.take();
}

Elf64_Ehdr elf_header(std::size_t segments) {
  Elf64_Ehdr e{};
  std::copy_n(ELFMAG, SELFMAG, e.e_ident);
  e.e_ident[EI_CLASS] = ELFCLASS64;
  e.e_ident[EI_DATA] = ELFDATA2LSB;
  e.e_ident[EI_VERSION] = EV_CURRENT;
  e.e_type = ET_CORE;
  e.e_machine = EM_X86_64;
  e.e_version = EV_CURRENT;
  e.e_phoff = sizeof e;
  e.e_ehsize = sizeof e;
  e.e_phentsize = sizeof(Elf64_Phdr);
  e.e_phnum = static_cast<Elf64_Half>(segments);
  return e;
}

Elf64_Phdr program_header(const Mapping& m, const Segment& segment) {
  Elf64_Phdr p{};
  p.p_type = PT_LOAD;
  p.p_flags = (m.read ? PF_R : 0U) | (m.write ? PF_W : 0U) | (m.execute ? PF_X : 0U);
  p.p_offset = segment.offset;
  p.p_vaddr = m.start;
  p.p_filesz = segment.size;
  p.p_memsz = m.size();
  p.p_align = page_size;
  return p;
}

// Which mapping comes when in the file: smaller is earlier.
std::vector<std::size_t> file_order(const ProcessImage& image, std::size_t count,
                                    const std::vector<Segment>& segments) {
  std::set<std::uint64_t> stacks;
  for (const Thread& thread : image.threads) stacks.insert(thread.stack_pointer);
  auto rank = [&](std::size_t i) {
    const Mapping& m = image.mappings[i];
    auto holds = [&](std::uint64_t address) { return address >= m.start && address < m.end; };
    auto first = stacks.lower_bound(m.start);
    int kind = 3;
    if (first != stacks.end() && *first < m.end) kind = 2;
    // The loader's list of modules lies in small anonymous memory.
    if ((m.inode != 0 && !m.shared) || segments[i].size <= small_mapping) kind = 1;
    if (holds(image.threads.front().stack_pointer)) kind = 0;
    return std::tuple(kind, kind == 1 ? 0 : segments[i].size, i);
  };
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < count; ++i) order.push_back(i);
  std::ranges::sort(order, {}, rank);
  return order;
}

}  // namespace

CoreLayout lay_out_core(const ProcessImage& image, bool everything) {
  ASSERT(!image.threads.empty());
  std::size_t count = std::min(image.mappings.size(), max_mappings);
  auto notes = notes_of(image);
  std::uint64_t notes_offset = sizeof(Elf64_Ehdr) + (count + 1) * sizeof(Elf64_Phdr);
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < count; ++i) {
    const Mapping& m = image.mappings[i];
    segments.push_back({.address = m.start, .size = dumped_size(m, everything), .offset = 0});
  }
  CoreLayout out;
  out.total = round_up(notes_offset + notes.size(), page_size);
  for (std::size_t i : file_order(image, count, segments)) {
    segments[i].offset = out.total;
    out.total += segments[i].size;
    if (segments[i].size != 0) out.segments.push_back(segments[i]);
  }
  ByteWriter w;
  w.put_bytes(bytes_of(elf_header(count + 1)));
  Elf64_Phdr note{};
  note.p_type = PT_NOTE;
  note.p_offset = notes_offset;
  note.p_filesz = notes.size();
  note.p_align = 4;
  w.put_bytes(bytes_of(note));
  for (std::size_t i = 0; i < count; ++i) {
    auto header = program_header(image.mappings[i], segments[i]);
    w.put_bytes(bytes_of(header));
  }
  ASSERT(w.size() == notes_offset);
  put_padded(w, notes, page_size);
  out.head = w.take();
  return out;
}

CoreStream::CoreStream(CoreLayout layout, ReadMemory read)
    : layout_(std::move(layout)), read_(std::move(read)) {}

void CoreStream::read_memory(std::uint64_t address, MutableBytes out) {
  while (!out.empty()) {
    std::size_t n = std::min(read_(address, out), out.size());
    if (n == 0) {
      // One page that is gone, or was never there.
      n = std::min<std::size_t>(out.size(), page_size - address % page_size);
      std::ranges::fill(out.first(n), std::byte{0});
      unreadable_ += n;
    }
    out = out.subspan(n);
    address += n;
  }
}

std::size_t CoreStream::next(MutableBytes out) {
  std::size_t filled = 0;
  while (filled < out.size() && done_ < layout_.total) {
    MutableBytes rest = out.subspan(filled);
    std::size_t n = 0;
    if (done_ < layout_.head.size()) {
      n = std::min<std::size_t>(rest.size(), layout_.head.size() - done_);
      std::copy_n(layout_.head.begin() + static_cast<std::ptrdiff_t>(done_), n, rest.begin());
    } else {
      const Segment& segment = layout_.segments[segment_];
      std::uint64_t inside = done_ - segment.offset;
      n = std::min<std::uint64_t>(rest.size(), segment.size - inside);
      read_memory(segment.address + inside, rest.first(n));
      if (inside + n == segment.size) ++segment_;
    }
    filled += n;
    done_ += n;
  }
  return filled;
}

}  // namespace duet::coredump
