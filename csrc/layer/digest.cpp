#include "layer/digest.h"

// The functions of SHA-256 itself: by EVP all of libcrypto would be linked with it.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <array>

namespace fastdock::layer {

static_assert(sizeof(SHA256_CTX) <= Sha256::kContextSize);

namespace {

SHA256_CTX* in(Sha256::Context& context) { return reinterpret_cast<SHA256_CTX*>(context.data()); }

}  // namespace

// These functions cannot fail (SHA256_Init(3) returns 1).
Sha256::Sha256() { SHA256_Init(in(context_)); }

void Sha256::update(Bytes data) { SHA256_Update(in(context_), data.data(), data.size()); }

std::string Sha256::finish() {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256_Final(digest.data(), in(context_));
  std::string text = "sha256:";
  for (unsigned char byte : digest) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace fastdock::layer
