#include "oci/listener.h"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include "oci/terminal.h"

namespace fastdock::oci {

Result<void> send_listener(const SeccompListener& listener, const State& state, int descriptor) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  auto put = [&](const char* key, const std::string& value) {
    writer.Key(key);
    writer.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
  };
  writer.StartObject();
  put("ociVersion", state.version);
  writer.Key("fds");
  writer.StartArray();
  writer.String("seccompFd");
  writer.EndArray();
  writer.Key("pid");
  writer.Int(state.pid);
  if (!listener.metadata.empty()) put("metadata", listener.metadata);
  writer.Key("state");
  std::string inner = state_json(state, Status::kCreating, StateFor::kHooks);
  writer.RawValue(inner.data(), inner.size(), rapidjson::kObjectType);
  writer.EndObject();
  auto socket = connect_to(listener.path);
  if (!socket)
    return failed_with(socket.error().number, Operation::kUseContainer,
                       "failed to connect with seccomp agent: " + describe(socket.error()));
  return send_descriptor(socket->get(), descriptor, {buffer.GetString(), buffer.GetSize()});
}

}  // namespace fastdock::oci
