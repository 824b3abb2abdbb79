// Whether this build is checked by AddressSanitizer or ThreadSanitizer, which makes it five to
// fifteen times as slow: for the sizes of tests.
#pragma once

namespace duet {

#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace duet
