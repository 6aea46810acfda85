# Read by ctest (not by the configuration) once per test executable: asks the executable for its suites and registers one
# ctest entry per suite. One per test case, as gtest_discover_tests does, would start LibTorch for each case: 0.3 s a case.
#
# In: executable, folder (where tests run), environment (list of NAME=value), cmake (the command).
# Labels, from the suite's name: Slow… = slow; Gpu… = gpu, and unit as well where a GPU is present; all others = unit.
# The suites of a typed test (Suite/0, Suite/1, …) are one entry.

# The listing is kept beside the executable until that changes. An executable that is missing or does not start becomes a
# test that fails and shows why.
set(listing_file ${executable}.suites)
if(${executable} IS_NEWER_THAN ${listing_file})
  execute_process(COMMAND ${cmake} -E env ${environment} ${executable} --gtest_list_tests
    OUTPUT_VARIABLE listing ERROR_QUIET RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    get_filename_component(entry ${executable} NAME)
    add_test(${entry} ${executable} --gtest_list_tests)
    set_tests_properties(${entry} PROPERTIES LABELS "unit;slow;gpu" ENVIRONMENT "${environment}")
    return()
  endif()
  string(REGEX MATCHALL "(^|\n)[A-Za-z0-9_/]+\\." listing "${listing}")
  string(REGEX REPLACE "[\n.]" "" listing "${listing}")
  file(WRITE ${listing_file} "${listing}")
endif()
file(READ ${listing_file} suites)

set(entries "")
foreach(suite ${suites})
  string(REGEX REPLACE "/[0-9]+$" "" entry ${suite})
  list(APPEND entries ${entry})
  list(APPEND filter_of_${entry} "${suite}.*")
endforeach()
list(REMOVE_DUPLICATES entries)

foreach(entry ${entries})
  string(REPLACE ";" ":" filter "${filter_of_${entry}}")
  unset(filter_of_${entry})
  set(label unit)
  set(timeout 300)
  if(entry MATCHES "(^|/)Slow[^/]*$")
    set(label slow)
    set(timeout 3600)
  elseif(entry MATCHES "(^|/)Gpu[^/]*$")
    set(label gpu)
    if(EXISTS /dev/nvidia0)
      set(label "unit;gpu")
    endif()
  endif()
  add_test(${entry} ${executable} --gtest_filter=${filter} --gtest_brief=1)
  # Each test process runs two threads (tests/main.cpp); `ctest -j` takes that into account.
  set_tests_properties(${entry} PROPERTIES LABELS "${label}" TIMEOUT ${timeout} PROCESSORS 2
    WORKING_DIRECTORY ${folder} ENVIRONMENT "${environment}")
endforeach()
