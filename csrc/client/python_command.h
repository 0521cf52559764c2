// Which Python runs the command line, and how: found from where the executable itself lies, so that a
// `fastdock` of a virtual environment, of pip --user, of pip --prefix or behind a symbolic link needs no
// PATH.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace fastdock::client {

// The interpreter in the first line of a Python script, as installers write it: `#!/usr/bin/python3`, or,
// where that is too long for the kernel or has spaces, `#!/bin/sh` and `'''exec' "/a b/python3" "$0" "$@"`
// below (distlib/scripts.py).  Empty if there is none.
std::string interpreter_of_script(std::string_view script);

// The words to execute in front of the user's arguments.  `executable`: the real path of this program.
// `chosen`: FASTDOCK_PYTHON, an interpreter that has fastdock installed; empty where none is chosen.
Result<std::vector<std::string>> python_command(const std::string& executable, const std::string& chosen);

}  // namespace fastdock::client
