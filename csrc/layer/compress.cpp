#include "layer/compress.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <cerrno>
#include <vector>

namespace fastdock::layer {
namespace {

constexpr std::size_t kOutput = std::size_t{256} << 10;

class PlainCompressor final : public Compressor {
 public:
  Result<void> run(Bytes input, bool, const Out& out) override {
    return input.empty() ? Result<void>{} : out(input);
  }
};

// isa-l's level 3: about the size of zlib's levels 1 to 2, at ten times the speed of level 6.
class GzipCompressor final : public Compressor {
 public:
  GzipCompressor() : level_(ISAL_DEF_LVL3_DEFAULT), output_(kOutput) {
    isal_deflate_init(&stream_);
    stream_.gzip_flag = IGZIP_GZIP;  // a header without name or time
    stream_.level = 3;
    stream_.level_buf = level_.data();
    stream_.level_buf_size = static_cast<std::uint32_t>(level_.size());
  }

  Result<void> run(Bytes input, bool last, const Out& out) override {
    stream_.next_in = const_cast<std::uint8_t*>(input.data());
    stream_.avail_in = static_cast<std::uint32_t>(input.size());
    stream_.end_of_stream = last ? 1 : 0;
    do {
      stream_.next_out = output_.data();
      stream_.avail_out = static_cast<std::uint32_t>(output_.size());
      if (isal_deflate(&stream_) != COMP_OK) return failed_with(EIO, Operation::kCompress, "gzip");
      Bytes made = Bytes(output_).first(output_.size() - stream_.avail_out);
      if (!made.empty()) FASTDOCK_CHECK(out(made));
    } while (stream_.avail_out == 0 || stream_.avail_in != 0);
    return {};
  }

 private:
  isal_zstream stream_{};
  std::vector<std::uint8_t> level_;
  std::vector<std::uint8_t> output_;
};

class ZstdCompressor final : public Compressor {
 public:
  ZstdCompressor() : context_(ZSTD_createCCtx()), output_(kOutput) {
    if (context_ == nullptr) return;
    ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, 3);
    ZSTD_CCtx_setParameter(context_, ZSTD_c_checksumFlag, 1);
  }
  ~ZstdCompressor() override { ZSTD_freeCCtx(context_); }
  ZstdCompressor(const ZstdCompressor&) = delete;
  ZstdCompressor& operator=(const ZstdCompressor&) = delete;

  Result<void> run(Bytes input, bool last, const Out& out) override {
    if (context_ == nullptr) return failed_with(ENOMEM, Operation::kCompress, "zstd");
    ZSTD_inBuffer in{input.data(), input.size(), 0};
    while (true) {
      ZSTD_outBuffer made{output_.data(), output_.size(), 0};
      std::size_t left = ZSTD_compressStream2(context_, &made, &in, last ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(left) != 0)
        return failed_with(EIO, Operation::kCompress, std::string("zstd: ") + ZSTD_getErrorName(left));
      if (made.pos != 0) FASTDOCK_CHECK(out({output_.data(), made.pos}));
      if (last ? left == 0 : in.pos == in.size) return {};
    }
  }

 private:
  ZSTD_CCtx* context_;
  std::vector<std::uint8_t> output_;
};

}  // namespace

Result<std::unique_ptr<Compressor>> make_compressor(Compression compression) {
  switch (compression) {
    case Compression::kGzip:
      return std::make_unique<GzipCompressor>();
    case Compression::kZstd:
      return std::make_unique<ZstdCompressor>();
    case Compression::kNone:
      break;
  }
  return std::make_unique<PlainCompressor>();
}

}  // namespace fastdock::layer
