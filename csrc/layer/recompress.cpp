#include "layer/recompress.h"

#include <unistd.h>

#include <cerrno>
#include <vector>

#include "layer/output.h"

namespace fastdock::layer {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;

// As many bytes as there are, up to the size of the buffer: less only at the end.
Result<Bytes> read_full(int source, std::span<std::uint8_t> buffer) {
  std::size_t size = 0;
  while (size < buffer.size()) {
    ssize_t count = ::read(source, buffer.data() + size, buffer.size() - size);
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      return failed(Operation::kReadFile, "the layer");
    }
    size += static_cast<std::size_t>(count);
  }
  return Bytes{buffer.data(), size};
}

}  // namespace

Result<LayerResult> recompress(int source, int output, Compression compression, std::uint64_t limit) {
  FASTDOCK_TRY(std::unique_ptr<LayerOutput> target, LayerOutput::create(output, compression));
  std::vector<std::uint8_t> compressed(kBuffer), tar(kBuffer);
  std::unique_ptr<Decompressor> decompressor;
  std::uint64_t total = 0;
  auto hand_on = [&](Bytes data) -> Result<void> {
    total += data.size();
    if (total > limit) return failed_with(EFBIG, Operation::kReadArchive, "the archive", Hint::kArchiveLimit);
    return target->write(data);
  };
  for (bool first = true;; first = false) {
    FASTDOCK_TRY(Bytes input, read_full(source, compressed));
    if (input.empty()) break;
    if (first && detect_compression(input) != Compression::kNone)
      decompressor = make_decompressor(detect_compression(input));
    if (!decompressor) {
      FASTDOCK_CHECK(hand_on(input));
      continue;
    }
    while (true) {
      std::span<std::uint8_t> space(tar);
      FASTDOCK_CHECK(decompressor->run(input, space));
      FASTDOCK_CHECK(hand_on({tar.data(), tar.size() - space.size()}));
      if (!space.empty()) break;  // so the input is used up
    }
  }
  if (decompressor) FASTDOCK_CHECK(decompressor->finish());
  return target->finish(0);
}

}  // namespace fastdock::layer
