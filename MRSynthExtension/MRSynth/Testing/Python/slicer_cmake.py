"""Stubs of what 3D Slicer's CMake package gives an extension, to configure ours without 3D Slicer.

They do nothing but check and note what they are given: keywords as the real macros declare them (3D Slicer 5.10 to
5.12), names, and files that have to exist. What would be packaged is copied to the folder that 3D Slicer packages.
"""

from __future__ import annotations

from pathlib import Path

CONFIG = """
get_property(_languages GLOBAL PROPERTY ENABLED_LANGUAGES)
foreach(_language C CXX)
  if(NOT _language IN_LIST _languages)
    message(FATAL_ERROR "3D Slicer's own dependencies need project() with ${_language}")
  endif()
endforeach()
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/CPack.cmake")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/qt-scripted-modules")
"""

USE = """
include(CTest)
set(EXTENSION_NAME ${PROJECT_NAME})

macro(_need_files _what)
  foreach(_file ${ARGN})
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${_file}" OR IS_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/${_file}")
      message(FATAL_ERROR "${_what}: there is no file '${_file}'")
    endif()
  endforeach()
endmacro()

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(M "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(M_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: unknown '${M_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT "${M_NAME}.py" IN_LIST M_SCRIPTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME '${M_NAME}' has no script of that name")
  endif()
  _need_files("SCRIPTS" ${M_SCRIPTS})
  _need_files("RESOURCES" ${M_RESOURCES})
  foreach(_file ${M_SCRIPTS} ${M_RESOURCES})
    configure_file("${_file}" "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${_file}" COPYONLY)
  endforeach()
  if(BUILD_TESTING AND M_WITH_GENERIC_TESTS)
    add_test(NAME py_nomainwindow_qSlicer${M_NAME}ModuleGenericTest COMMAND generic)
  endif()
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(T "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  if(T_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicer_add_python_unittest: unknown '${T_UNPARSED_ARGUMENTS}'")
  endif()
  _need_files("SCRIPT" "${T_SCRIPT}")
  get_filename_component(_name "${T_SCRIPT}" NAME_WE)
  add_test(NAME py_${T_TESTNAME_PREFIX}${_name} COMMAND unittest ${T_SCRIPT} ${T_SLICER_ARGS})
endmacro()
"""

GENERATE_CONFIG = """
file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}Config.cmake" "")
"""

CPACK = """
foreach(_file EXTENSION_README_FILE EXTENSION_LICENSE_FILE)
  if(NOT EXISTS "${${_file}}")
    message(FATAL_ERROR "${_file}: there is no '${${_file}}'")
  endif()
endforeach()
foreach(_key NAME HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${_key}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${_key} is empty")
  endif()
  file(APPEND "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext" "${_key} ${EXTENSION_${_key}}\\n")
endforeach()
"""

TOOLCHAIN = """
foreach(_language C CXX)
  set(CMAKE_${_language}_COMPILER "${CMAKE_COMMAND}")  # nothing is compiled, so that no compiler is needed
  set(CMAKE_${_language}_COMPILER_FORCED TRUE)
  set(CMAKE_${_language}_COMPILER_ID_RUN TRUE)
endforeach()
"""


def write(folder: Path) -> list[str]:
    """Write the stubs, and return the options that make CMake find them."""
    folder.mkdir()
    files = {
        "SlicerConfig.cmake": CONFIG,
        "UseSlicer.cmake": USE,
        "GenerateConfig.cmake": GENERATE_CONFIG,
        "CPack.cmake": CPACK,
        "toolchain.cmake": TOOLCHAIN,
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [f"-DSlicer_DIR={folder}", f"-DCMAKE_TOOLCHAIN_FILE={folder / 'toolchain.cmake'}"]
