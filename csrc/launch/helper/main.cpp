#include "launch/helper.h"

int main(int argc, char** argv) { return fastdock::launch::helper_main(argc, argv); }
