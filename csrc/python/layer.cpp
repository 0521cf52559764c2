// fastdock._core: layers.
#include <pybind11/stl.h>

#include "layer/writer.h"
#include "python/binding.h"

namespace fastdock::python {

namespace py = pybind11;

namespace {

using layer::LayerResult;
using layer::LayerWriter;
using layer::Limits;

Limits make_limits(std::uint64_t entries, std::uint64_t size, std::size_t name, std::size_t attribute) {
  Limits limits;
  limits.entries = entries;
  limits.size = size;
  limits.name = name;
  limits.attribute = attribute;
  return limits;
}

// The bytes of any object with a contiguous buffer, held while it is used.
class ReadBuffer {
 public:
  explicit ReadBuffer(const py::object& object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  }
  ~ReadBuffer() { PyBuffer_Release(&view_); }
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;
  [[nodiscard]] layer::Bytes bytes() const {
    return {static_cast<const std::uint8_t*>(view_.buf), static_cast<std::size_t>(view_.len)};
  }

 private:
  Py_buffer view_{};
};

// Destroying a writer joins its threads, which must not happen while they could wait for the GIL's holder.
struct ReleaseWriter {
  void operator()(LayerWriter* writer) const {
    py::gil_scoped_release release;
    delete writer;
  }
};
using WriterHolder = std::unique_ptr<LayerWriter, ReleaseWriter>;

void register_writer(py::module_& module) {
  const Limits defaults;
  py::class_<LayerWriter, WriterHolder>(module, "LayerWriter", "One layer, unpacked as its bytes arrive.")
      .def(py::init([](const std::string& destination, std::uint64_t entries, std::uint64_t size,
                       std::size_t name, std::size_t attribute) {
             auto writer = without_gil([&] {
               return LayerWriter::create(destination, make_limits(entries, size, name, attribute));
             });
             return WriterHolder(writer.release());
           }),
           py::arg("destination"), py::kw_only(), py::arg("max_entries") = defaults.entries,
           py::arg("max_size") = defaults.size, py::arg("max_name") = defaults.name,
           py::arg("max_xattr") = defaults.attribute)
      .def(
          "write",
          [](LayerWriter& writer, const py::object& data) {
            ReadBuffer buffer(data);
            without_gil([&] { return writer.write(buffer.bytes()); });
          },
          py::arg("data"), "Takes the next compressed bytes; waits while unpacking is behind.")
      .def(
          "finish", [](LayerWriter& writer) { return without_gil([&] { return writer.finish(); }); },
          "Waits until everything is unpacked.")
      .def(
          "abort",
          [](LayerWriter& writer) {
            py::gil_scoped_release release;
            writer.abort();
          },
          "Stops; the directory is left to the caller.");
  module.def(
      "apply_layer",
      [](int source, const std::string& destination, std::uint64_t entries, std::uint64_t size,
         std::size_t name, std::size_t attribute) {
        return without_gil([&] {
          return layer::apply_layer(source, destination, make_limits(entries, size, name, attribute));
        });
      },
      py::arg("source_fd"), py::arg("destination"), py::kw_only(), py::arg("max_entries") = defaults.entries,
      py::arg("max_size") = defaults.size, py::arg("max_name") = defaults.name,
      py::arg("max_xattr") = defaults.attribute, "Unpacks all that can be read from a descriptor.");
}

}  // namespace

void register_layer(py::module_& module) {
  py::class_<LayerResult>(module, "LayerResult", "A layer that went through.")
      .def_readonly("digest", &LayerResult::digest)
      .def_readonly("diff_id", &LayerResult::diff_id)
      .def_readonly("compressed_size", &LayerResult::compressed_size)
      .def_readonly("size", &LayerResult::size)
      .def_readonly("entries", &LayerResult::entries)
      .def_readonly("skipped_attributes", &LayerResult::skipped_attributes)
      .def_property_readonly("repairs", [](const LayerResult& result) { return py::bytes(result.repairs); });
  register_writer(module);
}

}  // namespace fastdock::python
