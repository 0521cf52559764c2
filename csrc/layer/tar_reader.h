// Reads a tar as it streams by: ustar, pax, GNU, star, and tars from before POSIX.
#pragma once

#include <array>
#include <optional>

#include "layer/layer.h"
#include "layer/pax.h"
#include "layer/tar_fields.h"

namespace fastdock::layer {

// Where the bytes come from, piece by piece; an empty piece is the end.  A piece stays valid until the
// next call.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual Result<Bytes> next() = 0;
};

class TarReader final : public EntryData {
 public:
  TarReader(ByteSource& source, const Limits& limits) : source_(source), limits_(limits) {}

  // The next file; none at the end of the archive.  What is left of the last one's data is skipped.
  Result<std::optional<Entry>> next();

  // Of the current file.
  Result<Piece> read() override;

  [[nodiscard]] std::uint64_t entries() const { return entries_; }

 private:
  // The next block of the archive, valid until the next call; null at a clean end.
  Result<const std::uint8_t*> block();
  Result<Bytes> take(std::uint64_t most);
  Result<void> skip(std::uint64_t count);
  Result<void> skip_rest();
  Result<std::string> read_text(const TarHeader& header, std::size_t most);
  void begin_data(std::uint64_t size);

  // True if the block was one that describes the next entry rather than one of its own.
  Result<bool> read_extension(const TarHeader& header);
  Result<Entry> make_entry(const TarHeader& header);
  Result<void> fill_fields(const TarHeader& header, Entry& entry);
  Result<void> set_type(char type, Entry& entry);
  Result<void> read_old_sparse_map(const TarHeader& header, Entry& entry, std::uint64_t data_size);
  Result<void> read_sparse_map(Entry& entry);
  Result<void> check_size(const Entry& entry);

  ByteSource& source_;
  const Limits limits_;
  Bytes buffered_;
  std::array<std::uint8_t, kBlock> straddling_{};  // a block that two pieces share

  PaxRecords global_;
  PaxRecords local_;
  std::optional<std::string> long_name_;
  std::optional<std::string> long_link_;

  std::uint64_t entries_ = 0;
  std::uint64_t extensions_ = 0;
  std::uint64_t total_size_ = 0;
  bool finished_ = false;

  // Of the current entry's data:
  std::uint64_t left_ = 0;     // in the archive
  std::uint64_t padding_ = 0;  // after it
  std::uint64_t offset_ = 0;   // in the file
  std::vector<Extent> extents_;
  std::size_t extent_ = 0;
  bool sparse_ = false;
};

}  // namespace fastdock::layer
