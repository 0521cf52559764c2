// From the bytes of a layer to those of its tar: gzip (RFC 1952, any number of members), zstd (RFC 8878,
// any number of frames, skippable ones too, so zstd:chunked) or nothing, told by the first bytes.
#pragma once

#include <memory>

#include "layer/layer.h"

namespace fastdock::layer {

enum class Compression : std::uint8_t { kNone, kGzip, kZstd };

// Needs the first four bytes; with fewer the answer is kNone.
Compression detect_compression(Bytes start);

class Decompressor {
 public:
  virtual ~Decompressor() = default;
  // Takes from the front of `input` and fills the front of `output`, shrinking both by what it used.
  // Returns with input empty, or output full, or both.
  virtual Result<void> run(Bytes& input, std::span<std::uint8_t>& output) = 0;
  // The input has ended: an error unless that is where the stream ends.
  virtual Result<void> finish() = 0;
};

std::unique_ptr<Decompressor> make_decompressor(Compression compression);

}  // namespace fastdock::layer
