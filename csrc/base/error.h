// What a failed operation is made of, and the one result type of the core.
//
// Nothing in csrc throws: functions return Result<T>, and only csrc/python turns an Error into an
// exception.  An Error says what was tried (operation), on what (path), why it failed (number) and,
// where we know more than the kernel says, what to do about it (hint).
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace fastdock {

// What was tried.  The texts are in error.cpp, in the same order; add to both.
enum class Operation : std::uint16_t {
  kNone,
  // launch: in the parent
  kCreatePipe,
  kAllocateStack,
  kCloneProcess,
  kWriteUidMap,
  kWriteGidMap,
  kOpenNamespace,
  kReserveIds,
  kRunHelper,
  kPrepareDirectory,
  kRemoveDirectory,
  kSendDescriptor,
  kReceiveDescriptor,
  kWaitForProcess,
  kSignalProcess,
  // launch: in the child
  kSetParentDeathSignal,
  kJoinCgroup,
  kJoinNamespace,
  kCreateNamespace,
  kSetPropagation,
  kSetHostname,
  kSetDomainname,
  kRaiseLoopback,
  kSetClockOffset,
  kWriteSysctl,
  kChangeRoot,
  kDetachOldRoot,
  kNewSession,
  kOpenTerminal,
  kSetTerminalSize,
  kSetControllingTerminal,
  kRedirectStdio,
  kSetLimit,
  kSetOomScore,
  kSetScheduler,
  kSetIoPriority,
  kSetAffinity,
  kSetMemoryPolicy,
  kSetPersonality,
  kSetSecurityLabel,
  kNewKeyring,
  kDropCapabilities,
  kSetCapabilities,
  kSetAmbientCapabilities,
  kSetNoNewPrivileges,
  kLoadSeccomp,
  kSetGroups,
  kSetGroupId,
  kSetUserId,
  kFindUser,
  kFindGroup,
  kChangeDirectory,
  kCloseDescriptors,
  kRunHook,
  kWaitForStart,
  kExecute,
  // rootfs
  kOpenLayer,
  kMapLayer,
  kCreateOverlay,
  kConfigureOverlay,
  kMountOverlay,
  kOpenRoot,
  kCreateFilesystem,
  kConfigureFilesystem,
  kMountFilesystem,
  kOpenBindSource,
  kMapBindSource,
  kCreateMountPoint,
  kOpenMountPoint,
  kAttachMount,
  kSetMountAttributes,
  kCreateDevice,
  kCreateLink,
  kMaskPath,
  kMakeReadOnly,
  kCheckProcfs,
  // files
  kOpenFile,
  kReadFile,
  kWriteFile,
  kCreateFile,
  kCreateDirectory,
  kRenameFile,
  kLinkFile,
  kRemoveFile,
  kListDirectory,
  kInspectFile,
  kLockFile,
  kSetOwner,
  kSetMode,
  kSetTimes,
  kSetAttribute,
  kSyncFile,
  // cgroups
  kFindCgroups,
  kCreateCgroup,
  kSetCgroupLimit,
  kReadCgroup,
  kFreezeCgroup,
  kKillCgroup,
  kRemoveCgroup,
  kLoadDeviceProgram,
  // seccomp
  kCompileSeccomp,
  // layers
  kReadArchive,
  kInflate,
  kCompress,
  kDigest,
  kUnpackEntry,
  // networks
  kOpenNetlink,
  kCreateLinkDevice,
  kConfigureLinkDevice,
  kRemoveLinkDevice,
  kAddAddress,
  kAddRoute,
  kConfigureFirewall,
  kOpenResolver,
  kConnectResolver,
  kOpenRelay,
  // input
  kParse,
  // the OCI runtime: the path is the whole sentence
  kUseContainer,
  // client
  kFindPython,
  // rootless: the path is the whole sentence
  kUseRootless,
  // D-Bus
  kTalkToBus,
  kCount_,
};

// What to do about it, where the errno alone would mislead.
enum class Hint : std::uint16_t {
  kNone,
  kChoosePython,
  kProgramMissing,
  kProgramNotExecutable,
  kProgramIsDirectory,
  kInterpreterMissing,
  kWrongFormat,
  kArgumentsTooLong,
  kBindSourceMissing,
  kUserUnknown,
  kGroupUnknown,
  kWorkingDirectoryMissing,
  kControllerAbsent,
  kLimitRefused,
  kLimitBelowUse,
  kNamespaceForbidden,
  kNamespaceLimit,
  kUserNamespaceForbidden,
  kNeedsRoot,
  kNoSpace,
  kNoIdsLeft,
  kLayerUnreadable,
  kTooManyLayers,
  kKernelTooOld,
  kEscapesRoot,
  kMountPointMissing,
  kUpperNotSupported,
  kHardLimit,
  kCapabilityMissing,
  kTerminalGone,
  kMemoryLimitTooSmall,
  kCorruptArchive,
  kArchiveLimit,
  kDigestMismatch,
  kSeccompUnavailable,
  kFirewallUnavailable,
  kPortTaken,
  kAddressTaken,
  kProcessGone,
  kSwapBelowMemory,
  kCgroupHoldsProcesses,
  kCgroupNotEmpty,
  kNotOnThisCgroupVersion,
  kArchiveEscapes,
  kArchiveThroughLink,
  kUnsupportedEntry,
  kLinkTargetMissing,
  kDirectoryNotEmpty,
  kChangedWhileRead,
  kOverlayReference,
  kBridgeFull,
  kIdNotMapped,
  kProcessHasThreads,
  kNotDelegated,
  kMountPointIsLink,
  kMemoryPolicyRefused,
  kCount_,
};

std::string_view text(Operation operation);
std::string_view text(Hint hint);

struct Error {
  int number = 0;  // an errno value
  Operation operation = Operation::kNone;
  std::string path;  // the object of the operation: a path, a limit's name, a program
  Hint hint = Hint::kNone;
};

// "cannot mount /x: No such file or directory (the directory does not exist in the image)"
std::string describe(const Error& error);

template <class T>
using Result = std::expected<T, Error>;

// The error of a system call that has just failed, from the calling thread's errno.
std::unexpected<Error> failed(Operation operation, std::string_view path = {}, Hint hint = Hint::kNone);
std::unexpected<Error> failed_with(int number, Operation operation, std::string_view path = {},
                                   Hint hint = Hint::kNone);

}  // namespace fastdock

// Evaluates a Result<T>; on failure returns its error from the enclosing function.
//   FASTDOCK_TRY(auto fd, open_file(...));   FASTDOCK_CHECK(remove(...));
#define FASTDOCK_JOIN_(a, b) a##b
#define FASTDOCK_JOIN(a, b) FASTDOCK_JOIN_(a, b)
#define FASTDOCK_TRY_(name, declaration, expression)          \
  auto name = (expression);                                   \
  if (!name) return std::unexpected(std::move(name.error())); \
  declaration = std::move(*name)
#define FASTDOCK_TRY(declaration, ...) \
  FASTDOCK_TRY_(FASTDOCK_JOIN(try_result_, __LINE__), declaration, (__VA_ARGS__))
#define FASTDOCK_CHECK(...)                                    \
  do {                                                         \
    if (auto check_result = (__VA_ARGS__); !check_result)      \
      return std::unexpected(std::move(check_result.error())); \
  } while (false)
