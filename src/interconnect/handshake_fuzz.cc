// A stranger on either end of the handshake: frames cut out of the fuzzer's bytes (length byte
// pair, then the frame; checksums made right). Without the secret nobody is ever admitted.
#include "base/crc32c.h"
#include "interconnect/handshake.h"

using namespace duet;
using namespace duet::interconnect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Self self;
  self.cluster = ClusterId(0x1122334455664d2a);
  self.node = NodeId(1);
  self.nonce = BootNonce(5);
  self.secret.assign(min_secret_size, std::byte{0x5a});
  DialerHandshake dialer(self, Challenge{});
  self.node = NodeId(2);
  AcceptorHandshake acceptor(self, Challenge{});
  ByteReader r(Bytes(reinterpret_cast<const std::byte*>(data), size));
  while (r.remaining() > 2) {
    auto length = r.get<std::uint16_t>();
    Bytes part = r.get_bytes(std::min<std::size_t>(length, r.remaining()));
    std::vector<std::byte> frame(part.begin(), part.end());
    if (frame.size() >= 4) store_le(frame.data(), crc32c(Bytes(frame).subspan(4)));
    ASSERT(dialer.on_frame(frame).outcome != DialerHandshake::Step::Outcome::admitted);
    ASSERT(acceptor.on_frame(frame).outcome != AcceptorHandshake::Step::Outcome::authenticated);
  }
  return 0;
}
