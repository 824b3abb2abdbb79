// A network whose paths can be cut, for tests: what a pulled cable or a dead power supply does to
// iSCSI connections. Wraps the real one.
//
// A cut path is silent: bytes vanish in both directions and nothing is closed. Restoring it breaks
// the connections that lost bytes, as nobody can go on with them. New connections of a cut portal
// or initiator are accepted and as silent. Without power every connection breaks at once.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "ports/stream.h"

namespace duet::shelf {

class CutNetwork final : public ports::Network {
 public:
  explicit CutNetwork(ports::Network& below) : below_(below) {}

  // The portal's name is "address:port" with the port that was chosen.
  Result<std::unique_ptr<ports::Listener>> listen(const std::string& address, std::uint16_t port,
                                                  bool foreign, Accept accept) override;

  // `name`: a portal, or an initiator's iSCSI name, which is seen in its login.
  void cut(const std::string& name);
  void restore(const std::string& name);
  void restore_all();
  void power(bool on);
  const std::set<std::string>& cut_names() const { return cut_; }
  bool powered() const { return powered_; }

 private:
  class Path;  // one connection
  void forget_closed();

  ports::Network& below_;
  std::set<std::string> cut_;
  bool powered_ = true;
  std::vector<std::weak_ptr<Path>> paths_;
};

}  // namespace duet::shelf
