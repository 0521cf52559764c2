// SHA-256 as OCI writes it.
#pragma once

#include <memory>
#include <string>

#include "layer/layer.h"

struct evp_md_ctx_st;

namespace fastdock::layer {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(Bytes data);
  // "sha256:…" of everything so far; the object is used up.
  std::string finish();

 private:
  evp_md_ctx_st* context_;
};

}  // namespace fastdock::layer
