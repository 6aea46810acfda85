# Sourced by tests that compare with Python packages.
#
# make_environment FOLDER PACKAGE… [-- PACKAGE…]: sets `python`, the interpreter of the environment FOLDER, made on first use and
# kept, with these packages; those behind -- come without what they need. Needs `source_folder`.
make_environment() {
  local folder=$1 wanted="${*:2}" with=() without=()
  shift
  while [[ $# -gt 0 && $1 != -- ]]; do with+=("$1"); shift; done
  [[ $# -gt 0 ]] && without=("${@:2}")
  python=$folder/bin/python
  # One installation at a time: the tests of two build folders share the environment.
  if command -v flock >/dev/null; then
    exec 9<"${BASH_SOURCE[0]}"
    flock 9
  fi
  # The last package set that installed completely; anything else starts over.
  if [[ $(cat "$folder/installed" 2>/dev/null) != "$wanted" ]]; then
    echo "installing $wanted into $folder"
    rm -rf "$folder"
    "$source_folder/.venv/bin/python" -I -m venv "$folder"
    { "$python" -I -m pip install --quiet --progress-bar off "${with[@]}" &&
      { [[ ${#without[@]} -eq 0 ]] || "$python" -I -m pip install --quiet --progress-bar off --no-deps "${without[@]}"; }; } ||
      { echo "FAILED: could not install $wanted into $folder; what pip says is above"; exit 1; }
    echo "$wanted" >"$folder/installed"
  fi
  exec 9<&-
}
