// What the files of this room share: the limits of an archive, its entries, and what a transfer results in.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace fastdock::layer {

using Bytes = std::span<const std::uint8_t>;

// What an archive may ask of us before it is refused (Hint::kArchiveLimit).
struct Limits {
  std::uint64_t entries = 2'000'000;
  std::uint64_t size = std::uint64_t{256} << 30;  // bytes of the tar, and of its files with their holes
  std::size_t name = 4096;                        // PATH_MAX: no program could open more
  std::size_t attribute = 65536;                  // xattr(7): XATTR_SIZE_MAX
  std::size_t depth = 256;                        // remove_tree() holds one descriptor a level
};

enum class EntryType : std::uint8_t {
  kFile,
  kHardLink,
  kSymlink,
  kCharacterDevice,
  kBlockDevice,
  kDirectory,
  kFifo
};

struct Attribute {  // an extended attribute
  std::string name;
  std::string value;
  bool operator==(const Attribute&) const = default;
};

struct Extent {  // a part of a sparse file that has data
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

// What a tar says of one file.
struct Entry {
  EntryType type = EntryType::kFile;
  std::string name;
  std::string link;  // target of a symbolic or hard link
  mode_t mode = 0;   // permission bits, setuid, setgid, sticky
  uid_t uid = 0;
  gid_t gid = 0;
  timespec mtime{};
  unsigned device_major = 0;
  unsigned device_minor = 0;
  std::uint64_t size = 0;  // of the file, holes included
  std::vector<Attribute> attributes;
  bool sparse = false;
  std::vector<Extent> extents;  // in order; if sparse
};

// The data of a file, piece by piece.
class EntryData {
 public:
  struct Piece {
    std::uint64_t offset = 0;  // in the file
    Bytes data;
  };
  virtual ~EntryData() = default;
  // Valid until the next call; empty at the end.
  virtual Result<Piece> read() = 0;
};

// A layer that went through: `digest` of the bytes as transferred, `diff_id` of the tar inside.
struct LayerResult {
  std::string digest;   // "sha256:…"
  std::string diff_id;  // "sha256:…"
  std::uint64_t compressed_size = 0;
  std::uint64_t size = 0;     // of the tar
  std::uint64_t entries = 0;  // of the tar
  // Extended attributes that the file system does not take.
  std::uint64_t skipped_attributes = 0;
  // What only the layers below can complete: see repair.h.  Opaque bytes; empty if nothing is.
  std::string repairs;
};

}  // namespace fastdock::layer
