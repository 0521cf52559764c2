// The same tar in another compression.
#pragma once

#include "layer/decompress.h"
#include "layer/layer.h"

namespace fastdock::layer {

// Reads all of `source` (a tar: gzip, zstd or plain), writes it to `output` compressed so.  The result's
// digests and sizes are those of what was written; its entries are not counted.  The same tar gives the same
// bytes. More than `limit` bytes of tar are refused (Hint::kArchiveLimit).
Result<LayerResult> recompress(int source, int output, Compression compression,
                               std::uint64_t limit = Limits{}.size);

}  // namespace fastdock::layer
