// fastdock._core: layers.
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "layer/diff.h"
#include "layer/recompress.h"
#include "layer/repair.h"
#include "layer/writer.h"
#include "python/binding.h"

namespace fastdock::python {

namespace py = pybind11;

namespace {

using layer::LayerResult;
using layer::LayerWriter;
using layer::Limits;
using Path = std::filesystem::path;  // str, bytes or os.PathLike, as the file system's bytes

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

// A name from a file system, as os.fsdecode() has it.
py::object file_name(const std::string& name) {
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeFSDefaultAndSize(name.data(), static_cast<Py_ssize_t>(name.size())));
}

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
      .def(py::init([](const Path& destination, std::uint64_t entries, std::uint64_t size, std::size_t name,
                       std::size_t attribute) {
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
      [](int source, const Path& destination, std::uint64_t entries, std::uint64_t size, std::size_t name,
         std::size_t attribute) {
        return without_gil([&] {
          return layer::apply_layer(source, destination, make_limits(entries, size, name, attribute));
        });
      },
      py::arg("source_fd"), py::arg("destination"), py::kw_only(), py::arg("max_entries") = defaults.entries,
      py::arg("max_size") = defaults.size, py::arg("max_name") = defaults.name,
      py::arg("max_xattr") = defaults.attribute, "Unpacks all that can be read from a descriptor.");
}

layer::OutputOptions make_options(const std::string& compression, uid_t uid_offset, gid_t gid_offset) {
  layer::OutputOptions options{layer::Compression::kNone, {uid_offset, gid_offset}};
  if (compression == "gzip")
    options.compression = layer::Compression::kGzip;
  else if (compression == "zstd")
    options.compression = layer::Compression::kZstd;
  else if (compression != "none")
    throw py::value_error("compression must be none, gzip or zstd, not " + compression);
  return options;
}

void register_diff(py::module_& module) {
  module.def(
      "write_diff",
      [](const Path& upper, int output, uid_t uid_offset, gid_t gid_offset, const std::string& compression) {
        auto options = make_options(compression, uid_offset, gid_offset);
        return without_gil([&] { return layer::write_diff(upper, output, options); });
      },
      py::arg("upper"), py::arg("output_fd"), py::kw_only(), py::arg("uid_offset") = 0,
      py::arg("gid_offset") = 0, py::arg("compression") = "none",
      "Writes an overlay's upper directory as a layer.");
  module.def(
      "write_directory_diff",
      [](const Path& before, const Path& after, int output, uid_t uid_offset, gid_t gid_offset,
         const std::string& compression) {
        auto options = make_options(compression, uid_offset, gid_offset);
        return without_gil([&] { return layer::write_directory_diff(before, after, output, options); });
      },
      py::arg("before"), py::arg("after"), py::arg("output_fd"), py::kw_only(), py::arg("uid_offset") = 0,
      py::arg("gid_offset") = 0, py::arg("compression") = "none",
      "Writes what turns one directory into another.");
  module.def(
      "write_tar",
      [](const Path& directory, int output, uid_t uid_offset, gid_t gid_offset,
         const std::string& compression) {
        auto options = make_options(compression, uid_offset, gid_offset);
        return without_gil([&] { return layer::write_tar(directory, output, options); });
      },
      py::arg("directory"), py::arg("output_fd"), py::kw_only(), py::arg("uid_offset") = 0,
      py::arg("gid_offset") = 0, py::arg("compression") = "none", "Writes a whole directory.");
  module.def(
      "recompress",
      [](int source, int output, const std::string& compression) {
        auto kind = make_options(compression, 0, 0).compression;
        return without_gil([&] { return layer::recompress(source, output, kind); });
      },
      py::arg("source_fd"), py::arg("output_fd"), py::arg("compression"),
      "Writes the same tar in another compression.");
  module.def(
      "changes",
      [](const Path& upper, const std::vector<Path>& lower) {
        auto found = without_gil([&] { return layer::changes(upper, {lower.begin(), lower.end()}); });
        py::list result;
        for (const layer::Change& change : found)
          result.append(
              py::make_tuple(std::string(1, static_cast<char>(change.kind)), file_name(change.path)));
        return result;
      },
      py::arg("upper"), py::arg("lower"), "What an upper directory changes in the layers below it.");
  module.def(
      "repair_layers",
      [](const std::vector<std::pair<Path, py::bytes>>& layers, const Path& destination) {
        std::vector<layer::UnpackedLayer> unpacked;
        for (const auto& [path, repairs] : layers) unpacked.push_back({path, std::string(repairs)});
        return without_gil([&] { return layer::repair_layers(unpacked, destination); });
      },
      py::arg("layers"), py::arg("destination"),
      "Fills a directory to stack above layers with what each of them could not know of the others.");
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
  register_diff(module);
}

}  // namespace fastdock::python
