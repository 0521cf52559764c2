// JSON between Python's objects and text, by RapidJSON: importing Python's json costs 9 ms, with the regular
// expressions and enumerations that it imports, of the 40 that a whole `fastdock run` has.
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <string>
#include <vector>

#include "python/binding.h"

namespace fastdock::python {
namespace {

namespace py = pybind11;

// What RapidJSON's reader calls; the value is made from the inside out.  Numbers come as text, since Python's
// integers have no bound.
class Builder : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, Builder> {
 public:
  bool Null() { return add(py::none()); }
  bool Bool(bool value) { return add(py::bool_(value)); }
  bool RawNumber(const char* text, rapidjson::SizeType size, bool) {
    py::str digits(text, size);
    bool whole = std::string_view(text, size).find_first_of(".eE") == std::string_view::npos;
    return add(py::reinterpret_steal<py::object>(whole ? PyLong_FromUnicodeObject(digits.ptr(), 10)
                                                       : PyFloat_FromString(digits.ptr())));
  }
  bool String(const char* text, rapidjson::SizeType size, bool) { return add(py::str(text, size)); }
  bool StartObject() { return start(py::dict()); }
  bool Key(const char* text, rapidjson::SizeType size, bool) {
    keys_.emplace_back(py::str(text, size));
    return true;
  }
  bool EndObject(rapidjson::SizeType) { return end(); }
  bool StartArray() { return start(py::list()); }
  bool EndArray(rapidjson::SizeType) { return end(); }

  py::object take() { return std::move(whole_); }

 private:
  bool start(py::object container) {
    open_.push_back(std::move(container));
    return true;
  }
  bool end() {
    py::object closed = std::move(open_.back());
    open_.pop_back();
    return add(std::move(closed));
  }
  bool add(py::object value) {
    if (!value) throw py::error_already_set();
    if (open_.empty()) {
      whole_ = std::move(value);
    } else if (PyDict_Check(open_.back().ptr()) != 0) {
      open_.back()[keys_.back()] = value;
      keys_.pop_back();
    } else {
      py::reinterpret_borrow<py::list>(open_.back()).append(value);
    }
    return true;
  }

  std::vector<py::object> open_;  // objects and arrays around the place where we are
  std::vector<py::str> keys_;     // one for each object among them whose value is to come
  py::object whole_;
};

std::string_view utf8(const py::handle& text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (data == nullptr) throw py::error_already_set();
  return {data, static_cast<std::size_t>(size)};
}

py::object parse_json(const py::str& text) {
  std::string source(utf8(text));  // ends with NUL, as the reader's stream wants
  rapidjson::StringStream stream(source.c_str());
  rapidjson::Reader reader;
  Builder builder;
  // Iterative: a deep document must not overrun the stack.
  constexpr unsigned kFlags = rapidjson::kParseIterativeFlag | rapidjson::kParseNumbersAsStringsFlag;
  auto result = reader.Parse<kFlags>(stream, builder);
  if (result.IsError())
    throw py::value_error(std::string(rapidjson::GetParseError_En(result.Code())) + " at byte " +
                          std::to_string(result.Offset()));
  return builder.take();
}

using JsonWriter = rapidjson::Writer<rapidjson::StringBuffer>;

void write_string(JsonWriter& writer, const py::handle& text) {
  std::string_view data = utf8(text);
  writer.String(data.data(), static_cast<rapidjson::SizeType>(data.size()));
}

// A level of recursion, bounded as Python's own are.
class Level {
 public:
  Level() {
    if (Py_EnterRecursiveCall(" while writing JSON") != 0) throw py::error_already_set();
  }
  ~Level() { Py_LeaveRecursiveCall(); }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;
};

void write_value(JsonWriter& writer, const py::handle& value) {
  Level level;
  if (value.is_none()) {
    writer.Null();
  } else if (PyBool_Check(value.ptr())) {
    writer.Bool(value.ptr() == Py_True);
  } else if (PyUnicode_Check(value.ptr()) != 0) {
    write_string(writer, value);
  } else if (PyLong_Check(value.ptr()) != 0) {
    std::string digits = py::str(value);
    writer.RawValue(digits.data(), digits.size(), rapidjson::kNumberType);
  } else if (PyFloat_Check(value.ptr()) != 0) {
    if (!writer.Double(PyFloat_AS_DOUBLE(value.ptr()))) throw py::value_error("JSON has no such number");
  } else if (PyDict_Check(value.ptr()) != 0) {
    writer.StartObject();
    for (auto [key, item] : py::reinterpret_borrow<py::dict>(value)) {
      if (PyUnicode_Check(key.ptr()) == 0) throw py::type_error("a key in JSON is text");
      write_string(writer, key);
      write_value(writer, item);
    }
    writer.EndObject();
  } else if (PyList_Check(value.ptr()) != 0 || PyTuple_Check(value.ptr()) != 0) {
    writer.StartArray();
    for (const py::handle& item : py::reinterpret_borrow<py::sequence>(value)) write_value(writer, item);
    writer.EndArray();
  } else {
    throw py::type_error("JSON cannot hold a " + std::string(Py_TYPE(value.ptr())->tp_name));
  }
}

py::str dump_json(const py::object& value) {
  rapidjson::StringBuffer buffer;
  JsonWriter writer(buffer);
  write_value(writer, value);
  return {buffer.GetString(), buffer.GetSize()};
}

}  // namespace

void register_json(py::module_& module) {
  module.def("parse_json", &parse_json, py::arg("text"));
  module.def("dump_json", &dump_json, py::arg("value"));
}

}  // namespace fastdock::python
