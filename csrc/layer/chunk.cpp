#include "layer/chunk.h"

#include <utility>

namespace fastdock::layer {

ChunkPtr ChunkPool::take() {
  std::unique_ptr<Chunk> chunk;
  {
    std::scoped_lock lock(mutex_);
    if (!free_.empty()) {
      chunk = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (!chunk) chunk = std::make_unique<Chunk>();
  chunk->size = 0;
  return {chunk.release(), [pool = shared_from_this()](Chunk* done) {
            std::unique_ptr<Chunk> owned(done);
            std::scoped_lock lock(pool->mutex_);
            pool->free_.push_back(std::move(owned));
          }};
}

bool ChunkQueue::push(ChunkPtr chunk) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return abandoned_ || chunks_.size() < capacity_; });
  if (abandoned_) return false;
  chunks_.push_back(std::move(chunk));
  changed_.notify_all();
  return true;
}

ChunkPtr ChunkQueue::pop() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return abandoned_ || closed_ || !chunks_.empty(); });
  if (abandoned_ || chunks_.empty()) return nullptr;
  ChunkPtr chunk = std::move(chunks_.front());
  chunks_.pop_front();
  changed_.notify_all();
  return chunk;
}

void ChunkQueue::close() {
  std::scoped_lock lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void ChunkQueue::abandon() {
  std::deque<ChunkPtr> dropped;  // released outside the lock
  std::scoped_lock lock(mutex_);
  abandoned_ = true;
  dropped.swap(chunks_);
  changed_.notify_all();
}

}  // namespace fastdock::layer
