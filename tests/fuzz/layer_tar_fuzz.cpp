// The tar reader: arbitrary bytes, cut into pieces at arbitrary places, and what any reader must keep to.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "layer/name.h"
#include "layer/tar_reader.h"

namespace {

using namespace fastdock;
using namespace fastdock::layer;

// Each piece is a copy of its own, so that a use after the next call is seen.
class Pieces final : public ByteSource {
 public:
  Pieces(Bytes data, std::size_t piece) : data_(data), piece_(piece) {}
  Result<Bytes> next() override {
    std::size_t count = std::min(piece_, data_.size());
    copy_ = std::vector<std::uint8_t>(data_.begin(), data_.begin() + static_cast<std::ptrdiff_t>(count));
    copy_.shrink_to_fit();
    data_ = data_.subspan(count);
    return Bytes(copy_);
  }

 private:
  Bytes data_;
  std::size_t piece_;
  std::vector<std::uint8_t> copy_;
};

void check(bool condition) {
  if (!condition) std::abort();
}

void read_data(const Entry& entry, TarReader& reader) {
  std::uint64_t end = 0;
  while (true) {
    auto piece = reader.read();
    if (!piece || piece->data.empty()) return;
    check(entry.type == EntryType::kFile);
    check(piece->offset >= end && piece->offset <= entry.size &&
          piece->data.size() <= entry.size - piece->offset);
    end = piece->offset + piece->data.size();
  }
}

void check_name(const Entry& entry, const Limits& limits) {
  auto path = normalize(entry.name, limits);
  if (!path) return;
  check(!path->starts_with('/') && !path->ends_with('/') && path->find("//") == std::string::npos);
  check(("/" + *path + "/").find("/../") == std::string::npos);
  auto whiteout = whiteout_of(*path);
  if (whiteout && whiteout->kind == Whiteout::Kind::kName)
    check(("/" + whiteout->path + "/").find("/../") == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  std::size_t piece = std::size_t{1} << data[0] % 14;
  bool skip = (data[1] & 1) != 0;
  Limits limits{.entries = 1000, .size = std::uint64_t{1} << 40};
  Pieces source({data + 2, size - 2}, piece);
  TarReader reader(source, limits);
  while (true) {
    auto entry = reader.next();
    if (!entry || !*entry) break;
    check((*entry)->uid != UINT32_MAX && (*entry)->gid != UINT32_MAX);
    check((*entry)->name.find('\0') == std::string::npos && (*entry)->link.find('\0') == std::string::npos);
    check_name(**entry, limits);
    if (!skip) read_data(**entry, reader);
  }
  check(reader.entries() <= limits.entries + 1);
  return 0;
}
