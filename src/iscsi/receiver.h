// Cuts the bytes of a connection into protocol data units. The transport receives straight into our
// chunks; data segments are handed on as slices of them, never copied.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "iscsi/limits.h"
#include "iscsi/pdu.h"

namespace duet::iscsi {

struct ReceivedPdu {
  std::array<std::byte, header_size> header{};
  std::vector<std::byte> additional_header;
  std::vector<Slice> data;  // without padding
  std::size_t data_size = 0;
};

class Receiver {
 public:
  // Room for the next bytes; empty when units wait to be taken by next() and nothing more fits.
  MutableBytes buffer();
  // `size` bytes have arrived in buffer().
  void received(std::size_t size);

  enum class Outcome : std::uint8_t {
    need_more,
    pdu,           // complete, digests right
    digest_error,  // header or data digest wrong; the connection is of no more use
    too_long,      // data segment above the limit; likewise
  };
  Outcome next(ReceivedPdu& pdu);

  void set_digests(bool header, bool data);  // from the next unit on
  void set_max_data_segment(std::size_t size) { max_data_ = size; }
  // Between two units?
  bool idle() const { return part_ == Part::header && collected_ == 0 && parsed_ == filled_; }

 private:
  enum class Part : std::uint8_t { header, additional_header, data, trailer };
  using Chunk = std::shared_ptr<std::byte[]>;

  Chunk fresh_chunk();
  bool collect(std::span<std::byte> target);
  bool take_data();
  bool header_digest_ok() const;
  bool data_digest_ok() const;

  Chunk chunk_;
  std::size_t filled_ = 0;  // bytes of chunk_ received
  std::size_t parsed_ = 0;  // and taken by next()
  std::vector<Chunk> retired_;

  Part part_ = Part::header;
  std::size_t collected_ = 0;  // bytes of the current part
  ReceivedPdu unit_;
  std::vector<std::byte> extra_;  // additional header with its digest
  std::size_t data_left_ = 0;
  std::array<std::byte, 8> trailer_{};  // padding and data digest
  std::size_t trailer_size_ = 0;
  std::size_t max_data_ = max_login_data_segment;
  bool header_digest_ = false;
  bool data_digest_ = false;
};

}  // namespace duet::iscsi
