# Puts the parts of the report page beside the program: <build>/share/hippodrome/report. Included by the top CMakeLists.
set(HIPPODROME_PLOTLY "" CACHE FILEPATH "plotly.min.js; empty: the one of the plotly package in .venv")
set(plotly_script ${HIPPODROME_PLOTLY})
if(NOT plotly_script)
  file(GLOB plotly_candidates ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/plotly/package_data/plotly.min.js)
  if(plotly_candidates)
    list(GET plotly_candidates 0 plotly_script)
  endif()
endif()
if(NOT plotly_script OR NOT EXISTS ${plotly_script})
  message(FATAL_ERROR "No plotly.min.js found: run third_party/install, or pass -DHIPPODROME_PLOTLY=<its path>")
endif()

file(GLOB report_parts CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/page/*)
set(report_folder ${PROJECT_BINARY_DIR}/share/hippodrome/report)
set(report_copies)
foreach(part ${report_parts} ${plotly_script})
  get_filename_component(name ${part} NAME)
  add_custom_command(OUTPUT ${report_folder}/${name} DEPENDS ${part} VERBATIM
    COMMAND ${CMAKE_COMMAND} -E make_directory ${report_folder}
    COMMAND ${CMAKE_COMMAND} -E copy ${part} ${report_folder}/${name})
  list(APPEND report_copies ${report_folder}/${name})
endforeach()
add_custom_target(report_assets ALL DEPENDS ${report_copies})
