#include "layer/digest.h"

#include <openssl/evp.h>

#include <cstdlib>
#include <iterator>

namespace fastdock::layer {
namespace {

// OpenSSL fails here only when memory is gone or the library is broken: there is nothing to hand on.
void must(int result) {
  if (result != 1) std::abort();
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) { must(EVP_DigestInit_ex(context_, EVP_sha256(), nullptr)); }

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::update(Bytes data) { must(EVP_DigestUpdate(context_, data.data(), data.size())); }

std::string Sha256::finish() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  must(EVP_DigestFinal_ex(context_, digest, &size));
  std::string text = "sha256:";
  for (unsigned int i = 0; i < size; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

}  // namespace fastdock::layer
