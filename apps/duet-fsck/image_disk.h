// A disk of a pool that is checked: an image file or a block device. It is only read; what is
// written to it, as a recovery does, stays in memory and is read back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "platform/descriptor.h"
#include "ports/disk.h"

namespace duet {

class ImageDisk final : public ports::Disk {
 public:
  // Errors: busy (somebody serves it, or it is mounted), io_error, not_found. `in_use`: take it all
  // the same.
  static Result<std::unique_ptr<ImageDisk>> open(ports::Scheduler& scheduler,
                                                 const std::string& path, bool in_use);

  const std::string& name() const override { return path_; }
  bool connected() const override { return true; }
  const ports::DiskGeometry& geometry() const override { return geometry_; }
  void on_connection(std::move_only_function<void(bool)>) override {}
  void on_attention(std::move_only_function<void(ports::Attention)>) override {}
  void read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) override;
  void write(std::uint64_t offset, std::vector<Slice> data, bool durable,
             ports::Done<void> done) override;
  void flush(ports::Done<void> done) override;
  void register_key(ReservationKey, ports::Done<void> done) override { refuse(std::move(done)); }
  void reserve(ReservationKey, ports::ReservationType, ports::Done<void> done) override {
    refuse(std::move(done));
  }
  void release(ReservationKey, ports::ReservationType, ports::Done<void> done) override {
    refuse(std::move(done));
  }
  void preempt(ReservationKey, ReservationKey, ports::ReservationType, bool,
               ports::Done<void> done) override {
    refuse(std::move(done));
  }
  void read_keys(ports::Done<ports::RegisteredKeys> done) override { refuse(std::move(done)); }
  void read_reservation(ports::Done<ports::ReservationState> done) override {
    refuse(std::move(done));
  }

 private:
  ImageDisk(ports::Scheduler& scheduler, std::string path, int file)
      : scheduler_(scheduler), path_(std::move(path)), file_(file) {}
  Status measure();
  Status read_now(std::uint64_t offset, MutableBytes into) const;

  template <class T>
  void refuse(ports::Done<T> done) {
    scheduler_.post([done = std::move(done)]() mutable {
      done(fail(ErrorCode::refused, "duet-fsck only reads"));
    });
  }

  ports::Scheduler& scheduler_;
  std::string path_;
  platform::Descriptor file_;
  ports::DiskGeometry geometry_;
  std::map<std::uint64_t, std::vector<std::byte>> written_;  // blocks by number
};

}  // namespace duet
