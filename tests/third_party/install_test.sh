#!/usr/bin/env bash
# What third_party/install says and does on machines that lack something. Each case runs a copy of it in an empty clone, with
# a PATH that holds just the commands of an imagined machine. Usage: install_test.sh SOURCE_FOLDER
set -u
source_folder=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# machine NAME: an empty clone and a PATH of basic commands; stubs are added by `pretend`.
machine() {
  name=$1
  clone=$scratch/$name
  commands=$clone/commands
  mkdir -p "$clone/third_party" "$commands"
  cp "$source_folder/third_party/install" "$source_folder/third_party/requirements.txt" "$clone/third_party"
  local command
  for command in bash sh env cat comm cut date dirname flock grep ls mktemp rm sed sha256sum sort tail; do
    ln -s "$(command -v $command)" "$commands/$command"
  done
}

# pretend COMMAND BODY: COMMAND is a script of that body; every call of it is noted in calls.
pretend() {
  printf '#!/bin/bash\necho "%s $*" >>"%s"\n%s\n' "$1" "$clone/calls" "$2" >"$commands/$1"
  chmod +x "$commands/$1"
}

# install [NAME=value…]: runs the installer there; its words are in $said, its exit status in $status.
install() {
  said=$(env -i PATH="$commands" HOME="$clone" LC_ALL=C.UTF-8 "$@" bash "$clone/third_party/install" 2>&1 </dev/null)
  status=$?
}

expect() { # expect DESCRIPTION CONDITION…
  local description=$1
  shift
  if ! "$@"; then
    failures=$((failures + 1))
    printf 'FAILED %s: %s\n  status %s, said: %s\n  calls: %s\n' "$name" "$description" "$status" "$said" \
      "$(cat "$clone/calls" 2>/dev/null)"
  fi
}
says() { [[ $said == *"$1"* ]]; }
calls() { grep -q -e "$1" "$clone/calls" 2>/dev/null; }
not() { ! "$@"; }

# Prints that every package asked for is installed, but for those named.
all_packages_but() {
  echo "for package in \"\${@:3}\"; do [[ ' $* ' == *\" \$package \"* ]] || echo \"installed \$package\"; done"
}

machine neither_root_nor_sudo
pretend apt-get ''
pretend id 'echo 1000'
pretend dpkg-query "$(all_packages_but cmake libhwy-dev)"
install
expect "stops" [ $status -eq 1 ]
expect "says what an administrator should run" says "apt-get install cmake libhwy-dev"
expect "says why" says "neither root nor a user with sudo"
expect "installs nothing" not calls '^apt-get'

machine sudo_that_wants_a_password
pretend apt-get ''
pretend id 'echo 1000'
pretend sudo 'exit 1'
pretend dpkg-query "$(all_packages_but cmake)"
install
expect "stops instead of waiting for a password" [ $status -eq 1 ]
expect "installs nothing" not calls '^apt-get'

machine without_what_is_merely_welcome
pretend apt-get ''
pretend id 'echo 1000'
pretend dpkg-query "$(all_packages_but ccache mold)"
install HIPPODROME_TORCH=/nowhere
expect "goes on" says "going on without ccache mold"

machine root
pretend apt-get ''
pretend id 'echo 0'
pretend dpkg-query "$(all_packages_but cmake mold)"
install HIPPODROME_TORCH=/nowhere
expect "fetches the package lists" calls '^apt-get update'
expect "installs just what is missing" calls '^apt-get install .*=300 cmake mold$'
expect "names a LibTorch folder that is none" says "HIPPODROME_TORCH=/nowhere has no lib/libtorch_cpu.so"

expect "asks for no messages where they are there" not calls '^apt-get.*pidgin-data'

machine root_on_a_bare_system
pretend apt-get 'case "$*" in *libc-l10n*) echo "E: Unable to locate package libc-l10n"; exit 100 ;; esac'
pretend id 'echo 0'
pretend dpkg-query "$(all_packages_but cmake libc-l10n pidgin-data)"
install HIPPODROME_TORCH=/nowhere
expect "asks for what is needed first" calls '^apt-get install .*=300 cmake$'
expect "asks for messages one by one" calls '^apt-get install .*=300 libc-l10n$'
expect "goes on with the next where one is unknown" calls '^apt-get install .*=300 pidgin-data$'
expect "goes on to LibTorch" says "HIPPODROME_TORCH=/nowhere has no lib/libtorch_cpu.so"

machine root_without_messages_alone
pretend apt-get ''
pretend id 'echo 0'
pretend dpkg-query "$(all_packages_but libc-l10n)"
install HIPPODROME_TORCH=/nowhere
expect "does not call apt for messages alone" not calls '^apt-get'

machine root_and_apt_fails
pretend apt-get 'echo "E: no space left"; exit 100'
pretend id 'echo 0'
pretend dpkg-query "$(all_packages_but cmake)"
install
expect "stops" [ $status -eq 1 ]
expect "shows what apt said" says "E: no space left"
expect "names the step" says "could not finish installing cmake"

machine other_system
install
expect "stops" [ $status -eq 1 ]
expect "says what is missing" says "this is not Debian, and g++ cmake ninja git python3 is missing"
expect "says how else" says "CMAKE_PREFIX_PATH"

# From here on every package is there.
machine foreign_folder
pretend apt-get ''
pretend dpkg-query "$(all_packages_but)"
mkdir "$clone/.venv"
echo precious >"$clone/.venv/notes"
install
expect "stops" [ $status -eq 1 ]
expect "says what to do" says "is not a Python environment: move it away"
expect "deletes nothing" [ -f "$clone/.venv/notes" ]

# finished: a .venv as a finished installation leaves it, its Python a stub.
finished() {
  mkdir -p "$clone"/.venv/bin "$clone"/.venv/lib/python3.11/site-packages/{torch/lib,plotly/package_data}
  touch "$clone"/.venv/pyvenv.cfg "$clone"/.venv/lib/python3.11/site-packages/{torch/lib/libtorch_cpu.so,plotly/package_data/plotly.min.js}
  pretend python 'case "$*" in *"print"*) echo 3.11 ;; *pip\ install*) exit 1 ;; esac'
  mv "$commands/python" "$clone/.venv/bin/python"
  echo "$(sha256sum <"$clone/third_party/requirements.txt" | cut -d' ' -f1) full 3.11" >"$clone/.venv/installed"
}

machine nothing_to_do
pretend apt-get ''
pretend dpkg-query "$(all_packages_but)"
finished
install
expect "succeeds" [ $status -eq 0 ]
expect "calls neither apt nor pip" not calls 'apt-get\|pip'
echo "# one more" >>"$clone/third_party/requirements.txt"
install
expect "notices a change of the requirements" calls 'pip install'
expect "keeps the .venv when pip fails" [ -d "$clone/.venv/lib" ]
expect "leaves the mark of an unfinished installation" [ -e "$clone/.venv/installing" ]

if ((failures)); then
  echo "$failures expectations failed"
  exit 1
fi
echo "all expectations met"
