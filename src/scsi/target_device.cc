#include "scsi/target_device.h"

#include "scsi/identity.h"
#include "scsi/logical_unit_state.h"
#include "scsi/slices.h"

namespace duet::scsi {

std::optional<LunNumber> decode_lun(std::uint64_t field) {
  if ((field & 0x0000ffffffffffff) != 0) return std::nullopt;
  const auto first = static_cast<std::uint16_t>(field >> 48);
  switch (first >> 14) {
    case 0:
      return first < 256 ? std::optional(LunNumber(first)) : std::nullopt;
    case 1:
      return LunNumber(first & max_lun);
    default:
      return std::nullopt;
  }
}

std::uint64_t encode_lun(LunNumber lun) {
  const std::uint64_t n = lun.value();
  return (n < 256 ? n : n | 0x4000) << 48;
}

void TargetDevice::add(LunNumber lun, LogicalUnit unit) {
  ASSERT(lun.value() <= max_lun && !units_.contains(lun));
  for (auto& [number, other] : units_) other.add_attention(UnitAttention::reported_luns_changed);
  units_.emplace(lun, std::move(unit));
}

void TargetDevice::remove(LunNumber lun) {
  units_.erase(lun);
  for (auto& [number, other] : units_) other.add_attention(UnitAttention::reported_luns_changed);
}

LogicalUnit* TargetDevice::find(LunNumber lun) {
  auto it = units_.find(lun);
  return it == units_.end() ? nullptr : &it->second;
}

std::vector<LunNumber> TargetDevice::luns() const {
  std::vector<LunNumber> numbers;
  for (const auto& [number, unit] : units_) numbers.push_back(number);
  return numbers;
}

void TargetDevice::on_nexus_new(const Nexus& nexus) {
  for (auto& [number, unit] : units_) unit.on_nexus_new(nexus);
}

// SPC-4 6.33.
Response TargetDevice::report_luns(const Command& command, const ReportLuns& request) {
  constexpr std::uint32_t least_allocation = 16;
  if (request.allocation < least_allocation || request.select > 2)
    return check_condition(sense::invalid_field_in_cdb);
  std::vector<std::byte> out(8);
  constexpr std::uint8_t well_known_only = 1;  // we have none
  if (request.select != well_known_only)
    for (const auto& [number, unit] : units_) {
      out.resize(out.size() + 8);
      store_be(&out[out.size() - 8], encode_lun(number));
    }
  store_be(&out[0], static_cast<std::uint32_t>(out.size() - 8));
  for (auto& [number, unit] : units_)
    unit.remove_attention(command.nexus, UnitAttention::reported_luns_changed);
  return good(std::move(out), request.allocation);
}

void TargetDevice::on_command(std::optional<LunNumber> lun, Command&& command, Actions& actions) {
  const auto operation = decode_cdb(command.cdb);
  const auto answer = [&](Response response) {
    actions.push_back(Respond{command.tag, std::move(response)});
  };
  if (operation)
    if (const auto* request = std::get_if<ReportLuns>(&*operation))
      return answer(report_luns(command, *request));
  if (lun)
    if (auto* unit = find(*lun)) return unit->on_command(std::move(command), actions);
  if (!operation) return answer(check_condition(sense::unit_not_supported));
  if (const auto* inquiry = std::get_if<Inquiry>(&*operation);
      inquiry && !inquiry->vital_product_data)
    return answer(good(absent_inquiry(), inquiry->allocation));
  if (const auto* request = std::get_if<RequestSense>(&*operation))
    return answer(good(encode_fixed(sense::unit_not_supported), request->allocation));
  auto response = check_condition(sense::unit_not_supported);
  response.data_out_wanted = static_cast<std::uint32_t>(total_size(command.data_out));
  answer(std::move(response));
}

}  // namespace duet::scsi
