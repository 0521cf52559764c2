#include "python/binding.h"

PYBIND11_MODULE(_core, module) {
  using namespace fastdock::python;
  register_errors(module);
  register_net(module);
}
