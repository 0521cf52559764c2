// The other way: a tar as it is made, digested, compressed and written at the same time.
#pragma once

#include <memory>
#include <optional>
#include <thread>

#include "layer/chunk.h"
#include "layer/compress.h"
#include "layer/digest.h"
#include "layer/layer.h"
#include "layer/tar_writer.h"

namespace fastdock::layer {

class LayerOutput final : public ByteSink {
 public:
  static Result<std::unique_ptr<LayerOutput>> create(int output, Compression compression);
  ~LayerOutput() override;
  LayerOutput(const LayerOutput&) = delete;
  LayerOutput& operator=(const LayerOutput&) = delete;

  Result<void> write(Bytes data) override;
  Result<LayerResult> finish(std::uint64_t entries);

 private:
  LayerOutput(int output, Compression compression) : output_(output), compression_(compression) {}
  Result<void> start();
  void join();
  Result<void> push_chunk();
  Result<void> compress();
  Result<void> write_out(Bytes data);

  const int output_;
  const Compression compression_;
  std::shared_ptr<ChunkPool> pool_ = std::make_shared<ChunkPool>();
  ChunkQueue to_digest_{4};
  ChunkQueue to_compress_{4};
  std::thread digest_thread_, compress_thread_;
  ChunkPtr current_;
  std::optional<Error> error_;
  Sha256 diff_id_, digest_;
  LayerResult result_;
};

}  // namespace fastdock::layer
