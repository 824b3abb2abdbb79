// Commands to a running load program: lines on its standard input or on a Unix socket, one answer
// line for each. Bounded: max_clients connections, max_line bytes of a line.
#pragma once

#include <poll.h>

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace duet::load {

class CommandChannel {
 public:
  static constexpr std::size_t max_clients = 8;
  static constexpr std::size_t max_line = 256;
  // Answers a command line without its newline.
  using Handler = std::function<std::string(const std::string& line)>;

  explicit CommandChannel(Handler handler) : handler_(std::move(handler)) {}
  ~CommandChannel();
  CommandChannel(const CommandChannel&) = delete;
  CommandChannel& operator=(const CommandChannel&) = delete;

  // Answers go to standard output. `on_end` is called when the input ends: who commanded us is
  // gone.
  void use_stdin(std::function<void()> on_end);
  // Error: io_error, invalid (path too long).
  Status listen(const std::string& path);

  void add_to(std::vector<pollfd>& polled) const;
  void service(const std::vector<pollfd>& polled);

 private:
  struct Client {
    int in;
    int out;
    std::string partial;
  };
  bool receive(Client& client);  // false: ended

  Handler handler_;
  std::function<void()> on_stdin_end_;
  std::string path_;
  int listener_ = -1;
  std::vector<Client> clients_;
};

}  // namespace duet::load
