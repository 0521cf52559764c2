// Recompression: the same tar in another compression, limits, damage.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <string>

#include "base/fd.h"
#include "layer/recompress.h"

namespace fastdock::layer {
namespace {

Fd file_with(std::string_view text) {
  Fd fd(::memfd_create("layer", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(::lseek(fd.get(), 0, SEEK_SET), 0);
  return fd;
}

std::string contents(const Fd& fd) {
  std::string text(static_cast<std::size_t>(::lseek(fd.get(), 0, SEEK_END)), '\0');
  EXPECT_EQ(::pread(fd.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  return text;
}

// Three megabytes that compress a little: more than every buffer on the way.
std::string sample() {
  std::string text;
  std::uint32_t state = 1;
  while (text.size() < (std::size_t{3} << 20)) {
    state = state * 1664525 + 1013904223;
    text.append(state >> 28, static_cast<char>(state >> 24));
  }
  return text;
}

std::string converted(std::string_view text, Compression compression) {
  Fd source = file_with(text);
  Fd target = file_with("");
  auto done = recompress(source.get(), target.get(), compression);
  EXPECT_TRUE(done.has_value());
  return contents(target);
}

class Recompress : public testing::TestWithParam<Compression> {};

TEST_P(Recompress, KeepsTheTarWhateverItCameAs) {
  const std::string tar = sample();
  for (Compression from : {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    std::string packed = from == Compression::kNone ? tar : converted(tar, from);
    std::string other = converted(packed, GetParam());
    EXPECT_EQ(detect_compression({reinterpret_cast<const std::uint8_t*>(other.data()), other.size()}),
              GetParam());
    EXPECT_EQ(converted(other, Compression::kNone), tar);
  }
}

TEST_P(Recompress, IsReproducible) {
  const std::string tar = sample();
  std::string once = converted(tar, GetParam());
  EXPECT_EQ(once, converted(tar, GetParam()));
  EXPECT_EQ(once, converted(converted(tar, Compression::kZstd), GetParam()));
}

TEST_P(Recompress, SaysWhatWasWritten) {
  const std::string tar = sample();
  Fd source = file_with(tar);
  Fd target = file_with("");
  auto done = recompress(source.get(), target.get(), GetParam());
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->size, tar.size());
  EXPECT_EQ(done->compressed_size, contents(target).size());
  EXPECT_EQ(done->digest == done->diff_id, GetParam() == Compression::kNone);
}

TEST_P(Recompress, RefusesMoreThanItsLimit) {
  Fd source = file_with(sample());
  Fd target = file_with("");
  auto done = recompress(source.get(), target.get(), GetParam(), std::uint64_t{1} << 20);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().hint, Hint::kArchiveLimit);
}

TEST_P(Recompress, RefusesWhatIsCut) {
  for (Compression from : {Compression::kGzip, Compression::kZstd}) {
    std::string packed = converted(sample(), from);
    packed.resize(packed.size() - 5);
    Fd source = file_with(packed);
    Fd target = file_with("");
    auto done = recompress(source.get(), target.get(), GetParam());
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().hint, Hint::kCorruptArchive);
  }
}

INSTANTIATE_TEST_SUITE_P(To, Recompress,
                         testing::Values(Compression::kNone, Compression::kGzip, Compression::kZstd));

// A window is memory: 64 MiB are taken, more are refused before they are allocated.
TEST(Zstd, WindowsHaveALimit) {
  for (int log : {23, 26, 27}) {
    ZSTD_CCtx* context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, log);
    std::string packed(1 << 20, '\0');
    ZSTD_inBuffer in{"some bytes", 10, 0};
    ZSTD_outBuffer out{packed.data(), packed.size(), 0};
    // Without a known size the window stays as large as was asked for.
    ASSERT_EQ(ZSTD_isError(ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush)), 0U);
    ASSERT_EQ(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end), 0U);
    ZSTD_freeCCtx(context);
    packed.resize(out.pos);
    Fd source = file_with(packed);
    Fd target = file_with("");
    auto done = recompress(source.get(), target.get(), Compression::kNone);
    EXPECT_EQ(done.has_value(), log <= 26);
    if (!done) {
      EXPECT_EQ(done.error().hint, Hint::kArchiveLimit);
    }
  }
}

}  // namespace
}  // namespace fastdock::layer
