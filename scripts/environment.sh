# Sourced by the scripts beside it: makes a virtual environment once, and again when what it is made from has changed.
# usage: make_environment FOLDER EXTRAS      (EXTRAS such as "" or "[test]"); sets $python to its interpreter

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "jaxtrain needs Python 3.11 or newer; none of these is: ${PYTHON:-python3 python3.13 python3.12 python3.11}." >&2
  echo "Install one, or name it: PYTHON=/path/to/python3.12 $0" >&2
  return 1
}

make_environment() {
  local folder=$1 extras=$2 base wanted
  base=$(find_python) || return 1
  python="$folder/bin/python"
  wanted="$("$base" --version) .$extras $(cat pyproject.toml constraints.txt | cksum)"
  if [ "$(cat "$folder/.complete" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  echo "making the environment ${folder##*/} (once; some minutes) ..." >&2
  rm -rf "$folder"
  "$base" -m venv "$folder" || { echo "python's venv module is missing; on Debian: apt install python3-venv" >&2; return 1; }
  # constraints.txt: the versions that the suite has passed on
  "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".$extras" >&2 || return 1
  echo "$wanted" > "$folder/.complete"
}
