// Where this process stands among user namespaces.
#pragma once

namespace fastdock {

// False in a namespace of an ordinary user, where root may neither make device nodes nor set trusted.*
// attributes.
bool in_initial_user_namespace();

// user_namespaces(7): a user who maps only its own group may not drop the additional ones.
bool may_set_groups();

}  // namespace fastdock
