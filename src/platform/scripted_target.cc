#include "platform/scripted_target.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

namespace duet::platform {

using boost::asio::ip::tcp;

namespace {

constexpr std::size_t header_size = 48;
using Header = std::array<std::byte, header_size>;

std::uint8_t get(const Header& h, std::size_t i) {
  return std::to_integer<std::uint8_t>(h[i]);
}

void append(std::vector<std::byte>& to, std::string_view text) {
  for (char c : text) to.push_back(static_cast<std::byte>(c));
}

}  // namespace

struct ScriptedTarget::Connection : std::enable_shared_from_this<Connection> {
  Connection(ScriptedTarget& t, tcp::socket s) : target(&t), socket(std::move(s)) {}

  void read() {
    boost::asio::async_read(socket, boost::asio::buffer(header),
                            [self = shared_from_this()](auto error, std::size_t) {
                              if (!error && self->target != nullptr) self->read_data();
                            });
  }
  void read_data() {
    std::size_t length = load_be<std::uint32_t>(&header[4]) & 0xffffff;
    data.resize((length + 3) / 4 * 4);
    boost::asio::async_read(socket, boost::asio::buffer(data),
                            [self = shared_from_this(), length](auto error, std::size_t) {
                              if (error || self->target == nullptr) return;
                              self->data.resize(length);
                              self->on_pdu();
                              self->read();
                            });
  }
  void on_pdu() {
    switch (get(header, 0) & 0x3f) {
      case 0x03:
        return on_login();
      case 0x01:
        return on_command();
      default:
        return;  // Data-Out: taken and forgotten
    }
  }

  // RFC 7143 11.13
  void on_login() {
    if (!target->answer_login) return;
    std::memcpy(target->isid.data(), &header[8], 6);
    auto flags = get(header, 1);
    bool security = (flags & 0x0c) == 0;
    std::vector<std::byte> text;
    if (security) {
      append(text, std::string_view("AuthMethod=None\0TargetPortalGroupTag=1\0", 39));
    } else {
      append(text, std::string_view("HeaderDigest=None\0DataDigest=None\0", 34));
      append(text, target->unsolicited_data ? std::string_view("InitialR2T=No\0", 14)
                                            : std::string_view("InitialR2T=Yes\0", 15));
      append(text, target->unsolicited_data
                       ? std::string_view("MaxRecvDataSegmentLength=4096\0", 30)
                       : std::string_view("MaxRecvDataSegmentLength=262144\0", 32));
      append(text, std::string_view("ImmediateData=Yes\0FirstBurstLength=262144\0", 42));
    }
    Header reply{};
    reply[0] = std::byte{0x23};
    reply[1] = header[1];
    std::memcpy(&reply[8], &header[8], 6);
    bool full_feature = (flags & 0x83) == 0x83;
    if (full_feature) {
      reply[15] = std::byte{1};  // TSIH
      ++target->logins;
    }
    expected_command = load_be<std::uint32_t>(&header[24]);
    send(reply, std::move(text));
  }

  void on_command() {
    ++expected_command;
    Request request;
    std::memcpy(request.cdb.data(), &header[32], 16);
    request.data = data;
    request.expected = load_be<std::uint32_t>(&header[20]);
    target->requests.push_back(request);
    auto answer = target->script ? target->script(request) : target->usual(request);
    if (!answer) return;
    Header reply{};
    std::memcpy(&reply[16], &header[16], 4);
    std::vector<std::byte> segment;
    if (answer->status == 0 && !answer->data_in.empty()) {
      segment = std::move(answer->data_in);
      segment.resize(std::min<std::size_t>(segment.size(), request.expected));
      reply[0] = std::byte{0x25};
      reply[1] = std::byte{0x81};
      store_be<std::uint32_t>(&reply[20], 0xffffffff);
      if (segment.size() < request.expected) {
        reply[1] = std::byte{0x83};
        store_be(&reply[44], static_cast<std::uint32_t>(request.expected - segment.size()));
      }
    } else {
      reply[0] = std::byte{0x21};
      reply[1] = std::byte{0x80};
      reply[3] = std::byte{answer->status};
      if (answer->status == 2) {
        segment.resize(20);
        segment[1] = std::byte{18};
        segment[2] = std::byte{0x70};
        segment[4] = std::byte{answer->sense_key};
        segment[9] = std::byte{10};
        store_be(&segment[14], answer->sense_code);
      }
    }
    send(reply, std::move(segment));
  }

  void send(Header& reply, std::vector<std::byte> segment) {
    store_be(&reply[4], static_cast<std::uint32_t>(segment.size()));
    if (get(reply, 0) == 0x23) std::memcpy(&reply[16], &header[16], 4);
    store_be(&reply[24], status_number++);
    store_be(&reply[28], expected_command);
    store_be(&reply[32], expected_command + 64);
    segment.resize((segment.size() + 3) / 4 * 4);
    segment.insert(segment.begin(), reply.begin(), reply.end());
    // The tests' answers are small: the socket takes them whole.
    boost::system::error_code error;
    boost::asio::write(socket, boost::asio::buffer(segment), error);
  }

  ScriptedTarget* target;  // nullptr: dropped
  tcp::socket socket;
  Header header{};
  std::vector<std::byte> data;
  std::uint32_t status_number = 1;
  std::uint32_t expected_command = 0;
};

ScriptedTarget::ScriptedTarget(EventLoop& loop)
    : acceptor_(loop.io(), tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0)),
      endpoint_(acceptor_.local_endpoint()) {
  // Small, so that large writes pile up at the initiator. Inherited by the connections.
  acceptor_.set_option(tcp::acceptor::receive_buffer_size(65536));
  accept();
}

ScriptedTarget::~ScriptedTarget() {
  drop_connections();
}

std::string ScriptedTarget::portal() const {
  return fmt::format("127.0.0.1:{}", endpoint_.port());
}

void ScriptedTarget::accept() {
  acceptor_.async_accept([this](auto error, tcp::socket socket) {
    if (error) return;
    connections_.push_back(std::make_shared<Connection>(*this, std::move(socket)));
    connections_.back()->read();
    accept();
  });
}

void ScriptedTarget::drop_connections() {
  for (auto& connection : connections_) {
    connection->target = nullptr;
    connection->socket.close();
  }
  connections_.clear();
}

void ScriptedTarget::set_listening(bool on) {
  if (!on) return acceptor_.close();
  acceptor_.open(endpoint_.protocol());
  acceptor_.set_option(tcp::acceptor::reuse_address(true));
  acceptor_.bind(endpoint_);
  acceptor_.listen();
  accept();
}

std::optional<ScriptedTarget::Answer> ScriptedTarget::usual(const Request& request) const {
  Answer answer;
  auto reply = [&](std::size_t size) {
    answer.data_in.resize(size);
    return answer.data_in.data();
  };
  switch (request.cdb[0]) {
    case 0x12:  // INQUIRY
      if (request.cdb[2] == 0x80) {
        auto* p = reply(4 + serial.size());
        p[1] = std::byte{0x80};
        store_be(p + 2, static_cast<std::uint16_t>(serial.size()));
        std::memcpy(p + 4, serial.data(), serial.size());
      } else {
        auto* p = reply(64);
        p[1] = std::byte{0xb0};
        store_be<std::uint16_t>(p + 2, 60);
        store_be(p + 8, max_transfer_blocks);
      }
      break;
    case 0x9e: {  // READ CAPACITY(16)
      auto* p = reply(32);
      store_be(p, blocks - 1);
      store_be<std::uint32_t>(p + 8, 512);
      break;
    }
    case 0x1a: {  // MODE SENSE(6), caching page
      auto* p = reply(24);
      p[0] = std::byte{23};
      p[4] = std::byte{0x08};
      p[5] = std::byte{18};
      p[6] = write_cache ? std::byte{4} : std::byte{0};
      break;
    }
    case 0x88:  // READ(16)
      std::ranges::fill_n(reply(request.expected), request.expected, std::byte{0x5a});
      break;
    default:
      break;
  }
  return answer;
}

}  // namespace duet::platform
