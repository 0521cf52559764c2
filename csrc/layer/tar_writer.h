// Writes a tar that is the same for the same files: pax where ustar does not suffice, no names of users,
// no times but the modification's.
#pragma once

#include "layer/layer.h"

namespace fastdock::layer {

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual Result<void> write(Bytes data) = 0;
};

class TarWriter {
 public:
  explicit TarWriter(ByteSink& sink) : sink_(sink) {}

  Result<void> add(const Entry& entry, EntryData& data);
  // The two blocks of zeros at the end.
  Result<void> finish();

  [[nodiscard]] std::uint64_t entries() const { return entries_; }

 private:
  Result<void> write_text(std::string_view text);
  Result<void> pad(std::uint64_t size);
  Result<void> write_header(const Entry& entry, char type, std::uint64_t size, std::string& pax);

  ByteSink& sink_;
  std::uint64_t entries_ = 0;
};

}  // namespace fastdock::layer
