// What every binding file shares: the registration functions and the one way an Error becomes an exception.
#pragma once

#include <pybind11/pybind11.h>

#include "base/error.h"

namespace fastdock::python {

// Raises fastdock._errors.KernelError (or the subclass that fits the errno) for `error`.
[[noreturn]] void raise(const Error& error);

// The value of a Result, or its error raised.  Call with the GIL held.
template <class T>
T unwrap(Result<T>&& result) {
  if (!result) raise(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// Runs `call` without the GIL, then unwraps its Result.
template <class Call>
auto without_gil(Call&& call) {
  auto result = [&] {
    pybind11::gil_scoped_release release;
    return call();
  }();
  return unwrap(std::move(result));
}

void register_errors(pybind11::module_& module);
void register_json(pybind11::module_& module);
void register_cgroup(pybind11::module_& module);
void register_launch(pybind11::module_& module);
void register_security(pybind11::module_& module);
void register_layer(pybind11::module_& module);
void register_monitor(pybind11::module_& module);
void register_net(pybind11::module_& module);
void register_rootless(pybind11::module_& module);

}  // namespace fastdock::python
