// What goes over a monitor's control socket: one packet (SOCK_SEQPACKET, so the kernel keeps them apart) is a
// header and its payload.
//
// Every connection is a conversation of its own.  One that has attached gets kOutput until kExited; one that
// asked for something gets kDone, kFailed or kExited.  The end of the monitor is the end of the connection.
#pragma once

#include <cstdint>

namespace fastdock::monitor {

enum class Packet : std::uint32_t {
  // To the monitor.  `value` and payload:
  kAttach = 1,  // bits: 1 input, 2 output, 4 errors, 8 the end
  kInput = 2,   // payload: bytes for the program's standard input
  kInputEnd = 3,
  kResize = 4,    // rows << 16 | columns of the terminal
  kSignal = 5,    // number -> kDone, kFailed
  kStop = 6,      // milliseconds until SIGKILL, -1: as configured, -2: never, -3: at
                  // once, and it is removed next; payload: int32 signal, or none -> kDone
  kWait = 7,      // -> kExited, when the program ends next
  kPause = 8,     // -> kDone, kFailed
  kResume = 9,    // -> kDone, kFailed
  kUpdate = 10,   // a descriptor: Update as bytes -> kDone, kFailed
  kRename = 11,   // payload: the name for events -> kDone
  kExecute = 12,  // a descriptor: LaunchPlan as bytes (a detached exec) -> kDone with the pid, kFailed
  // From it.
  kStarted = 64,  // the container's process; payload: warnings, a line each
  kDone = 65,
  kFailed = 66,  // payload: Failure, then the path
  kOutput = 67,  // 1 output, 2 errors; payload: bytes
  kLost = 68,    // this many bytes of output were not sent: the client did not read for a second
  kExited = 69,  // the exit status, as a shell gives it
};

struct PacketHeader {
  Packet kind = Packet::kDone;
  std::int32_t value = 0;
};

struct Failure {
  std::int32_t number = 0;
  std::uint16_t operation = 0, hint = 0;
};

inline constexpr int kStopAndForget = -3;
inline constexpr int kAttachInput = 1, kAttachOutput = 2, kAttachErrors = 4;
inline constexpr int kAttachEnd = 8;  // to none of them: only kExited
inline constexpr std::size_t kMaximumPayload = 32768;

}  // namespace fastdock::monitor
