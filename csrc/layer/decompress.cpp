#include "layer/decompress.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fastdock::layer {
namespace {

std::unexpected<Error> damaged(std::string_view format) {
  return failed_with(EBADMSG, Operation::kInflate, format, Hint::kCorruptArchive);
}

class PlainDecompressor final : public Decompressor {
 public:
  Result<void> run(Bytes& input, std::span<std::uint8_t>& output) override {
    std::size_t count = std::min(input.size(), output.size());
    std::memcpy(output.data(), input.data(), count);
    input = input.subspan(count);
    output = output.subspan(count);
    return {};
  }
  Result<void> finish() override { return {}; }
};

// isa-l: 2.5 to 4 times zlib's speed, and the checks of header and trailer are its own.
class GzipDecompressor final : public Decompressor {
 public:
  GzipDecompressor() : state_(std::make_unique<inflate_state>()) { start_member(); }

  Result<void> run(Bytes& input, std::span<std::uint8_t>& output) override {
    while (!input.empty() || pending_output()) {
      if (padding_) return skip_padding(input);
      if (state_->block_state == ISAL_BLOCK_FINISH) {
        // RFC 1952, 2.2: members follow one another.  gzip(1) takes zeros after the last for the padding
        // of a tape, and so do we; anything else is damage.
        if (input.empty()) return {};
        if (input.front() == 0) {
          padding_ = true;
          continue;
        }
        start_member();
      }
      if (output.empty()) return {};
      FASTDOCK_CHECK(step(input, output));
    }
    return {};
  }

  Result<void> finish() override {
    if (state_->block_state != ISAL_BLOCK_FINISH) return damaged("gzip: the data ends too early");
    return {};
  }

 private:
  void start_member() {
    isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP;
    full_ = false;
  }

  // The last call may have stopped because the output was full, with bytes still inside the state.
  [[nodiscard]] bool pending_output() const { return full_ && state_->block_state != ISAL_BLOCK_FINISH; }

  Result<void> step(Bytes& input, std::span<std::uint8_t>& output) {
    auto before = output.size();
    state_->next_in = const_cast<std::uint8_t*>(input.data());
    state_->avail_in = static_cast<std::uint32_t>(input.size());
    state_->next_out = output.data();
    state_->avail_out = static_cast<std::uint32_t>(output.size());
    int status = isal_inflate(state_.get());
    if (status != ISAL_DECOMP_OK && status != ISAL_END_INPUT) return damaged("gzip");
    input = input.last(state_->avail_in);
    output = output.last(state_->avail_out);
    full_ = output.empty() && before != 0;
    return {};
  }

  static Result<void> skip_padding(Bytes& input) {
    if (std::ranges::any_of(input, [](std::uint8_t byte) { return byte != 0; }))
      return damaged("gzip: something else follows the compressed data");
    input = {};
    return {};
  }

  std::unique_ptr<inflate_state> state_;
  bool full_ = false;
  bool padding_ = false;
};

class ZstdDecompressor final : public Decompressor {
 public:
  ZstdDecompressor() : context_(ZSTD_createDCtx()) {
    // RFC 8878, 3.1.1.1.2: decoders may refuse large windows.  The window is memory that a layer's author
    // chooses and we pay; builders write at most 8 MiB, `zstd -21 --ultra` 64.
    if (context_ != nullptr) ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kMostWindowLog);
  }
  ~ZstdDecompressor() override { ZSTD_freeDCtx(context_); }
  ZstdDecompressor(const ZstdDecompressor&) = delete;
  ZstdDecompressor& operator=(const ZstdDecompressor&) = delete;

  Result<void> run(Bytes& input, std::span<std::uint8_t>& output) override {
    if (context_ == nullptr) return failed_with(ENOMEM, Operation::kInflate, "zstd");
    while (!output.empty() && (!input.empty() || full_)) {
      ZSTD_inBuffer in{input.data(), input.size(), 0};
      ZSTD_outBuffer out{output.data(), output.size(), 0};
      remaining_ = ZSTD_decompressStream(context_, &out, &in);
      if (ZSTD_getErrorCode(remaining_) == ZSTD_error_frameParameter_windowTooLarge)
        return failed_with(EFBIG, Operation::kInflate, "zstd: a window of more than 64 MiB",
                           Hint::kArchiveLimit);
      if (ZSTD_isError(remaining_) != 0)
        return damaged(std::string("zstd: ") + ZSTD_getErrorName(remaining_));
      input = input.subspan(in.pos);
      output = output.subspan(out.pos);
      full_ = output.empty() && remaining_ != 0;
    }
    return {};
  }

  Result<void> finish() override {
    if (remaining_ != 0) return damaged("zstd: the data ends too early");
    return {};
  }

 private:
  static constexpr int kMostWindowLog = 26;

  ZSTD_DCtx* context_;
  std::size_t remaining_ = 1;  // 0: between frames
  bool full_ = false;          // the context may hold output that did not fit
};

}  // namespace

Compression detect_compression(Bytes start) {
  if (start.size() < 4) return Compression::kNone;
  if (start[0] == 0x1f && start[1] == 0x8b) return Compression::kGzip;
  std::uint32_t magic =
      start[0] | start[1] << 8 | start[2] << 16 | static_cast<std::uint32_t>(start[3]) << 24;
  // A zstd stream may begin with a skippable frame.
  if (magic == 0xFD2FB528U || (magic & 0xFFFFFFF0U) == 0x184D2A50U) return Compression::kZstd;
  return Compression::kNone;
}

std::unique_ptr<Decompressor> make_decompressor(Compression compression) {
  switch (compression) {
    case Compression::kGzip:
      return std::make_unique<GzipDecompressor>();
    case Compression::kZstd:
      return std::make_unique<ZstdDecompressor>();
    case Compression::kNone:
      break;
  }
  return std::make_unique<PlainDecompressor>();
}

}  // namespace fastdock::layer
