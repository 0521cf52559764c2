// Where this process stands among user namespaces.
#pragma once

namespace fastdock {

// False in a namespace of an ordinary user, where root may neither make device nodes nor set trusted.*
// attributes.
bool in_initial_user_namespace();

// An ordinary user may not, nor (user_namespaces(7)) one who maps only its own group: the additional ones
// stay.
bool may_set_groups();

}  // namespace fastdock
