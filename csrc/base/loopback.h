// The device lo of the calling thread's network namespace.
#pragma once

#include "base/error.h"

namespace fastdock {

Result<void> raise_loopback();

}  // namespace fastdock
