// The figures of `events`: runc's JSON (its types/events.go).
#pragma once

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include "cgroup/cgroup.h"

namespace fastdock::oci {

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

struct Figures {
  cgroup::Statistics statistics;
  cgroup::Details details;
};

void write_figures(Writer& writer, const Figures& figures);

}  // namespace fastdock::oci
