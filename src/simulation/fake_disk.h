// A disk in memory: FakeMedium is the device (bytes, volatile cache, reservations, power), FakeDisk
// one path to it, an I_T nexus with its own registration. Completions come from the scheduler after
// a random latency, so that operations overtake each other.
//
// Power: writes in flight and writes in the volatile cache survive a power cut sector by sector, by
// chance; durable ones and flushed ones always do.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ports/disk.h"
#include "simulation/disk_image.h"
#include "simulation/random.h"

namespace duet::simulation {

class FakeDisk;
class FakeMedium;

enum class DiskOperation : std::uint8_t { read, write, flush };

// A write or flush begins, or has ended well.
struct DiskEvent {
  std::uint64_t operation = 0;  // number; the same when it ends
  bool ended = false;
  bool flush = false;
  bool durable = false;      // of a write
  std::uint64_t offset = 0;  // of a write
  std::vector<Slice> data;   // of a write that begins
};

// The plug in the wall for several media. `cut_at(n)`: power fails as the n-th write or flush from
// now (1, 2, ...) is under way.
class PowerSupply {
 public:
  void cut_at(std::uint64_t operation) { countdown_ = operation; }
  std::uint64_t operations() const { return operations_; }  // writes and flushes so far
  bool on() const { return on_; }
  void cut();
  void restore();

 private:
  friend class FakeMedium;
  friend class FakeDisk;
  void count();
  bool on_ = true;
  std::uint64_t operations_ = 0;
  std::uint64_t countdown_ = 0;
  std::vector<FakeMedium*> media_;
};

class FakeMedium {
 public:
  struct Options {
    std::string name = "fake/0";
    std::uint64_t size = 16 << 20;  // bytes
    std::uint32_t block_size = 512;
    bool volatile_cache = true;
    Duration latency_max = milliseconds(2);
    std::size_t queue_depth = 64;  // operations under way on one path; more: busy
    std::uint64_t seed = 1;
  };
  FakeMedium(ports::Scheduler& scheduler, Options options, PowerSupply* power = nullptr);
  ~FakeMedium();
  FakeMedium(const FakeMedium&) = delete;
  FakeMedium& operator=(const FakeMedium&) = delete;

  std::unique_ptr<FakeDisk> connect();  // a new nexus
  void power_cut();                     // disconnects every path; in-flight operations fail
  void power_restore();

  // Asked for each read, write and flush as it starts; an error is its result and nothing else
  // happens.
  std::function<std::optional<ErrorCode>(DiskOperation, std::uint64_t offset, std::uint64_t size)>
      fault;

  // How long an operation takes that starts now; nothing: by chance.
  std::function<std::optional<Duration>(DiskOperation, std::uint64_t offset, std::uint64_t size)>
      latency;

  // Told everything that may change the medium.
  std::function<void(DiskEvent)> watch;

  const Options& options() const { return options_; }
  // What is on the medium, without the cache; other contents for it, which nobody may be using.
  const DiskImage& image() const { return bytes_; }
  void load(DiskImage image);
  // What a reader sees (cache included), without I/O.
  std::vector<std::byte> peek(std::uint64_t offset, std::uint64_t size) const;
  // Changes the medium behind everyone's back: damage.
  void poke(std::uint64_t offset, Bytes bytes);
  std::uint64_t bytes_written() const { return bytes_written_; }
  std::size_t writes_in_flight_max() const { return writes_in_flight_max_; }

 private:
  friend class FakeDisk;
  struct InFlight {
    FakeDisk* path = nullptr;
    DiskOperation operation{};
    bool durable = false;
    std::uint64_t offset = 0;
    std::vector<Slice> data;  // of a write
    MutableBytes into;        // of a read that takes the data at its end
    ports::Done<void> done;
    ports::TimerId timer;
  };
  struct CachedPage {
    std::array<std::byte, DiskImage::page_size> bytes;
    std::uint8_t sectors = 0;  // bit i: sector i of the page is newer than the medium
  };

  void start(InFlight operation, std::uint64_t size);
  void complete(std::uint64_t id);
  void abort(FakeDisk* path, ErrorCode code);  // nothing of its operations happens any more
  void look(std::uint64_t offset, MutableBytes into) const;
  void store(std::uint64_t offset, const std::vector<Slice>& data, bool durable);
  void store(std::uint64_t offset, Bytes data, bool durable);
  void flush();
  bool may_read(const FakeDisk* path) const;
  bool may_write(const FakeDisk* path) const;

  ports::Scheduler& scheduler_;
  Options options_;
  PowerSupply* power_;
  Random random_;
  bool powered_ = true;
  DiskImage bytes_;                            // what survives
  std::map<std::uint64_t, CachedPage> cache_;  // by page number
  std::map<std::uint64_t, InFlight> in_flight_;
  std::size_t writes_in_flight_ = 0;
  std::uint64_t last_operation_ = 0;
  std::uint64_t bytes_written_ = 0;
  std::size_t writes_in_flight_max_ = 0;
  std::set<FakeDisk*> paths_;
  // Reservations persist (APTPL = 1). By nexus number, so that they outlive the path object.
  std::uint64_t last_nexus_ = 0;
  std::uint32_t generation_ = 0;
  std::map<std::uint64_t, ReservationKey> registered_;
  std::optional<std::uint64_t> holder_;
  ports::ReservationType type_{};
};

class FakeDisk : public ports::Disk {
 public:
  ~FakeDisk() override;
  const std::string& name() const override;
  bool connected() const override { return connected_ && medium_.powered_; }
  const ports::DiskGeometry& geometry() const override { return geometry_; }
  void on_connection(std::move_only_function<void(bool)> callback) override;
  void on_attention(std::move_only_function<void(ports::Attention)> callback) override;
  void read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) override;
  void write(std::uint64_t offset, std::vector<Slice> data, bool durable,
             ports::Done<void> done) override;
  void flush(ports::Done<void> done) override;
  void register_key(ReservationKey key, ports::Done<void> done) override;
  void reserve(ReservationKey key, ports::ReservationType type, ports::Done<void> done) override;
  void release(ReservationKey key, ports::ReservationType type, ports::Done<void> done) override;
  void preempt(ReservationKey key, ReservationKey victim, ports::ReservationType type, bool abort,
               ports::Done<void> done) override;
  void read_keys(ports::Done<ports::RegisteredKeys> done) override;
  void read_reservation(ports::Done<ports::ReservationState> done) override;

  // The cable of this path alone.
  void disconnect();
  void reconnect();

 private:
  friend class FakeMedium;
  FakeDisk(FakeMedium& medium, std::uint64_t nexus);
  // Reserved here under `key`? Else the conflict.
  Status check_registered(ReservationKey key) const;
  void reservation_out(std::move_only_function<Status()> change, ports::Done<void> done);
  std::optional<Error> refuse(DiskOperation operation, std::uint64_t offset, std::uint64_t size);
  void refused(Error error, ports::Done<void> done);
  void tell_connection(bool connected);
  void tell(ports::Attention attention);

  FakeMedium& medium_;
  std::uint64_t nexus_;
  ports::DiskGeometry geometry_;
  bool connected_ = true;
  std::size_t in_flight_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::move_only_function<void(bool)> on_connection_;
  std::move_only_function<void(ports::Attention)> on_attention_;
};

}  // namespace duet::simulation
