// A whole logical unit fed commands, completions, task management and session changes. After every
// step: nothing is answered twice, and after all store work has ended nothing is left over.
#include "scsi/logical_unit_fixture.h"
#include "scsi/opcodes.h"

using namespace duet;
using namespace duet::scsi;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Nexus nexuses[] = {UnitFixture::nexus("red"), UnitFixture::nexus("red", 2),
                                  UnitFixture::nexus("blue"), UnitFixture::nexus("green")};
  ByteReader in(std::as_bytes(std::span(data, size)));
  auto config = UnitFixture::default_config();
  config.blocks = 64;  // a small medium: a fresh one is made for every input
  UnitFixture f(config);
  std::uint64_t request = 0;
  for (int steps = 0; in.ok() && in.remaining() > 0 && steps < 256; ++steps) {
    const auto what = in.get<std::uint8_t>();
    const auto& nexus = nexuses[what >> 6];
    switch (what & 7) {
      case 0:
      case 1:
      case 2: {
        std::vector<std::uint8_t> cdb(16);
        for (auto& byte : cdb) byte = in.get<std::uint8_t>();
        if ((what & 7) != 0) cdb[0] = opcodes()[cdb[0] % opcodes().size()].code;
        const Bytes out =
            in.get_bytes(std::min<std::size_t>(in.get<std::uint16_t>(), in.remaining()));
        f.send(nexus, std::move(cdb), {out.begin(), out.end()},
               static_cast<TaskAttribute>((what >> 3) % 3));
        break;
      }
      case 3: {  // PERSISTENT RESERVE OUT, which blind bytes hardly ever hit
        const auto action =
            static_cast<PersistentReserveOut::ServiceAction>(in.get<std::uint8_t>() & 7);
        const auto type = in.get<std::uint8_t>();
        const auto keys = in.get<std::uint8_t>();
        f.send(nexus, reserve_out(action, type & 0x0f),
               reserve_list(keys & 3, keys >> 2 & 3, keys >> 4 & 5));
        break;
      }
      case 4: {
        Actions actions;
        const auto function = static_cast<TaskManagement>(1 + in.get<std::uint8_t>() % 7);
        f.unit.on_task_management(++request, function, nexus, CommandTag(in.get<std::uint8_t>()),
                                  actions);
        f.handle(std::move(actions));
        break;
      }
      case 5: {
        Actions actions;
        f.unit.on_nexus_lost(nexus, actions);
        f.handle(std::move(actions));
        f.unit.on_nexus_new(nexus);
        break;
      }
      default:
        f.perform(static_cast<StoreDone::Outcome>(in.get<std::uint8_t>() % 8 == 7 ? 3 : 0));
    }
  }
  f.perform_all();
  ASSERT(f.unit.tasks() == 0 && f.waiting() == 0);
  for (std::uint64_t r = 1; r <= request; ++r) ASSERT(f.managed(r));
  const auto state = f.unit.reservations().serialize();
  ASSERT(Reservations::parse(state).value() == f.unit.reservations());
  return 0;
}
