// One layer from its bytes as they arrive: inflated, digested and unpacked at the same time.
//
//   caller                 thread           threads
//   write(): SHA-256  ->  inflate  --+-->  SHA-256 of the tar (diff_id)
//                                    +-->  tar reader, files
//
// Chunks are handed on by reference and each queue is bounded, so memory does not grow with the layer.
// What comes of it does not depend on timing: of two errors, the one that belongs to earlier bytes wins.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/fd.h"
#include "layer/chunk.h"
#include "layer/decompress.h"
#include "layer/digest.h"
#include "layer/layer.h"

namespace fastdock::layer {

class LayerWriter {
 public:
  // `destination` is an empty directory.  After an error it holds what was made until then; the caller
  // removes it.
  static Result<std::unique_ptr<LayerWriter>> create(const std::string& destination, const Limits& limits);
  ~LayerWriter() { abort(); }
  LayerWriter(const LayerWriter&) = delete;
  LayerWriter& operator=(const LayerWriter&) = delete;

  // Takes the next compressed bytes; waits while the stages are behind.
  Result<void> write(Bytes data);
  // The same with all that can be read from `fd`.
  Result<void> write_from(int fd);
  // Waits for all stages.
  Result<LayerResult> finish();
  // Stops all stages; from any thread, also while another is in write() or finish().
  void abort();

 private:
  class TarSource;

  LayerWriter(Fd destination, const Limits& limits) : destination_(std::move(destination)), limits_(limits) {}
  Result<void> start();
  void join();
  Result<void> push_chunk();

  Result<void> decompress();
  Result<void> decompress_chunk(Decompressor& decompressor, const Chunk& chunk);
  Result<void> hand_on(ChunkPtr chunk);
  Result<void> unpack();

  Fd destination_;
  const Limits limits_;
  std::shared_ptr<ChunkPool> pool_ = std::make_shared<ChunkPool>();
  ChunkQueue compressed_{4};
  ChunkQueue to_digest_{8};
  ChunkQueue to_unpack_{8};
  std::thread decompress_thread_, digest_thread_, unpack_thread_;

  // The caller's:
  std::mutex calls_;
  ChunkPtr current_;
  std::optional<Compression> compression_;
  Sha256 digest_;
  // The inflating thread's; the others read them once its queues are closed.
  ChunkPtr inflated_;
  std::optional<Error> decompress_error_;
  std::atomic<bool> aborted_ = false;
  // Read when the threads have ended:
  Sha256 diff_id_;
  std::optional<Error> unpack_error_;
  LayerResult result_;
  bool ended_ = false;
};

// A whole layer from a descriptor.
Result<LayerResult> apply_layer(int source, const std::string& destination, const Limits& limits);

}  // namespace fastdock::layer
