// From the bytes of a tar to those of a layer blob.
#pragma once

#include <functional>
#include <memory>

#include "layer/decompress.h"
#include "layer/layer.h"

namespace fastdock::layer {

// The output depends on the input's bytes and on how they are cut into calls, not on time: call it with
// pieces of a fixed size, and equal tars give equal blobs.
class Compressor {
 public:
  using Out = std::function<Result<void>(Bytes)>;
  virtual ~Compressor() = default;
  virtual Result<void> run(Bytes input, bool last, const Out& out) = 0;
};

Result<std::unique_ptr<Compressor>> make_compressor(Compression compression);

}  // namespace fastdock::layer
