#include "shelf/cut_network.h"

#include <algorithm>
#include <utility>

namespace duet::shelf {

namespace {

constexpr std::size_t max_sniffed = 8192;  // the initiator's name is in its first login request
constexpr std::size_t scratch_size = 65536;

// RFC 7143 6.1: key=value pairs, each ended by NUL.
std::string initiator_name(std::string_view bytes) {
  constexpr std::string_view key = "InitiatorName=";
  const auto at = bytes.find(key);
  if (at == std::string_view::npos) return {};
  const auto end = bytes.find('\0', at);
  if (end == std::string_view::npos) return {};
  return std::string(bytes.substr(at + key.size(), end - at - key.size()));
}

}  // namespace

// Between the connection below and the handler above. Both see each other through it.
class CutNetwork::Path final : public ports::Stream,
                               public ports::StreamHandler,
                               public std::enable_shared_from_this<Path> {
 public:
  Path(CutNetwork& network, std::string portal, std::shared_ptr<ports::Stream> below)
      : network_(network), portal_(std::move(portal)), below_(std::move(below)) {
    silent_ = is_cut();
  }
  void set_handler(std::shared_ptr<ports::StreamHandler> above) { above_ = std::move(above); }

  void update() {
    if (is_cut())
      silent_ = true;
    else if (std::exchange(silent_, false))
      break_off();
  }
  void break_off() { below_->close(false); }

  // Stream, for the handler above.
  const std::string& peer() const override { return below_->peer(); }
  void send(std::vector<Slice> data) override {
    if (!silent_) below_->send(std::move(data));
  }
  std::size_t pending() const override { return below_->pending(); }
  void resume_reading() override { below_->resume_reading(); }
  void close(bool flush) override { below_->close(flush && !silent_); }

  // StreamHandler, for the connection below.
  MutableBytes receive_buffer() override {
    if (silent_) {
      scratch_.resize(scratch_size);
      return buffer_ = scratch_;
    }
    return buffer_ = above_->receive_buffer();
  }
  void on_received(std::size_t size) override {
    if (buffer_.data() == scratch_.data()) return;  // was cut when the buffer was given
    sniff(buffer_.first(size));
    if (is_cut()) silent_ = true;
    if (silent_) return;
    const auto above = above_;  // it may close the connection from in there
    above->on_received(size);
  }
  void on_sent(std::size_t pending) override {
    const auto above = above_;
    above->on_sent(pending);
  }
  // The handler above owns us as its stream: let go of it, or neither ever goes.
  void on_closed() override { std::exchange(above_, nullptr)->on_closed(); }

 private:
  bool is_cut() const {
    return network_.cut_.contains(portal_) || network_.cut_.contains(initiator_);
  }
  void sniff(Bytes bytes) {
    if (!initiator_.empty() || sniffed_.size() >= max_sniffed) return;
    sniffed_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    initiator_ = initiator_name(sniffed_);
  }

  CutNetwork& network_;
  std::string portal_;
  std::string initiator_;
  std::string sniffed_;
  std::shared_ptr<ports::Stream> below_;
  std::shared_ptr<ports::StreamHandler> above_;
  std::vector<std::byte> scratch_;
  MutableBytes buffer_;
  bool silent_ = false;
};

namespace {

// A connection nobody wants: to a shelf without power.
class Refused final : public ports::StreamHandler {
 public:
  explicit Refused(const std::shared_ptr<ports::Stream>& stream) { stream->close(false); }
  MutableBytes receive_buffer() override { return {}; }
  void on_received(std::size_t) override {}
  void on_sent(std::size_t) override {}
  void on_closed() override {}
};

}  // namespace

Result<std::unique_ptr<ports::Listener>> CutNetwork::listen(const std::string& address,
                                                            std::uint16_t port, bool foreign,
                                                            Accept accept) {
  auto chosen = std::make_shared<std::uint16_t>(port);
  auto listener = below_.listen(
      address, port, foreign,
      [this, address, chosen, accept = std::move(accept)](
          std::shared_ptr<ports::Stream> stream) mutable -> std::shared_ptr<ports::StreamHandler> {
        if (!powered_) return std::make_shared<Refused>(stream);
        forget_closed();
        auto path = std::make_shared<Path>(*this, address + ":" + std::to_string(*chosen), stream);
        auto above = accept(path);
        if (!above) return nullptr;
        path->set_handler(std::move(above));
        paths_.push_back(path);
        return path;
      });
  if (listener) *chosen = (*listener)->port();
  return listener;
}

void CutNetwork::forget_closed() {
  std::erase_if(paths_, [](const auto& path) { return path.expired(); });
}

void CutNetwork::cut(const std::string& name) {
  cut_.insert(name);
  for (auto& weak : paths_)
    if (auto path = weak.lock()) path->update();
}

void CutNetwork::restore(const std::string& name) {
  cut_.erase(name);
  for (auto& weak : paths_)
    if (auto path = weak.lock()) path->update();
}

void CutNetwork::restore_all() {
  while (!cut_.empty()) restore(*cut_.begin());
}

void CutNetwork::power(bool on) {
  powered_ = on;
  if (on) return;
  for (auto& weak : paths_)
    if (auto path = weak.lock()) path->break_off();
}

}  // namespace duet::shelf
