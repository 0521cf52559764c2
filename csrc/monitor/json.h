// The little JSON that the monitor writes: escaped strings, and times as Go prints them (RFC 3339 with the
// nanoseconds that are not zero), because that is what readers of Docker's files expect.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

namespace fastdock::monitor {

timespec now();
void append_time(std::string& out, const timespec& time);
std::string time_text(const timespec& time);

// Appends `text` escaped, without quotes.  Escapes what Go's encoder does (also < > & U+2028 U+2029), and puts
// U+FFFD for each byte that is not UTF-8.  Returns whether all of it was.
bool append_escaped(std::string& out, std::string_view text);

void append_string(std::string& out, std::string_view text);  // with quotes
void append_base64(std::string& out, std::string_view bytes);

}  // namespace fastdock::monitor
