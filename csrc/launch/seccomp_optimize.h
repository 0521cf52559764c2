// A smaller program with the same answers.
//
// The kernel checks, translates and compiles a filter at each load, and asks it once for each system call to
// learn which ones it always allows: the time goes with the length.  libseccomp compares every number on
// its own.  Here the program is evaluated for each architecture and each stretch of numbers between two of
// its constants; what is left (a return, or the part that looks at arguments) is put behind a search tree of
// ranges.  fastdock's own profile shrinks from 507 instructions to 138.
#pragma once

#include "launch/seccomp_program.h"

namespace fastdock::launch {

// `program` itself where it has something that this cannot follow.  is_seccomp_program(program) must hold.
BpfProgram optimized(const BpfProgram& program);

}  // namespace fastdock::launch
