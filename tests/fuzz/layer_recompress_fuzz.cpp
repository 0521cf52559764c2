// Recompressing arbitrary bytes: an error, or the same tar whatever compression it went through.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "base/fd.h"
#include "layer/recompress.h"

namespace {

using namespace fastdock;
using namespace fastdock::layer;

constexpr std::uint64_t kMost = std::uint64_t{1} << 20;

Fd memory_file() {
  Fd fd(::memfd_create("fuzz", MFD_CLOEXEC));
  if (!fd) std::abort();
  return fd;
}

std::optional<LayerResult> convert(const Fd& source, const Fd& target, Compression compression) {
  if (::lseek(source.get(), 0, SEEK_SET) != 0) std::abort();
  auto done = recompress(source.get(), target.get(), compression, kMost);
  if (!done) return std::nullopt;
  return *done;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  Fd input = memory_file();
  if (::write(input.get(), data + 2, size - 2) != static_cast<ssize_t>(size - 2)) std::abort();
  Fd plain = memory_file();
  auto direct = convert(input, plain, Compression::kNone);
  Fd packed = memory_file();
  auto compression = data[0] % 2 != 0 ? Compression::kGzip : Compression::kZstd;
  auto first = convert(input, packed, compression);
  if (direct.has_value() != first.has_value()) std::abort();
  if (!direct || first->size == 0) return 0;
  if (first->diff_id != direct->diff_id || first->size != direct->size) std::abort();
  Fd again = memory_file();
  auto back = convert(packed, again, Compression::kNone);
  if (!back || back->digest != direct->digest || back->size != direct->size) std::abort();
  return 0;
}
