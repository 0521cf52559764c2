#include <cstdlib>

#include "net/nft.h"
#include "python/binding.h"

PYBIND11_MODULE(_core, module) {
  using namespace fastdock::python;
  register_errors(module);
  register_json(module);
  register_net(module);  // before launch, whose signatures name its classes
  register_cgroup(module);
  register_launch(module);
  register_monitor(module);
  register_security(module);
  register_layer(module);
  register_rootless(module);
  module.def(
      "keep_for_ever", [](const pybind11::object& value) { value.inc_ref(); }, pybind11::arg("value"),
      "What would be done when this object goes is not done: the process ends with it.");
  module.def(
      "exit",
      [](int status) {
        fastdock::net::leave_socket();
        std::exit(status);
      },
      pybind11::arg("status"));
}
