// The bounds of a connection and what we declare in negotiation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace duet::iscsi {

// Commands a session may have under way: MaxCmdSN runs this far ahead of the completed ones.
inline constexpr std::uint32_t command_window = 128;
// Commands and requests with the I bit under way beside them; more are rejected.
inline constexpr std::uint32_t max_immediate_commands = 16;
inline constexpr std::uint32_t max_task_management = 16;

// Data segments we take (our MaxRecvDataSegmentLength) and what we offer for bursts.
inline constexpr std::uint32_t max_receive_data_segment = 256u << 10;
inline constexpr std::uint32_t max_login_data_segment =
    64u << 10;  // before it is declared: RFC says 8 KiB
inline constexpr std::uint32_t max_burst = 1u << 20;
inline constexpr std::uint32_t first_burst = 256u << 10;
inline constexpr std::uint32_t max_outstanding_r2t = 4;

// Data-out of one command. More is refused with CHECK CONDITION; units announce less in their block
// limits page.
inline constexpr std::uint32_t max_command_data_out = 16u << 20;
// Solicited data-out of a connection, collected or at the unit: R2Ts wait while it is used up.
inline constexpr std::uint64_t solicited_data_budget = 32u << 20;

// Received bytes land in chunks of this size, which live as long as data of a command lies in them.
inline constexpr std::size_t receive_chunk_size = 256u << 10;
inline constexpr std::size_t spare_chunks = 4;  // kept per connection for reuse

inline constexpr Duration login_timeout = seconds(15);
inline constexpr Duration ping_after_silence = seconds(10);
inline constexpr Duration ping_timeout = seconds(10);
inline constexpr Duration logout_request_timeout = seconds(5);

}  // namespace duet::iscsi
