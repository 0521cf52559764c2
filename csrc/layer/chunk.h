// Large buffers that stages of a pipeline hand on without copying, and the bounded queues between them.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "layer/layer.h"

namespace fastdock::layer {

// Large enough that locks and system calls do not count, small enough that a few of them stay in the caches.
inline constexpr std::size_t kChunkSize = std::size_t{256} << 10;

struct Chunk {
  std::unique_ptr<std::uint8_t[]> storage = std::make_unique_for_overwrite<std::uint8_t[]>(kChunkSize);
  std::size_t size = 0;

  [[nodiscard]] Bytes bytes() const { return {storage.get(), size}; }
  [[nodiscard]] std::span<std::uint8_t> free_space() { return {storage.get() + size, kChunkSize - size}; }
  // Appends as much as there is room for; what is left of it.
  [[nodiscard]] Bytes append(Bytes data) {
    std::size_t count = std::min(free_space().size(), data.size());
    std::memcpy(free_space().data(), data.data(), count);
    size += count;
    return data.subspan(count);
  }
};
using ChunkPtr = std::shared_ptr<Chunk>;

// Gives chunks out and takes them back when their last holder drops them.  malloc would map and unmap
// each one, and the page faults cost as much as creating the files.
class ChunkPool : public std::enable_shared_from_this<ChunkPool> {
 public:
  ChunkPtr take();

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Chunk>> free_;
};

// A queue between one producer and one consumer.  push() waits while it is full, pop() while it is empty.
class ChunkQueue {
 public:
  explicit ChunkQueue(std::size_t capacity) : capacity_(capacity) {}

  // False if the consumer is gone: the producer should stop.
  bool push(ChunkPtr chunk);
  // Null at the end.
  ChunkPtr pop();
  // The producer is done; what is queued is still delivered.
  void close();
  // The consumer is gone; what is queued is dropped.
  void abandon();

 private:
  const std::size_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ChunkPtr> chunks_;
  bool closed_ = false;
  bool abandoned_ = false;
};

}  // namespace fastdock::layer
