#include "python/binding.h"

PYBIND11_MODULE(_core, module) {
  using namespace fastdock::python;
  register_errors(module);
  register_net(module);  // before launch, whose signatures name its classes
  register_cgroup(module);
  register_launch(module);
  register_monitor(module);
  register_security(module);
  register_layer(module);
}
