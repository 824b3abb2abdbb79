#include "control_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cstring>

namespace duet {

using Protocol = boost::asio::local::stream_protocol;

struct ControlSocket::Server : std::enable_shared_from_this<Server> {
  Server(boost::asio::io_context& io, std::string socket_path, Execute run)
      : acceptor(io), path(std::move(socket_path)), execute(std::move(run)) {}
  void accept();

  Protocol::acceptor acceptor;
  std::string path;
  Execute execute;
  std::size_t clients = 0;
};

struct ControlSocket::Client : std::enable_shared_from_this<Client> {
  Client(Protocol::socket s, std::shared_ptr<Server> owner)
      : socket(std::move(s)), server(std::move(owner)) {
    ++server->clients;
  }
  ~Client() { --server->clients; }

  void read() {
    boost::asio::async_read_until(socket, boost::asio::dynamic_buffer(in, max_control_line), '\n',
                                  [self = shared_from_this()](const auto& error, std::size_t size) {
                                    if (error) return;  // gone, or a line without end
                                    const auto line = self->in.substr(0, size - 1);
                                    self->in.erase(0, size);
                                    self->out = self->server->execute(line) + "\n";
                                    boost::asio::async_write(
                                        self->socket, boost::asio::buffer(self->out),
                                        [self](const auto& failed, std::size_t) {
                                          if (!failed) self->read();
                                        });
                                  });
  }

  Protocol::socket socket;
  std::shared_ptr<Server> server;
  std::string in, out;
};

void ControlSocket::Server::accept() {
  acceptor.async_accept([self = shared_from_this()](const auto& error, Protocol::socket socket) {
    if (error) return;  // closed
    if (self->clients < max_control_clients)
      std::make_shared<Client>(std::move(socket), self)->read();
    self->accept();
  });
}

Result<std::unique_ptr<ControlSocket>> ControlSocket::open(platform::EventLoop& loop,
                                                           const std::string& path,
                                                           Execute execute) {
  if (path.size() >= sizeof(sockaddr_un::sun_path))
    return fail(ErrorCode::invalid, path + ": too long for a socket's name");
  if (ask_control(path, "status", seconds(1)))
    return fail(ErrorCode::already_exists, path + ": another shelf answers there");
  ::unlink(path.c_str());
  auto server = std::make_shared<Server>(loop.io(), path, std::move(execute));
  boost::system::error_code error;
  server->acceptor.open(Protocol(), error);
  if (!error) server->acceptor.bind(Protocol::endpoint(path), error);
  if (!error) server->acceptor.listen(boost::asio::socket_base::max_listen_connections, error);
  if (error) return fail(ErrorCode::io_error, path + ": " + error.message());
  server->accept();
  return std::unique_ptr<ControlSocket>(new ControlSocket(std::move(server)));
}

ControlSocket::~ControlSocket() {
  boost::system::error_code ignored;
  server_->acceptor.close(ignored);
  ::unlink(server_->path.c_str());
}

Result<std::string> ask_control(const std::string& path, const std::string& line,
                                Duration timeout) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(ErrorCode::io_error, std::strerror(errno));
  std::unique_ptr<const int, void (*)(const int*)> closer(&fd, [](const int* f) { ::close(*f); });
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(ErrorCode::invalid, path + ": too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail(ErrorCode::disconnected, path + ": " + std::strerror(errno));
  const std::string request = line + "\n";
  if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    return fail(ErrorCode::disconnected, path + ": " + std::strerror(errno));
  std::string answer;
  const auto wait = std::chrono::duration_cast<milliseconds>(timeout).count();
  while (answer.empty() || answer.back() != '\n') {
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(wait)) == 0)
      return fail(ErrorCode::timed_out, path + " does not answer");
    char buffer[1024];
    const auto n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) return fail(ErrorCode::disconnected, path + " closed the connection");
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  answer.pop_back();
  return answer;
}

}  // namespace duet
