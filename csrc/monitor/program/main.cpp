#include <string_view>

#include "launch/helper.h"
#include "monitor/monitor.h"

// One executable for both, because one sealed memory is then enough: the monitor starts its helper from itself.
int main(int argc, char** argv) {
  if (argc > 0 && std::string_view(argv[0]) == "fastdock-helper") return fastdock::launch::helper_main(argc, argv);
  return fastdock::monitor::monitor_main(argc, argv);
}
