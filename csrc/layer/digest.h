// SHA-256 as OCI writes it.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "layer/layer.h"

namespace fastdock::layer {

class Sha256 {
 public:
  static constexpr std::size_t kContextSize = 128;
  using Context =
      std::array<std::byte, kContextSize>;  // OpenSSL's SHA256_CTX, whose header stays out of here

  Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(Bytes data);
  // "sha256:…" of everything so far; the object is used up.
  std::string finish();

 private:
  alignas(8) Context context_{};
};

}  // namespace fastdock::layer
