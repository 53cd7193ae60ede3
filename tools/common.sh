# Shared by the scripts beside it: where the project is, what must be installed, how it is built.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

packages=(libopenblas-dev libprotobuf-c-dev protobuf-c-compiler libzstd-dev libturbojpeg0-dev libpng-dev libwebp-dev
  zlib1g-dev ninja-build dataset-fashion-mnist)
fashion=/usr/share/datasets/fashion-mnist

say() { printf '%s\n' "$*" >&2; }

# Installs the Debian packages that are missing, saying so first; does nothing where all are there.
need_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  say "installing the Debian packages that are missing: ${missing[*]}"
  "${sudo[@]}" apt-get update -q >&2
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
}

# SwiftPM would build all of vitc a second time for its own plugins, which other packages use.
export VITC_PLUGINS=${VITC_PLUGINS:-0}

# Where VITC_STRICT is set, a warning of the Swift compiler fails the build.
strict=()
[ -z "${VITC_STRICT:-}" ] || strict=(-Xswiftc -warnings-as-errors)

need_swift() {
  command -v swift >/dev/null || { say "error: no 'swift' found: install Swift 6.3 from https://swift.org/install"; exit 4; }
}

# Builds the release executable; its path is in $vitc.
build_release() {
  need_swift
  say "building vitc (release)"
  swift build -c release --product vitc --scratch-path .build/release "${strict[@]}" >&2
  vitc=$(swift build -c release --product vitc --scratch-path .build/release --show-bin-path)/vitc
}

# run_tests MODE [FLAG…]: builds and runs the tests in debug or release.
run_tests() {
  local mode=$1
  shift
  # Nothing is imported @testable, so that what is tested is what is built to be used, and built once.
  local flags=(-c "$mode" --scratch-path ".build/$mode" --disable-xctest --disable-testable-imports "${strict[@]}")
  # C without optimisation is many times slower; its checks are the sanitizers' business.
  if [ "$mode" = debug ]; then flags+=(-Xcc -O2); fi
  say "testing ($mode)"
  # A trap would leave a backtrace process behind that holds the test's files.
  SWIFT_BACKTRACE=enable=no swift test "${flags[@]}" "$@"
}
