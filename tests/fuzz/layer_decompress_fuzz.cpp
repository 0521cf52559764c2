// The decompression front: arbitrary bytes in arbitrary pieces give the same output, or an error, whatever
// the pieces are.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <vector>

#include "layer/decompress.h"

namespace {

using namespace fastdock;
using namespace fastdock::layer;

constexpr std::size_t kMost = std::size_t{1} << 20;

// The output, or nothing on an error or if there is more than kMost of it.
std::optional<std::vector<std::uint8_t>> inflate(Bytes data, std::size_t input_piece,
                                                 std::size_t output_piece) {
  auto decompressor = make_decompressor(detect_compression(data));
  std::vector<std::uint8_t> all;
  std::vector<std::uint8_t> buffer(output_piece);
  while (!data.empty()) {
    // A copy of its own, so that reading beyond it is seen.
    std::size_t count = std::min(input_piece, data.size());
    std::vector<std::uint8_t> copy(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(count));
    data = data.subspan(count);
    Bytes input(copy);
    while (true) {
      std::span<std::uint8_t> output(buffer);
      if (!decompressor->run(input, output)) return std::nullopt;
      all.insert(all.end(), buffer.begin(), buffer.end() - static_cast<std::ptrdiff_t>(output.size()));
      if (all.size() > kMost) return std::nullopt;
      if (!output.empty()) break;
    }
    if (!input.empty()) std::abort();  // with room left, everything must have been taken
  }
  if (!decompressor->finish()) return std::nullopt;
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  Bytes layer(data + 2, size - 2);
  auto whole = inflate(layer, size, std::size_t{64} << 10);
  auto pieces = inflate(layer, std::size_t{1} << data[0] % 12, (std::size_t{1} << data[1] % 16) + 1);
  if (whole != pieces) std::abort();
  return 0;
}
