// The container's log: lines as Docker's json-file driver writes them, rotated by size.
//
//   {"log":"text\n","stream":"stdout","time":"2026-11-24T07:05:01.5Z"}
//
// A line longer than 16 KiB is several entries, of which only the last one's text ends in \n, and so is a last
// line without \n.  Text that is not UTF-8 has U+FFFD in "log", as Docker's has, and the bytes themselves in
// "raw" (base64), so that nothing is lost.
//
// Writing never fails: what a full disk does not take is lost, and the next write tries again.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "monitor/request.h"

namespace fastdock::monitor {

enum class Stream : std::uint8_t { kOutput, kErrors };

class Log {
 public:
  explicit Log(const LogOptions& options) : options_(options) {}

  void write(Stream stream, std::string_view bytes);
  // What is left of lines without an end.
  void finish();
  // The process that compresses a rotated file, to be reaped; -1: none.
  [[nodiscard]] pid_t compressor() const { return compressor_; }
  void compressor_ended() { compressor_ = -1; }

 private:
  void add(Stream stream, std::string_view text);
  void flush();
  bool open();
  void rotate();
  void compress(const std::string& path);

  const LogOptions& options_;
  Fd file_;
  std::uint64_t size_ = 0;
  std::array<std::string, 2> pending_;
  std::string out_;
  pid_t compressor_ = -1;
};

}  // namespace fastdock::monitor
