#include "python/binding.h"

namespace fastdock::python {

namespace py = pybind11;

namespace {

// What is wrong with an archive is no failure of the kernel.
bool is_about_archive(Hint hint) {
  switch (hint) {
    case Hint::kCorruptArchive:
    case Hint::kArchiveLimit:
    case Hint::kDigestMismatch:
    case Hint::kArchiveEscapes:
    case Hint::kArchiveThroughLink:
    case Hint::kUnsupportedEntry:
    case Hint::kLinkTargetMissing:
      return true;
    default:
      return false;
  }
}

}  // namespace

void raise(const Error& error) {
  // Imported here, not at load: the exception tree is Python's, and an error is the rare case.
  py::object make = py::module_::import("fastdock._errors")
                        .attr(is_about_archive(error.hint) ? "_image_error_from_core" : "_from_core");
  py::object exception = make(error.number, std::string(text(error.operation)), error.path,
                              std::string(text(error.hint)), describe(error));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

void register_errors(py::module_& module) {
  module.def(
      "operations",
      [] {
        py::list texts;
        for (std::size_t i = 0; i < static_cast<std::size_t>(Operation::kCount_); ++i)
          texts.append(std::string(text(static_cast<Operation>(i))));
        return texts;
      },
      "The text of each operation that an error can name.");
}

}  // namespace fastdock::python
