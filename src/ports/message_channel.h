// An ordered, reliable channel of whole messages between two processes of one machine.
#pragma once

#include <functional>
#include <vector>

#include "base/bytes.h"

namespace duet::ports {

class MessageChannel {
 public:
  virtual ~MessageChannel() = default;
  // Never blocks. A peer that does not read until a bound is full loses the channel (on_closed).
  virtual void send(std::vector<std::byte> message) = 0;
  virtual void on_message(std::move_only_function<void(Bytes message)> callback) = 0;
  virtual void on_closed(std::move_only_function<void()> callback) = 0;
};

}  // namespace duet::ports
