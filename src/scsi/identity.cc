#include "scsi/identity.h"

#include <algorithm>

namespace duet::scsi {

namespace {

using Buffer = std::vector<std::byte>;

void put_be(Buffer& out, std::uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

// Left-aligned, filled with `fill`, cut to `size`.
void put_text(Buffer& out, std::string_view text, std::size_t size, char fill = ' ') {
  for (std::size_t i = 0; i < size; ++i)
    out.push_back(static_cast<std::byte>(i < text.size() ? text[i] : fill));
}

enum class Association : std::uint8_t { unit = 0, port = 1, device = 2 };
enum class Designator : std::uint8_t {
  vendor = 1,
  naa = 3,
  relative_port = 4,
  port_group = 5,
  name = 8
};
enum class CodeSet : std::uint8_t { binary = 1, ascii = 2, utf8 = 3 };

void put_designator(Buffer& out, Association association, Designator type, CodeSet code,
                    const Buffer& value) {
  const bool of_transport = association != Association::unit;
  put_be(out, (of_transport ? 0x50u : 0u) | static_cast<unsigned>(code), 1);
  put_be(out,
         (of_transport ? 0x80u : 0u) | static_cast<unsigned>(association) << 4 |
             static_cast<unsigned>(type),
         1);
  put_be(out, 0, 1);
  put_be(out, value.size(), 1);
  out.insert(out.end(), value.begin(), value.end());
}

// UTF-8, ends with NUL, filled to a multiple of four (SPC-4 7.8.6.11).
Buffer name_string(std::string text) {
  constexpr std::size_t longest = 252;
  text.resize(std::min(text.size(), longest - 1));
  Buffer out;
  put_text(out, text, (text.size() / 4 + 1) * 4, '\0');
  return out;
}

Buffer device_identification(const UnitConfig& config, std::uint16_t port) {
  Buffer out, value;
  put_be(value, (config.naa & 0x0fffffffffffffff) | 0x3000000000000000, 8);
  put_designator(out, Association::unit, Designator::naa, CodeSet::binary, value);
  value.clear();
  put_text(value, config.vendor, 8);
  put_text(value, config.serial, config.serial.size());
  put_designator(out, Association::unit, Designator::vendor, CodeSet::ascii, value);
  value.clear();
  put_be(value, port, 4);
  put_designator(out, Association::port, Designator::relative_port, CodeSet::binary, value);
  value.clear();
  put_be(value, 1, 4);
  put_designator(out, Association::port, Designator::port_group, CodeSet::binary, value);
  char tag[16];
  std::snprintf(tag, sizeof tag, ",t,0x%04x", port);
  put_designator(out, Association::port, Designator::name, CodeSet::utf8,
                 name_string(config.target_name + tag));
  put_designator(out, Association::device, Designator::name, CodeSet::utf8,
                 name_string(config.target_name));
  return out;
}

// SPC-4 table 554.
Buffer extended_inquiry(const UnitConfig& config) {
  Buffer out(60);
  out[1] = std::byte{0x07};  // HEADSUP, ORDSUP, SIMPSUP
  if (config.write_cache || config.write_cache_changeable) out[2] = std::byte{0x01};  // V_SUP
  return out;
}

// SBC-3 table 189.
Buffer block_limits(const UnitConfig& config) {
  const std::uint32_t transfer = config.max_transfer / config.block_size;
  Buffer out;
  put_be(out, 0x01, 1);  // WSNZ: WRITE SAME of 0 blocks is refused
  put_be(out, max_compare_and_write(config), 1);
  put_be(out, 4096 / config.block_size, 2);  // optimal granularity
  put_be(out, transfer, 4);
  put_be(out, transfer, 4);  // optimal
  put_be(out, transfer, 4);  // prefetch
  put_be(out, config.thin ? 0xffffffff : 0, 4);
  put_be(out, config.thin ? max_unmap_descriptors : 0, 4);
  put_be(out, config.thin ? 4096 / config.block_size : 0, 4);
  put_be(out, config.thin ? 0x80000000 : 0, 4);  // UGAVALID, alignment 0
  put_be(out, max_write_same_bytes / config.block_size, 8);
  out.resize(60);
  return out;
}

// SBC-3 table 186.
Buffer characteristics() {
  Buffer out;
  put_be(out, 1, 2);  // not rotating
  out.resize(60);
  return out;
}

// SBC-3 table 192.
Buffer provisioning(const UnitConfig& config) {
  Buffer out;
  put_be(out, 0, 1);
  put_be(out, config.thin ? 0xe4 : 0x00, 1);  // LBPU, LBPWS, LBPWS10, LBPRZ = 1
  put_be(out, config.thin ? 2 : 0, 1);        // thin
  put_be(out, 0, 1);
  return out;
}

constexpr std::uint8_t pages[] = {0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2};

}  // namespace

std::uint32_t max_compare_and_write(const UnitConfig& config) {
  return std::min<std::uint32_t>(255, config.max_transfer / config.block_size / 2);
}

std::vector<std::byte> standard_inquiry(const UnitConfig& config) {
  Buffer out;
  put_be(out, 0x00, 1);  // connected, direct access block device
  put_be(out, 0x00, 1);
  put_be(out, 0x06, 1);                                // SPC-4
  put_be(out, 0x12, 1);                                // HISUP, response data format 2
  put_be(out, 0, 1);                                   // additional length, set below
  put_be(out, 0x10, 1);                                // TPGS: implicit
  put_be(out, config.target_ports > 1 ? 0x10 : 0, 1);  // MULTIP
  put_be(out, 0x02, 1);                                // CMDQUE
  put_text(out, config.vendor, 8);
  put_text(out, config.product, 16);
  put_text(out, config.revision, 4);
  out.resize(58);
  for (std::uint16_t version : {0x00a0, 0x0460, 0x04c0, 0x0960})  // SAM-5, SPC-4, SBC-3, iSCSI
    put_be(out, version, 2);
  out.resize(96);
  out[4] = static_cast<std::byte>(out.size() - 5);
  return out;
}

std::vector<std::byte> absent_inquiry() {
  Buffer out;
  put_be(out, 0x7f, 1);
  put_be(out, 0, 1);
  put_be(out, 0x06, 1);
  put_be(out, 0x12, 1);
  put_be(out, 31, 1);
  out.resize(36);
  return out;
}

std::optional<std::vector<std::byte>> vital_product_data(std::uint8_t page,
                                                         const UnitConfig& config,
                                                         std::uint16_t port) {
  Buffer body;
  switch (page) {
    case 0x00:
      for (auto p : pages) put_be(body, p, 1);
      break;
    case 0x80:
      put_text(body, config.serial, config.serial.size());
      break;
    case 0x83:
      body = device_identification(config, port);
      break;
    case 0x86:
      body = extended_inquiry(config);
      break;
    case 0xb0:
      body = block_limits(config);
      break;
    case 0xb1:
      body = characteristics();
      break;
    case 0xb2:
      body = provisioning(config);
      break;
    default:
      return std::nullopt;
  }
  Buffer out;
  put_be(out, 0, 1);
  put_be(out, page, 1);
  put_be(out, body.size(), 2);
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

}  // namespace duet::scsi
