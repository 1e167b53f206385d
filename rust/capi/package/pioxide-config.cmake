# find_package(pioxide): the targets pioxide::pioxide, the shared library, and pioxide::static. Installed in
# PREFIX/lib/cmake/pioxide, from where all paths are found, so that the installed tree may be moved.
get_filename_component(_pioxide_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET pioxide::pioxide)
  add_library(pioxide::pioxide SHARED IMPORTED)
  set_target_properties(pioxide::pioxide PROPERTIES
    IMPORTED_LOCATION "${_pioxide_prefix}/lib/libpioxide.so.1"
    IMPORTED_SONAME "libpioxide.so.1"
    INTERFACE_INCLUDE_DIRECTORIES "${_pioxide_prefix}/include")

  find_package(Threads REQUIRED)
  add_library(pioxide::static STATIC IMPORTED)
  set_target_properties(pioxide::static PROPERTIES
    IMPORTED_LOCATION "${_pioxide_prefix}/lib/libpioxide.a"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m"
    INTERFACE_INCLUDE_DIRECTORIES "${_pioxide_prefix}/include")
endif()

unset(_pioxide_prefix)
