#include "scsi/mode.h"

#include <algorithm>

namespace duet::scsi {

namespace {

using Buffer = std::vector<std::byte>;

constexpr std::uint8_t caching_page = 0x08;
constexpr std::uint8_t control_page = 0x0a;
constexpr std::uint8_t all_pages = 0x3f;
constexpr std::uint8_t all_subpages = 0xff;
constexpr std::byte write_cache_bit{0x04};

enum class Values : std::uint8_t { current = 0, changeable = 1, defaults = 2, saved = 3 };

Buffer caching(Values values, const UnitConfig& config, const ModeParameters& current) {
  Buffer page(20);
  page[0] = std::byte{caching_page};
  page[1] = std::byte{18};
  const bool write_cache = values == Values::changeable ? config.write_cache_changeable
                           : values == Values::current  ? current.write_cache
                                                        : config.write_cache;
  if (write_cache) page[2] = write_cache_bit;
  return page;
}

Buffer control(Values values) {
  Buffer page(12);
  page[0] = std::byte{control_page};
  page[1] = std::byte{10};
  if (values == Values::changeable) return page;
  page[3] = std::byte{0x10};  // commands may be reordered without restriction
  return page;
}

// Both block descriptors of a direct access device: short (SBC-3 6.5.2.2), LBAs cut at 32 bits.
Buffer block_descriptor(const UnitConfig& config) {
  Buffer out(8);
  store_be(&out[0], static_cast<std::uint32_t>(std::min<std::uint64_t>(config.blocks, 0xffffffff)));
  store_be(&out[4], config.block_size);
  return out;
}

std::size_t header_size(bool ten) {
  return ten ? 8 : 4;
}

}  // namespace

std::expected<std::vector<std::byte>, Sense> mode_sense(const ModeSense& request,
                                                        const UnitConfig& config,
                                                        const ModeParameters& current) {
  const auto values = static_cast<Values>(request.control);
  if (values == Values::saved) return std::unexpected(sense::saving_not_supported);
  if (request.subpage != 0 && !(request.subpage == all_subpages))
    return std::unexpected(sense::invalid_field_in_cdb);

  Buffer pages;
  const auto add = [&](const Buffer& page) { pages.insert(pages.end(), page.begin(), page.end()); };
  const bool all = request.page == all_pages;
  if (all || request.page == caching_page) add(caching(values, config, current));
  if (all || request.page == control_page) add(control(values));
  if (pages.empty()) return std::unexpected(sense::invalid_field_in_cdb);

  Buffer out(header_size(request.ten));
  const Buffer descriptor = request.no_block_descriptor ? Buffer{} : block_descriptor(config);
  out.insert(out.end(), descriptor.begin(), descriptor.end());
  out.insert(out.end(), pages.begin(), pages.end());
  constexpr std::byte dpo_fua{0x10};
  if (request.ten) {
    store_be(&out[0], static_cast<std::uint16_t>(out.size() - 2));
    out[3] = dpo_fua;
    store_be(&out[6], static_cast<std::uint16_t>(descriptor.size()));
  } else {
    out[0] = static_cast<std::byte>(out.size() - 1);
    out[2] = dpo_fua;
    out[3] = static_cast<std::byte>(descriptor.size());
  }
  return out;
}

std::expected<ModeParameters, Sense> mode_select(const ModeSelect& request, Bytes list,
                                                 const UnitConfig& config,
                                                 const ModeParameters& current) {
  if (!request.page_format || request.save) return std::unexpected(sense::invalid_field_in_cdb);
  if (list.empty()) return current;
  const std::size_t header = header_size(request.ten);
  if (list.size() < header) return std::unexpected(sense::parameter_list_length_error);
  const std::size_t descriptors =
      request.ten ? load_be<std::uint16_t>(&list[6]) : std::to_integer<std::size_t>(list[3]);
  Bytes rest = list.subspan(header);
  if (descriptors > rest.size()) return std::unexpected(sense::parameter_list_length_error);
  if (descriptors != 0) {
    const Buffer expected = block_descriptor(config);
    const Bytes given = rest.first(descriptors);
    // Length and block size must be what they are; a count of 0 means "no change".
    const bool fits = given.size() == expected.size() &&
                      std::ranges::equal(given.subspan(5), std::span(expected).subspan(5)) &&
                      (load_be<std::uint32_t>(given.data()) == 0 ||
                       std::ranges::equal(given.first(4), std::span(expected).first(4)));
    if (!fits) return std::unexpected(sense::invalid_field_in_parameters);
    rest = rest.subspan(descriptors);
  }

  ModeParameters next = current;
  while (!rest.empty()) {
    if (rest.size() < 2) return std::unexpected(sense::parameter_list_length_error);
    const auto code = std::to_integer<std::uint8_t>(rest[0] & std::byte{0x7f});
    Buffer now, changeable;
    if (code == caching_page) {
      now = caching(Values::current, config, current);
      changeable = caching(Values::changeable, config, current);
    } else if (code == control_page) {
      now = control(Values::current);
      changeable = control(Values::changeable);
    } else {
      return std::unexpected(sense::invalid_field_in_parameters);
    }
    if (rest[1] != now[1]) return std::unexpected(sense::invalid_field_in_parameters);
    if (rest.size() < now.size()) return std::unexpected(sense::parameter_list_length_error);
    for (std::size_t i = 2; i < now.size(); ++i)
      if (((rest[i] ^ now[i]) & ~changeable[i]) != std::byte{0})
        return std::unexpected(sense::invalid_field_in_parameters);
    if (code == caching_page) next.write_cache = (rest[2] & write_cache_bit) != std::byte{0};
    rest = rest.subspan(now.size());
  }
  return next;
}

}  // namespace duet::scsi
