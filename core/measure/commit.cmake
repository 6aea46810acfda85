# Run at every build: writes hippodrome_commit.h when the commit or the dirty flag changed, so that result rows name the
# source that was compiled.
execute_process(COMMAND git rev-parse --short=12 HEAD WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
execute_process(COMMAND git status --porcelain --untracked-files=no WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE changes
                ERROR_QUIET)
if(NOT commit)
  set(commit "unknown")
endif()
if(changes)
  set(dirty true)
else()
  set(dirty false)
endif()
set(text "#pragma once\n\nnamespace hippodrome {\ninline constexpr char kSourceCommit[] = \"${commit}\";\ninline constexpr bool kSourceDirty = ${dirty};\ninline constexpr char kProjectVersion[] = \"${VERSION}\";\n}  // namespace hippodrome\n")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT "${before}" STREQUAL "${text}")
  file(WRITE ${OUTPUT} "${text}")
endif()
