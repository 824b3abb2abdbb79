// Assembles answers: headers and small data from an arena, large data as the slices they are.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "iscsi/pdu.h"

namespace duet::iscsi {

class Sender {
 public:
  void set_digests(bool header, bool data);

  template <class Pdu>
  void put(const Pdu& pdu, std::vector<Slice>& out) {
    put(pdu, std::span<const Slice>(), 0, out);
  }
  // `data_size` is the sum of `data`.
  template <class Pdu>
  void put(const Pdu& pdu, std::span<const Slice> data, std::size_t data_size,
           std::vector<Slice>& out) {
    MutableBytes room = allocate(header_size + (header_digest_ ? digest_size : 0));
    encode(pdu, data_size, room.first<header_size>());
    finish_header(room, out);
    if (data_size > 0) put_data(data, data_size, out);
  }
  // Data that is copied into the arena.
  template <class Pdu>
  void put_copy(const Pdu& pdu, Bytes data, std::vector<Slice>& out) {
    Slice slice = copy(data);
    put(pdu, std::span(&slice, 1), data.size(), out);
  }

 private:
  // Valid until the next allocate(); becomes part of `out` through append().
  MutableBytes allocate(std::size_t size);
  Slice copy(Bytes data);
  void append(Bytes bytes, std::vector<Slice>& out);
  void finish_header(MutableBytes room, std::vector<Slice>& out);
  void put_data(std::span<const Slice> data, std::size_t data_size, std::vector<Slice>& out);

  std::shared_ptr<std::byte[]> arena_;
  std::size_t used_ = 0;
  bool header_digest_ = false;
  bool data_digest_ = false;
};

}  // namespace duet::iscsi
