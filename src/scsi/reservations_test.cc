#include "scsi/reservations.h"

#include <gtest/gtest.h>

#include <array>
#include <map>

#include "scsi/logical_unit_fixture.h"
#include "scsi/reservation_parameters.h"

namespace duet::scsi {
namespace {

using Out = PersistentReserveOut::ServiceAction;
using T = ReservationType;
using UA = UnitAttention;
constexpr std::array types{T::write_exclusive,
                           T::exclusive_access,
                           T::write_exclusive_registrants_only,
                           T::exclusive_access_registrants_only,
                           T::write_exclusive_all_registrants,
                           T::exclusive_access_all_registrants};

const Nexus red = UnitFixture::nexus("red");
const Nexus blue = UnitFixture::nexus("blue");
const Nexus green = UnitFixture::nexus("green");

ReservationRequest request(Out action, std::uint64_t key, std::uint64_t action_key = 0,
                           T type = T::write_exclusive) {
  ReservationRequest r;
  r.action = action;
  r.type = static_cast<std::uint8_t>(type);
  r.key = ReservationKey(key);
  r.service_action_key = ReservationKey(action_key);
  return r;
}

enum class Answer { good, conflict, cdb, parameters, release, full };

struct Bed {
  Reservations state;
  Reservations::Effects effects;
  std::uint16_t ports = 2;

  Answer apply(const Nexus& nexus, const ReservationRequest& r) {
    const Reservations before = state;
    auto outcome = state.apply(r, nexus, ports);
    if (outcome) {
      effects = *outcome;
      EXPECT_TRUE(Reservations::parse(state.serialize()).value() == state);
      EXPECT_GE(state.generation(), before.generation());
      return Answer::good;
    }
    effects = {};
    EXPECT_TRUE(state == before) << "an error changed something";
    if (std::holds_alternative<ReservationConflict>(outcome.error())) return Answer::conflict;
    const auto sense = std::get<Sense>(outcome.error());
    if (sense == sense::invalid_field_in_cdb) return Answer::cdb;
    if (sense == sense::invalid_field_in_parameters) return Answer::parameters;
    if (sense == sense::invalid_release) return Answer::release;
    EXPECT_EQ(sense, sense::out_of_registrations);
    return Answer::full;
  }
  void registered(std::initializer_list<std::pair<Nexus, std::uint64_t>> who) {
    for (const auto& [nexus, key] : who)
      EXPECT_EQ(apply(nexus, request(Out::register_key, 0, key)), Answer::good);
  }
  std::map<Nexus, UA> told() const {
    std::map<Nexus, UA> map;
    for (const auto& [nexus, attention] : effects.attentions)
      EXPECT_TRUE(map.emplace(nexus, attention).second);
    return map;
  }
};

// ---- access: SPC-4 table 64 and SBC-3 table 13, written down by hand ----

enum class Who { holder, registrant, stranger };

// Rows by type; A allowed, C conflict, for registrant and stranger. A holder is always allowed.
struct AccessRow {
  T type;
  const char* reads;   // registrant, stranger
  const char* writes;  // registrant, stranger
};
constexpr AccessRow access_table[] = {
    {T::write_exclusive, "AA", "CC"},
    {T::exclusive_access, "CC", "CC"},
    {T::write_exclusive_registrants_only, "AA", "AC"},
    {T::exclusive_access_registrants_only, "AC", "AC"},
    {T::write_exclusive_all_registrants, "AA", "AC"},
    {T::exclusive_access_all_registrants, "AC", "AC"},
};

TEST(ReservationAccess, EveryCell) {
  for (const auto& row : access_table) {
    Bed bed;
    bed.registered({{red, 1}, {blue, 2}});
    ASSERT_EQ(bed.apply(red, request(Out::reserve, 1, 0, row.type)), Answer::good);
    for (Who who : {Who::holder, Who::registrant, Who::stranger}) {
      const auto& nexus = who == Who::holder ? red : who == Who::registrant ? blue : green;
      const std::size_t column = who == Who::registrant ? 0 : 1;
      const auto expected = [&](const char* cells) {
        return who == Who::holder || cells[column] == 'A';
      };
      EXPECT_TRUE(bed.state.allows(nexus, AccessClass::always));
      EXPECT_EQ(bed.state.allows(nexus, AccessClass::reads), expected(row.reads))
          << int(row.type) << " reads " << int(who);
      EXPECT_EQ(bed.state.allows(nexus, AccessClass::writes), expected(row.writes))
          << int(row.type) << " writes " << int(who);
    }
  }
}

TEST(ReservationAccess, NothingReservedAllowsAll) {
  Bed bed;
  bed.registered({{red, 1}});
  for (auto access : {AccessClass::always, AccessClass::reads, AccessClass::writes})
    EXPECT_TRUE(bed.state.allows(green, access));
}

// ---- every service action against every holding, from holder, registrant and stranger ----

struct ActionRow {
  Out action;
  // Of holder, registrant, stranger; with the right key of the nexus.
  Answer one_holder[3];       // types 1, 3, 5, 6
  Answer all_registrants[3];  // types 7, 8: both registrants hold
};
constexpr Answer G = Answer::good, X = Answer::conflict;
constexpr ActionRow action_table[] = {
    {Out::register_key, {G, G, G}, {G, G, G}},
    {Out::register_and_ignore, {G, G, G}, {G, G, G}},
    {Out::reserve, {G, X, X}, {G, G, X}},  // same type again
    {Out::release, {G, G, X}, {G, G, X}},  // a registrant that does not hold: no effect
    {Out::clear, {G, G, X}, {G, G, X}},
    {Out::preempt, {G, G, X}, {G, G, X}},  // of the other's key
    {Out::preempt_and_abort, {G, G, X}, {G, G, X}},
    {Out::register_and_move, {G, X, X}, {X, X, X}},
};

TEST(ReservationActions, EveryCell) {
  for (const auto& row : action_table)
    for (T type : types)
      for (int who = 0; who < 3; ++who) {
        Bed bed;
        bed.registered({{red, 1}, {blue, 2}});
        ASSERT_EQ(bed.apply(red, request(Out::reserve, 1, 0, type)), Answer::good);
        const Nexus& nexus = who == 0 ? red : who == 1 ? blue : green;
        const std::uint64_t key = who == 0 ? 1 : who == 1 ? 2 : 0;
        auto r = request(row.action, key, who == 0 ? 2 : 1, type);
        if (row.action == Out::register_key || row.action == Out::register_and_ignore)
          r.service_action_key = ReservationKey(7);
        if (row.action == Out::register_and_move) {
          r.service_action_key = ReservationKey(7);
          r.relative_target_port = 2;
          r.transport_ids = {green};
        }
        const auto expected =
            all_registrants(type) ? row.all_registrants[who] : row.one_holder[who];
        EXPECT_EQ(bed.apply(nexus, r), expected)
            << "action " << int(row.action) << " type " << int(type) << " who " << who;
        for (const auto& [told, attention] : bed.told()) EXPECT_NE(told, nexus);
      }
}

TEST(ReservationActions, WrongKeyIsAConflict) {
  for (auto action : {Out::register_key, Out::reserve, Out::release, Out::clear, Out::preempt,
                      Out::preempt_and_abort, Out::register_and_move}) {
    Bed bed;
    bed.registered({{red, 1}, {blue, 2}});
    EXPECT_EQ(bed.apply(red, request(action, 9, 2)), Answer::conflict) << int(action);
  }
}

// ---- register ----

TEST(ReservationRegister, Generation) {
  Bed bed;
  bed.registered({{red, 1}});
  EXPECT_EQ(bed.state.generation(), 1u);
  EXPECT_EQ(bed.apply(red, request(Out::reserve, 1)), Answer::good);
  EXPECT_EQ(bed.apply(red, request(Out::release, 1)), Answer::good);
  EXPECT_EQ(bed.state.generation(), 1u);  // neither counts
  EXPECT_EQ(bed.apply(red, request(Out::register_and_ignore, 5, 3)), Answer::good);
  EXPECT_EQ(bed.state.find(red)->key, ReservationKey(3));
  EXPECT_EQ(bed.state.generation(), 2u);
  EXPECT_EQ(bed.apply(blue, request(Out::register_key, 0, 0)), Answer::good);  // nothing to remove
  EXPECT_EQ(bed.state.generation(), 2u);
  EXPECT_EQ(bed.apply(red, request(Out::register_key, 3, 0)), Answer::good);
  EXPECT_TRUE(bed.state.registrations().empty());
  EXPECT_EQ(bed.state.generation(), 3u);
}

TEST(ReservationRegister, UnregisteringHolderReleasesAndTellsTheOthers) {
  for (T type : types) {
    Bed bed;
    bed.registered({{red, 1}, {blue, 2}});
    ASSERT_EQ(bed.apply(red, request(Out::reserve, 1, 0, type)), Answer::good);
    EXPECT_EQ(bed.apply(red, request(Out::register_and_ignore, 0, 0)), Answer::good);
    EXPECT_EQ(bed.state.reservation().has_value(), all_registrants(type));
    const auto told = bed.told();
    EXPECT_FALSE(told.contains(red));
    EXPECT_EQ(told.size(), registrants_only(type) ? 1u : 0u) << int(type);
    if (registrants_only(type)) {
      EXPECT_EQ(told.at(blue), UA::reservations_released);
    }
    // The last of all registrants takes the reservation along.
    EXPECT_EQ(bed.apply(blue, request(Out::register_and_ignore, 0, 0)), Answer::good);
    EXPECT_FALSE(bed.state.reservation());
  }
}

TEST(ReservationRegister, AllTargetPorts) {
  Bed bed;
  auto r = request(Out::register_key, 0, 1);
  r.all_target_ports = true;
  EXPECT_EQ(bed.apply(red, r), Answer::good);
  ASSERT_EQ(bed.state.registrations().size(), 2u);
  Nexus second = red;
  second.relative_target_port = 2;
  EXPECT_TRUE(bed.state.find(second));
  // Another key on the second path: REGISTER would have to know it.
  EXPECT_EQ(bed.apply(second, request(Out::register_key, 1, 9)), Answer::good);
  r = request(Out::register_key, 1, 0);
  r.all_target_ports = true;
  EXPECT_EQ(bed.apply(red, r), Answer::conflict);
  r.action = Out::register_and_ignore;
  EXPECT_EQ(bed.apply(red, r), Answer::good);
  EXPECT_TRUE(bed.state.registrations().empty());
}

TEST(ReservationRegister, SpecifiedInitiators) {
  Bed bed;
  auto r = request(Out::register_key, 0, 1);
  r.specified_initiators = true;
  r.transport_ids = {blue, green};
  EXPECT_EQ(bed.apply(red, r), Answer::good);
  EXPECT_EQ(bed.state.registrations().size(), 3u);
  EXPECT_EQ(bed.apply(red, r), Answer::conflict);  // registered now: key 0 is wrong
  r.key = ReservationKey(1);
  EXPECT_EQ(bed.apply(red, r), Answer::parameters);  // only for an unregistered nexus
  Bed other;
  other.registered({{blue, 5}});
  r.key = ReservationKey(0);
  EXPECT_EQ(other.apply(red, r), Answer::parameters);  // one of them is registered: none is made
  r.transport_ids = {green, green};
  EXPECT_EQ(other.apply(red, r), Answer::parameters);
  r.action = Out::register_and_ignore;
  EXPECT_EQ(other.apply(red, r), Answer::parameters);
}

TEST(ReservationRegister, IsBounded) {
  Bed bed;
  for (std::size_t i = 0; i < max_registrations; ++i)
    EXPECT_EQ(
        bed.state.apply(request(Out::register_key, 0, 1), UnitFixture::nexus(std::to_string(i)), 1)
            .has_value(),
        true);
  EXPECT_EQ(bed.apply(red, request(Out::register_key, 0, 1)), Answer::full);
  Nexus long_name{std::string(max_initiator_name + 1, 'x'), {}, 1};
  EXPECT_EQ(Bed{}.apply(long_name, request(Out::register_key, 0, 1)), Answer::full);
}

// ---- reserve and release ----

TEST(ReservationReserve, TypeScopeAndHolder) {
  Bed bed;
  bed.registered({{red, 1}, {blue, 2}});
  auto r = request(Out::reserve, 1);
  r.type = 2;
  EXPECT_EQ(bed.apply(red, r), Answer::cdb);
  r = request(Out::reserve, 1);
  r.scope = 1;
  EXPECT_EQ(bed.apply(red, r), Answer::cdb);
  EXPECT_EQ(bed.apply(red, request(Out::reserve, 1, 0, T::exclusive_access)), Answer::good);
  EXPECT_EQ(bed.apply(red, request(Out::reserve, 1, 0, T::write_exclusive)), Answer::conflict);
  EXPECT_EQ(bed.apply(red, request(Out::release, 1, 0, T::write_exclusive)), Answer::release);
  EXPECT_EQ(bed.apply(red, request(Out::release, 1, 0, T::exclusive_access)), Answer::good);
  EXPECT_FALSE(bed.state.reservation());
  EXPECT_EQ(bed.apply(red, request(Out::release, 1, 0, T::exclusive_access)), Answer::good);
}

TEST(ReservationRelease, TellsOthersOnlyOfSharedTypes) {
  for (T type : types) {
    Bed bed;
    bed.registered({{red, 1}, {blue, 2}});
    ASSERT_EQ(bed.apply(red, request(Out::reserve, 1, 0, type)), Answer::good);
    ASSERT_EQ(bed.apply(red, request(Out::release, 1, 0, type)), Answer::good);
    const bool shared = registrants_only(type) || all_registrants(type);
    EXPECT_EQ(bed.told(), (shared ? std::map<Nexus, UA>{{blue, UA::reservations_released}}
                                  : std::map<Nexus, UA>{}));
  }
}

TEST(ReservationClear, TellsAllOthers) {
  Bed bed;
  bed.registered({{red, 1}, {blue, 2}});
  ASSERT_EQ(bed.apply(red, request(Out::reserve, 1)), Answer::good);
  EXPECT_EQ(bed.apply(blue, request(Out::clear, 2)), Answer::good);
  EXPECT_TRUE(bed.state.registrations().empty());
  EXPECT_FALSE(bed.state.reservation());
  EXPECT_EQ(bed.told(), (std::map<Nexus, UA>{{red, UA::reservations_preempted}}));
}

// ---- preempt ----

TEST(ReservationPreempt, TakesFromTheHolder) {
  for (T from : {T::write_exclusive_registrants_only, T::exclusive_access})
    for (T to : types) {
      Bed bed;
      bed.registered({{red, 1}, {blue, 2}, {green, 3}});
      ASSERT_EQ(bed.apply(red, request(Out::reserve, 1, 0, from)), Answer::good);
      EXPECT_EQ(bed.apply(blue, request(Out::preempt_and_abort, 2, 1, to)), Answer::good);
      EXPECT_TRUE(bed.state.holds(blue));
      EXPECT_EQ(bed.state.reservation()->type, to);
      EXPECT_FALSE(bed.state.find(red));
      std::map<Nexus, UA> told{{red, UA::registrations_preempted}};
      if (from != to) told.emplace(green, UA::reservations_released);
      EXPECT_EQ(bed.told(), told);
      EXPECT_EQ(bed.effects.abort, std::vector<Nexus>{red});
    }
}

TEST(ReservationPreempt, OwnKeyChangesTheTypeAndKeepsOurRegistration) {
  Bed bed;
  Nexus second = red;
  second.relative_target_port = 2;
  bed.registered({{red, 1}, {second, 1}, {blue, 2}});
  ASSERT_EQ(bed.apply(red, request(Out::reserve, 1, 0, T::exclusive_access_registrants_only)),
            Answer::good);
  const auto to = T::write_exclusive_registrants_only;
  EXPECT_EQ(bed.apply(red, request(Out::preempt, 1, 1, to)), Answer::good);
  EXPECT_TRUE(bed.state.find(red));
  EXPECT_EQ(bed.state.reservation(), (Reservation{to, red}));
  // Our other path had the same key: it is removed, as the standard says.
  EXPECT_FALSE(bed.state.find(second));
  EXPECT_EQ(bed.told(), (std::map<Nexus, UA>{{second, UA::registrations_preempted},
                                             {blue, UA::reservations_released}}));
  EXPECT_TRUE(bed.effects.abort.empty());
}

TEST(ReservationPreempt, OnlyRegistrations) {
  Bed bed;
  bed.registered({{red, 1}, {blue, 2}, {green, 2}});
  ASSERT_EQ(bed.apply(red, request(Out::reserve, 1)), Answer::good);
  EXPECT_EQ(bed.apply(red, request(Out::preempt, 1, 2, T::exclusive_access)), Answer::good);
  EXPECT_EQ(bed.state.registrations().size(), 1u);
  EXPECT_EQ(bed.state.reservation()->type, T::write_exclusive);  // scope and type are ignored
  EXPECT_EQ(bed.apply(red, request(Out::preempt, 1, 2)), Answer::conflict);  // nobody has it
  EXPECT_EQ(bed.apply(red, request(Out::preempt, 1, 0)), Answer::parameters);
}

TEST(ReservationPreempt, AllRegistrants) {
  Bed bed;
  bed.registered({{red, 1}, {blue, 2}, {green, 3}});
  const auto shared = T::exclusive_access_all_registrants;
  ASSERT_EQ(bed.apply(red, request(Out::reserve, 1, 0, shared)), Answer::good);
  // A key removes registrations and leaves the reservation to the others.
  EXPECT_EQ(bed.apply(red, request(Out::preempt, 1, 3, T::write_exclusive)), Answer::good);
  EXPECT_EQ(bed.state.reservation()->type, shared);
  EXPECT_EQ(bed.told(), (std::map<Nexus, UA>{{green, UA::registrations_preempted}}));
  // Key 0: all others, and the reservation with the new type.
  EXPECT_EQ(bed.apply(red, request(Out::preempt_and_abort, 1, 0, T::write_exclusive)),
            Answer::good);
  EXPECT_EQ(bed.state.reservation(), (Reservation{T::write_exclusive, red}));
  EXPECT_EQ(bed.effects.abort, std::vector<Nexus>{blue});
  // The last one naming its own key takes the reservation along.
  Bed last;
  last.registered({{red, 1}});
  ASSERT_EQ(last.apply(red, request(Out::reserve, 1, 0, shared)), Answer::good);
  EXPECT_EQ(last.apply(red, request(Out::preempt, 1, 1, shared)), Answer::good);
  EXPECT_FALSE(last.state.reservation());
  EXPECT_TRUE(last.state.registrations().empty());
}

// ---- register and move ----

TEST(ReservationMove, MovesHolderAndRegistration) {
  for (bool unregister : {false, true}) {
    Bed bed;
    bed.registered({{red, 1}});
    ASSERT_EQ(bed.apply(red, request(Out::reserve, 1)), Answer::good);
    auto r = request(Out::register_and_move, 1, 7);
    r.unregister = unregister;
    r.persist = true;
    r.relative_target_port = 2;
    r.transport_ids = {blue};
    EXPECT_EQ(bed.apply(red, r), Answer::good);
    Nexus there = blue;
    there.relative_target_port = 2;
    EXPECT_TRUE(bed.state.holds(there));
    EXPECT_EQ(bed.state.holder_key(), ReservationKey(7));
    EXPECT_EQ(bed.state.find(red) != nullptr, !unregister);
    EXPECT_TRUE(bed.state.persists());
    EXPECT_TRUE(bed.told().empty());
  }
}

TEST(ReservationMove, Refusals) {
  Bed bed;
  bed.registered({{red, 1}});
  auto r = request(Out::register_and_move, 1, 7);
  r.relative_target_port = 2;
  r.transport_ids = {blue};
  EXPECT_EQ(bed.apply(red, r), Answer::cdb);  // nothing is reserved
  ASSERT_EQ(bed.apply(red, request(Out::reserve, 1)), Answer::good);
  const auto with = [&](auto change) {
    auto changed = r;
    change(changed);
    return bed.apply(red, changed);
  };
  EXPECT_EQ(with([](auto& m) { m.service_action_key = ReservationKey(0); }), Answer::parameters);
  EXPECT_EQ(with([](auto& m) { m.transport_ids = {}; }), Answer::parameters);
  EXPECT_EQ(with([](auto& m) { m.relative_target_port = 3; }), Answer::parameters);
  EXPECT_EQ(with([](auto& m) { m.relative_target_port = 0; }), Answer::parameters);
  EXPECT_EQ(with([](auto& m) {
              m.transport_ids = {red};
              m.relative_target_port = 1;
            }),
            Answer::parameters);
}

// ---- serialized form: the worked example of docs/formats/reservations.md ----

TEST(ReservationsFormat, GoldenBytes) {
  Bed bed;
  const Nexus a{"iqn.a", {0x80, 0, 0, 0, 0, 1}, 1};
  const Nexus b{"iqn.b", {0x80, 0, 0, 0, 0, 2}, 2};
  auto r = request(Out::register_key, 0, 0x1122);
  r.persist = true;
  ASSERT_EQ(bed.apply(a, r), Answer::good);
  r.service_action_key = ReservationKey(0x3344);
  ASSERT_EQ(bed.apply(b, r), Answer::good);
  ASSERT_EQ(bed.apply(b, request(Out::reserve, 0x3344, 0, T::write_exclusive_registrants_only)),
            Answer::good);
  const std::string golden =
      "445253560100010502000000"  // magic, version, flags, type, generation
      "0200000001000000"          // registrations, holder
      "22110000000000000100"      // key, port
      "80000000000105006971"      // isid, name length, "iq"
      "6e2e61"                    // "n.a"
      "44330000000000000200"      // key, port
      "8000000000020500"          // isid, name length
      "69716e2e62";               // "iqn.b"
  const auto bytes = bed.state.serialize();
  EXPECT_EQ(to_hex(Bytes(bytes).first(bytes.size() - 4)), golden);
  EXPECT_EQ(to_hex(Bytes(bytes).last(4)), "d2c1d0e2");
}

TEST(ReservationsFormat, RefusesEveryDamagedByte) {
  Bed bed;
  bed.registered({{red, 1}, {blue, 2}});
  ASSERT_EQ(bed.apply(red, request(Out::reserve, 1)), Answer::good);
  auto bytes = bed.state.serialize();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto damaged = bytes;
    damaged[i] ^= std::byte{0x10};
    EXPECT_FALSE(Reservations::parse(damaged)) << i;
    EXPECT_FALSE(Reservations::parse(Bytes(bytes).first(i))) << i;
  }
}

// ---- parameter data ----

TEST(ReservationParameters, TransportId) {
  const auto id = encode_transport_id(red);
  EXPECT_EQ(id.size() % 4, 0u);
  const auto decoded = decode_transport_id(id);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->nexus, red);
  EXPECT_EQ(decoded->size, id.size());
  auto wrong = id;
  wrong[0] = std::byte{0x05};  // a device name, without ISID
  EXPECT_FALSE(decode_transport_id(wrong));
  EXPECT_FALSE(decode_transport_id(Bytes(id).first(id.size() - 4)));
}

TEST(ReservationParameters, Lists) {
  PersistentReserveOut command{.action = Out::register_key, .scope = 0, .type = 0, .length = 24};
  auto list = reserve_list(1, 2, 0x05);
  auto decoded = decode_reservation_request(command, list);
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(decoded->persist && decoded->all_target_ports && !decoded->specified_initiators);
  EXPECT_EQ(decoded->service_action_key, ReservationKey(2));
  command.length = 23;
  EXPECT_EQ(decode_reservation_request(command, Bytes(list).first(23)).error(),
            sense::parameter_list_length_error);
  command.length = 25;
  list.push_back({});
  EXPECT_EQ(decode_reservation_request(command, list).error(), sense::parameter_list_length_error);

  list = reserve_list(0, 2, 0x08);
  const auto id = encode_transport_id(blue);
  list.resize(28);
  store_be(&list[24], static_cast<std::uint32_t>(id.size()));
  list.insert(list.end(), id.begin(), id.end());
  command.length = static_cast<std::uint32_t>(list.size());
  decoded = decode_reservation_request(command, list);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->transport_ids, std::vector{blue});
  command.action = Out::reserve;
  EXPECT_FALSE(decode_reservation_request(command, list));
}

TEST(ReservationParameters, Reports) {
  using In = PersistentReserveIn::ServiceAction;
  Bed bed;
  bed.registered({{red, 1}, {blue, 2}});
  EXPECT_EQ(to_hex(encode_reservation_report(In::read_keys, bed.state)),
            "0000000200000010"
            "0000000000000001"
            "0000000000000002");
  EXPECT_EQ(to_hex(encode_reservation_report(In::read_reservation, bed.state)), "0000000200000000");
  ASSERT_EQ(bed.apply(blue, request(Out::reserve, 2, 0, T::exclusive_access)), Answer::good);
  EXPECT_EQ(to_hex(encode_reservation_report(In::read_reservation, bed.state)),
            "0000000200000010"
            "0000000000000002"
            "0000000000030000");
  EXPECT_EQ(to_hex(encode_reservation_report(In::report_capabilities, bed.state)),
            "00080d80ea010000");
  const auto full = encode_reservation_report(In::read_full_status, bed.state);
  const std::size_t id = encode_transport_id(red).size();
  ASSERT_EQ(full.size(), 8 + 24 + id + 24 + encode_transport_id(blue).size());
  EXPECT_EQ(full[8 + 12], std::byte{0});            // red does not hold
  EXPECT_EQ(full[8 + 24 + id + 12], std::byte{1});  // blue does
  EXPECT_EQ(full[8 + 24 + id + 13], std::byte{3});
  EXPECT_EQ(load_be<std::uint16_t>(&full[8 + 18]), 1u);
}

}  // namespace
}  // namespace duet::scsi
