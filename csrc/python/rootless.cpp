// Rootless mode: entering a user's namespaces, and talking to their holder.
#include "python/binding.h"
#include "rootless/enter.h"

namespace fastdock::python {

namespace py = pybind11;

void register_rootless(py::module_& module) {
  module.def(
      "rootless_enter",
      [](const std::string& run_directory, const std::string& program, bool network) {
        auto entered = without_gil([&] { return rootless::enter(run_directory, program, network); });
        return py::make_tuple(entered.holder, entered.way, entered.reason);
      },
      py::arg("run_directory"), py::arg("program"), py::arg("network") = true);
  module.def(
      "rootless_ask",
      [](const std::string& run_directory, const std::string& request) {
        return without_gil([&] { return rootless::ask(run_directory, request); });
      },
      py::arg("run_directory"), py::arg("request"));
}

}  // namespace fastdock::python
