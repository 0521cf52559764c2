#include "layer/writer.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/path.h"
#include "layer/file_entry.h"
#include "layer/name.h"
#include "layer/tar_reader.h"
#include "layer/threads.h"
#include "layer/unpack.h"

namespace fastdock::layer {

// The chunks of the tar, for its reader.
class LayerWriter::TarSource final : public ByteSource {
 public:
  explicit TarSource(LayerWriter& writer) : writer_(writer) {}
  Result<Bytes> next() override {
    chunk_ = writer_.to_unpack_.pop();
    if (chunk_) return chunk_->bytes();
    // Not an end, but the failure of the stage before.
    if (writer_.decompress_error_) return std::unexpected(*writer_.decompress_error_);
    return Bytes{};
  }

 private:
  LayerWriter& writer_;
  ChunkPtr chunk_;
};

Result<std::unique_ptr<LayerWriter>> LayerWriter::create(const std::string& destination,
                                                         const Limits& limits) {
  FASTDOCK_TRY(Fd fd, open_file(destination, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  FASTDOCK_TRY(std::vector<std::string> names, list_names(fd.get(), destination));
  if (!names.empty())
    return failed_with(ENOTEMPTY, Operation::kUnpackEntry, destination, Hint::kDirectoryNotEmpty);
  std::unique_ptr<LayerWriter> writer(new LayerWriter(std::move(fd), limits));
  FASTDOCK_CHECK(writer->start());
  return writer;
}

Result<void> LayerWriter::start() {
  FASTDOCK_TRY(decompress_thread_, start_thread([this] {
                 if (auto done = decompress(); !done) decompress_error_ = std::move(done.error());
                 inflated_.reset();
                 compressed_.abandon();
                 to_digest_.close();
                 to_unpack_.close();
               }));
  FASTDOCK_TRY(digest_thread_, start_thread([this] {
                 while (ChunkPtr chunk = to_digest_.pop()) diff_id_.update(chunk->bytes());
               }));
  FASTDOCK_TRY(unpack_thread_, start_thread([this] {
                 if (auto done = unpack(); !done) unpack_error_ = std::move(done.error());
                 to_unpack_.abandon();
               }));
  return {};
}

void LayerWriter::join() {
  ended_ = true;
  for (std::thread* thread : {&decompress_thread_, &digest_thread_, &unpack_thread_})
    if (thread->joinable()) thread->join();
}

void LayerWriter::abort() {
  aborted_ = true;
  compressed_.abandon();
  to_digest_.abandon();
  to_unpack_.abandon();
  std::scoped_lock lock(calls_);  // whoever was in a call has been woken
  join();
}

Result<void> LayerWriter::write(Bytes data) {
  std::scoped_lock lock(calls_);
  while (!data.empty()) {
    if (!current_) current_ = pool_->take();
    data = current_->append(data);
    if (current_->free_space().empty()) FASTDOCK_CHECK(push_chunk());
  }
  return {};
}

Result<void> LayerWriter::write_from(int fd) {
  std::scoped_lock lock(calls_);
  while (true) {
    if (!current_) current_ = pool_->take();
    auto space = current_->free_space();
    ssize_t count = ::read(fd, space.data(), space.size());
    if (count == 0) return {};
    if (count < 0) {
      if (errno == EINTR) continue;
      return failed(Operation::kReadFile, "the layer");
    }
    current_->size += static_cast<std::size_t>(count);
    if (current_->free_space().empty()) FASTDOCK_CHECK(push_chunk());
  }
}

Result<void> LayerWriter::push_chunk() {
  if (ended_) return failed_with(EBADF, Operation::kUnpackEntry, "after the end");
  if (!compression_) compression_ = detect_compression(current_->bytes());
  // What is not compressed has one digest, and the thread computes it.
  if (*compression_ != Compression::kNone) digest_.update(current_->bytes());
  result_.compressed_size += current_->size;
  if (compressed_.push(std::exchange(current_, nullptr))) return {};
  // A stage has failed.  Which error it is is known when all have ended.
  join();
  if (unpack_error_) return std::unexpected(*unpack_error_);
  if (decompress_error_) return std::unexpected(*decompress_error_);
  return failed_with(ECANCELED, Operation::kUnpackEntry);
}

Result<LayerResult> LayerWriter::finish() {
  std::scoped_lock lock(calls_);
  if (ended_) return failed_with(EBADF, Operation::kUnpackEntry, "after the end");
  if (current_ && current_->size != 0) FASTDOCK_CHECK(push_chunk());
  compressed_.close();
  join();
  if (unpack_error_) return std::unexpected(*unpack_error_);
  if (decompress_error_) return std::unexpected(*decompress_error_);
  result_.diff_id = diff_id_.finish();
  bool plain = compression_.value_or(Compression::kNone) == Compression::kNone;
  result_.digest = plain ? result_.diff_id : digest_.finish();
  return result_;
}

Result<void> LayerWriter::decompress() {
  std::unique_ptr<Decompressor> decompressor;
  while (ChunkPtr chunk = compressed_.pop()) {
    if (*compression_ == Compression::kNone) {
      FASTDOCK_CHECK(hand_on(std::move(chunk)));
      continue;
    }
    if (!decompressor) decompressor = make_decompressor(*compression_);
    FASTDOCK_CHECK(decompress_chunk(*decompressor, *chunk));
  }
  if (aborted_) return failed_with(ECANCELED, Operation::kUnpackEntry);
  if (inflated_ && inflated_->size != 0) FASTDOCK_CHECK(hand_on(std::exchange(inflated_, nullptr)));
  if (decompressor) return decompressor->finish();
  return {};
}

Result<void> LayerWriter::decompress_chunk(Decompressor& decompressor, const Chunk& chunk) {
  Bytes input = chunk.bytes();
  while (true) {
    if (!inflated_) inflated_ = pool_->take();
    auto output = inflated_->free_space();
    auto run = decompressor.run(input, output);
    inflated_->size = kChunkSize - output.size();
    if (!run) {
      // The bytes before the damage count: an error in them is the one to report.
      if (inflated_->size != 0) FASTDOCK_CHECK(hand_on(std::exchange(inflated_, nullptr)));
      return run;
    }
    if (!output.empty()) return {};  // so the input is used up
    FASTDOCK_CHECK(hand_on(std::exchange(inflated_, nullptr)));
  }
}

Result<void> LayerWriter::hand_on(ChunkPtr chunk) {
  result_.size += chunk->size;
  if (result_.size > limits_.size) return over_limit("the archive", "max_size");
  if (to_unpack_.push(chunk) && to_digest_.push(std::move(chunk))) return {};
  return failed_with(ECANCELED, Operation::kUnpackEntry);  // the stage that is gone has the error
}

Result<void> LayerWriter::unpack() {
  // A umask of this thread's own: files get the modes of the archive without a chmod each.
  if (::unshare(CLONE_FS) != 0) return failed(Operation::kSetMode, "the umask");
  ::umask(0);
  FASTDOCK_TRY(Unpacker unpacker, Unpacker::create(std::move(destination_), limits_));
  TarSource source(*this);
  TarReader reader(source, limits_);
  while (true) {
    FASTDOCK_TRY(std::optional<Entry> entry, reader.next());
    if (!entry) break;
    FASTDOCK_CHECK(unpacker.add(*entry, reader));
  }
  // What follows the end of the archive belongs to its digest all the same.
  while (true) {
    FASTDOCK_TRY(Bytes rest, source.next());
    if (rest.empty()) break;
  }
  if (aborted_) return failed_with(ECANCELED, Operation::kUnpackEntry);
  FASTDOCK_CHECK(unpacker.finish());
  result_.entries = reader.entries();
  result_.skipped_attributes = unpacker.skipped_attributes();
  result_.repairs = unpacker.repairs();
  return {};
}

Result<LayerResult> apply_layer(int source, const std::string& destination, const Limits& limits) {
  FASTDOCK_TRY(std::unique_ptr<LayerWriter> writer, LayerWriter::create(destination, limits));
  FASTDOCK_CHECK(writer->write_from(source));
  return writer->finish();
}

}  // namespace fastdock::layer
