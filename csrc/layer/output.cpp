#include "layer/output.h"

#include <unistd.h>

#include <cerrno>

#include "layer/threads.h"

namespace fastdock::layer {

Result<std::unique_ptr<LayerOutput>> LayerOutput::create(int output, Compression compression) {
  std::unique_ptr<LayerOutput> made(new LayerOutput(output, compression));
  FASTDOCK_CHECK(made->start());
  return made;
}

Result<void> LayerOutput::start() {
  FASTDOCK_TRY(digest_thread_, start_thread([this] {
                 while (ChunkPtr chunk = to_digest_.pop()) diff_id_.update(chunk->bytes());
               }));
  FASTDOCK_TRY(compress_thread_, start_thread([this] {
                 if (auto done = compress(); !done) error_ = std::move(done.error());
                 to_compress_.abandon();
               }));
  return {};
}

LayerOutput::~LayerOutput() {
  to_digest_.abandon();
  to_compress_.abandon();
  join();
}

void LayerOutput::join() {
  for (std::thread* thread : {&digest_thread_, &compress_thread_})
    if (thread->joinable()) thread->join();
}

Result<void> LayerOutput::write(Bytes data) {
  while (!data.empty()) {
    if (!current_) current_ = pool_->take();
    data = current_->append(data);
    if (current_->free_space().empty()) FASTDOCK_CHECK(push_chunk());
  }
  return {};
}

Result<void> LayerOutput::push_chunk() {
  result_.size += current_->size;
  if (to_digest_.push(current_) && to_compress_.push(std::exchange(current_, nullptr))) return {};
  to_digest_.close();
  join();
  if (error_) return std::unexpected(*error_);
  return failed_with(ECANCELED, Operation::kCompress);
}

Result<LayerResult> LayerOutput::finish(std::uint64_t entries) {
  if (current_ && current_->size != 0) FASTDOCK_CHECK(push_chunk());
  to_digest_.close();
  to_compress_.close();
  join();
  if (error_) return std::unexpected(*error_);
  result_.entries = entries;
  result_.diff_id = diff_id_.finish();
  result_.digest = compression_ == Compression::kNone ? result_.diff_id : digest_.finish();
  return result_;
}

Result<void> LayerOutput::compress() {
  FASTDOCK_TRY(std::unique_ptr<Compressor> compressor, make_compressor(compression_));
  auto out = [this](Bytes data) { return write_out(data); };
  while (ChunkPtr chunk = to_compress_.pop()) FASTDOCK_CHECK(compressor->run(chunk->bytes(), false, out));
  return compressor->run({}, true, out);
}

Result<void> LayerOutput::write_out(Bytes data) {
  if (compression_ != Compression::kNone) digest_.update(data);
  result_.compressed_size += data.size();
  while (!data.empty()) {
    ssize_t count = ::write(output_, data.data(), data.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      return failed(Operation::kWriteFile, "the layer", errno == ENOSPC ? Hint::kNoSpace : Hint::kNone);
    }
    data = data.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace fastdock::layer
